"""Straight-through FSQ codes for training.

``code = round(bound(z)) / (L // 2)``; backward ``dz = dcode * half / (L // 2) * (1 - tanh(z + shift)^2)``, the round
taken as the identity. Memory-bound: 2 accesses per element forward, 3 backward.
"""

from typing import Sequence  # noqa: UP035 - torch 2.6 knows no other in the schema of an op

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import check_dtype, define_op
from .bound import frame_tile, periodic, round_bound, squash
from .launch import as_frames, check_frames, checked_levels, launch, period


@triton.jit
def _fsq_quantize_fwd_kernel(
    z_ptr,
    codes_ptr,
    n_frames,
    stride_b,
    stride_f,
    stride_d,
    LEVELS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    FRAMES: tl.constexpr,
    DIMS: tl.constexpr,
):
    _, _, i_dim, o_z, m_z = frame_tile(n_frames, stride_b, stride_f, stride_d, D, ROWS, FRAMES, DIMS)
    b_level = periodic(i_dim, LEVELS)
    b_rounded = round_bound(tl.load(z_ptr + o_z, mask=m_z, other=0.0).to(tl.float32), b_level)
    b_half_width = tl.broadcast_to((b_level // 2).to(tl.float32)[None, :], FRAMES, DIMS)
    tl.store(codes_ptr + o_z, tl.div_rn(b_rounded, b_half_width), mask=m_z)


@triton.jit
def _fsq_quantize_bwd_kernel(
    dcodes_ptr,
    z_ptr,
    dz_ptr,
    n_frames,
    stride_b,
    stride_f,
    stride_d,
    LEVELS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    FRAMES: tl.constexpr,
    DIMS: tl.constexpr,
):
    _, _, i_dim, o_z, m_z = frame_tile(n_frames, stride_b, stride_f, stride_d, D, ROWS, FRAMES, DIMS)
    b_level = periodic(i_dim, LEVELS)
    b_tanh, b_half, _ = squash(tl.load(z_ptr + o_z, mask=m_z, other=0.0).to(tl.float32), b_level)
    b_slope = tl.div_rn(b_half, (b_level // 2).to(tl.float32)[None, :])  # of the code by tanh
    b_dz = tl.load(dcodes_ptr + o_z, mask=m_z, other=0.0).to(tl.float32) * b_slope * (1.0 - b_tanh * b_tanh)
    tl.store(dz_ptr + o_z, b_dz.to(dz_ptr.dtype.element_ty), mask=m_z)


@define_op("fsq_quantize")
def _fsq_quantize(z: Tensor, levels: Sequence[int], dim: int) -> Tensor:
    check_dtype("z", z)
    check_frames("z", z, dim, dim, len(levels))
    z = z.contiguous()
    codes = torch.empty_like(z, dtype=torch.float32)
    launch(_fsq_quantize_fwd_kernel, "z", (z, codes), as_frames(z, dim), LEVELS=period(levels))
    return codes


@define_op("fsq_quantize_backward")
def _fsq_quantize_backward(dcodes: Tensor, z: Tensor, levels: Sequence[int], dim: int) -> Tensor:
    z = z.contiguous()
    dz = torch.empty_like(z)
    launch(_fsq_quantize_bwd_kernel, "z", (dcodes.contiguous(), z, dz), as_frames(z, dim), LEVELS=period(levels))
    return dz


@_fsq_quantize.register_fake
def _(z, levels, dim):
    return torch.empty_like(z, dtype=torch.float32, memory_format=torch.contiguous_format)


@_fsq_quantize_backward.register_fake
def _(dcodes, z, levels, dim):
    return torch.empty_like(z, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output):
    z, ctx.levels, ctx.dim = inputs
    ctx.save_for_backward(z)


def _backward(ctx, dcodes: Tensor):
    (z,) = ctx.saved_tensors
    return _fsq_quantize_backward(dcodes, z, ctx.levels, ctx.dim), None, None


_fsq_quantize.register_autograd(_backward, setup_context=_setup_context)


def fsq_quantize(z: Tensor, levels: Sequence[int], dim: int = -1) -> Tensor:
    """Quantise to codes ``(digit - L // 2) / (L // 2)``, with the gradient of the bound (straight-through).

    Args:
        z: ``[..., D]``, or ``[B, D, F]`` with ``dim=1``; any floating dtype; copied first if not contiguous.
        levels: D level counts, each an integer of 2 to 2^22.
        dim: the dimension of ``z`` that holds D: -1, or 1.

    Returns:
        float32 in the shape of ``z``, contiguous; for L = 8 in ``[-1, 0.75]``; NaN where ``z`` is.

    Raises:
        ValueError: a level below 2, or a shape that does not fit.
        TypeError: ``z`` is not floating-point, or a level no integer.
    """
    return _fsq_quantize(z, checked_levels(levels), dim)
