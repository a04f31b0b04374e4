"""Sum of the entries that indices name: one gather for all stages.

Memory-bound: an index of 8 bytes and an entry of 4 D read a stage and frame, 4 D written a frame. Stages are added in
their order, from the first, so that bits are those of a sum stage by stage.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import AS_WRITTEN, INTEGERS, check_dtype, define_op, on_device
from .search import HALVES


@triton.jit
def _rvq_decode_kernel(
    indices_ptr,
    codebooks_ptr,
    y_ptr,
    n_batch,
    n_time,
    n_stages,
    n_codes,
    D: tl.constexpr,
    FRAMES: tl.constexpr,
    DIMS: tl.constexpr,
):
    i_frame = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    o_dim = tl.arange(0, DIMS)
    m_frame = i_frame < n_batch * n_time
    m_y = m_frame[:, None] & (o_dim < D)[None, :]
    o_index = i_frame // n_time * n_stages * n_time + i_frame % n_time
    b_y = tl.zeros([FRAMES, DIMS], tl.float32)
    for i_stage in range(n_stages):
        b_index = tl.load(indices_ptr + o_index + i_stage * n_time, mask=m_frame, other=0)
        b_index = tl.minimum(tl.maximum(b_index, 0), n_codes - 1).to(tl.int64) + i_stage * n_codes
        b_y += tl.load(codebooks_ptr + b_index[:, None] * D + o_dim[None, :], mask=m_y, other=0.0).to(tl.float32)
    tl.store(y_ptr + i_frame[:, None] * D + o_dim[None, :], b_y.to(y_ptr.dtype.element_ty), mask=m_y)


@define_op("rvq_decode")
def _rvq_decode(indices: Tensor, codebooks: Tensor) -> Tensor:
    _check(indices, codebooks)
    n_batch, n_stages, n_time = indices.shape
    n_dims = codebooks.shape[2]
    y = torch.empty(n_batch, n_time, n_dims, dtype=codebooks.dtype, device=codebooks.device)
    if y.numel():
        dims = triton.next_power_of_2(n_dims)
        frames = max(1, 1024 // dims)
        with on_device("indices", indices):
            _rvq_decode_kernel[(triton.cdiv(n_batch * n_time, frames),)](
                indices.contiguous(),
                codebooks.contiguous(),
                y,
                n_batch,
                n_time,
                n_stages,
                codebooks.shape[1],
                D=n_dims,
                FRAMES=frames,
                DIMS=dims,
                num_warps=4,
                **AS_WRITTEN,
            )
    return y


def _check(indices: Tensor, codebooks: Tensor) -> None:
    check_dtype("indices", indices, INTEGERS)
    check_dtype("codebooks", codebooks, HALVES)
    if codebooks.ndim != 3 or codebooks.shape[1] < 1:
        raise ValueError(f"codebooks must be [Q, K, D] with K >= 1, got {list(codebooks.shape)}")
    if indices.ndim != 3 or indices.shape[1] > codebooks.shape[0]:
        raise ValueError(f"indices must be [B, Q, T] with Q at most {codebooks.shape[0]}, got {list(indices.shape)}")
    if indices.device != codebooks.device:
        raise ValueError(f"codebooks must be on {indices.device} as indices, got a tensor on {codebooks.device}")


@_rvq_decode.register_fake
def _(indices, codebooks):
    return codebooks.new_empty(indices.shape[0], indices.shape[2], codebooks.shape[2])


def rvq_decode(indices: Tensor, codebooks: Tensor) -> Tensor:
    """Add up the entries that ``indices`` name, in the order of the stages, in float32. Not differentiable.

    An index out of range cannot be refused here without waiting for the device; it is moved into the range.

    Args:
        indices: int32 or int64 ``[B, Q, T]``; copied first if not contiguous.
        codebooks: ``[Q or more, K, D]``; float32, float16 or bfloat16.

    Returns:
        ``[B, T, D]`` in the dtype of ``codebooks``; zeros for no stage.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.
    """
    return _rvq_decode(indices, codebooks)
