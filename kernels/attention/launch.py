"""Launches of attention: checks, tiles, allocation, grids.

``pos`` is ``[H, R, D]`` or, clipped, ``[R, D]``; ``biases`` are u and v_bias ``[H, D]`` or, clipped, None.
"""

import torch
import triton
from torch import Tensor

from .._launch import AS_WRITTEN, INTEGERS, check_dtype, check_operand, compute_dtype, contiguous, on_device, wide_dtype
from .backward import _attention_bwd_dkv_kernel, _attention_bwd_dpos_kernel, _attention_bwd_dq_kernel
from .forward import _attention_fwd_kernel

MAX_HEAD_DIM = 128
DPOS_PROGRAMS = 1024  # the sums of dpos are split until about so many programs share them

Biases = tuple[Tensor | None, Tensor | None]


def tiles(head_dim: int, dtype: torch.dtype, backward: bool = False) -> dict[str, int]:
    """Choose tile sizes and warps: what fits the registers of every card without spilling (`bench.static`)."""
    block_d = max(16, triton.next_power_of_2(head_dim))
    if dtype.itemsize > 2:  # with no limit stated, the assembler spills a few bytes for occupancy that memory forbids
        warps = block_d // 16 if backward or block_d < 64 else block_d // 32
        return {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_D": block_d, "num_warps": warps, "maxnreg": 255}
    block_m = 64 if block_d == 64 else 32
    warps = 8 if block_d >= 128 else 4 if block_d == 64 else 2
    return {"BLOCK_M": block_m, "BLOCK_N": 32, "BLOCK_D": block_d, "num_warps": warps}


def empty_heads(x: Tensor) -> Tensor:
    """Allocate the shape of ``x`` ``[B, H, T, D]``, laid out ``[B, T, H, D]``: joining the heads is a view."""
    n_batch, n_heads, n_rows, head_dim = x.shape
    return torch.empty((n_batch, n_rows, n_heads, head_dim), dtype=x.dtype, device=x.device).transpose(1, 2)


def empty_lse(q: Tensor) -> Tensor:
    """Allocate ``[B, H, Tq]`` in the dtype of computation."""
    return torch.empty(q.shape[:3], dtype=wide_dtype(q.dtype), device=q.device)


def _rows(x: Tensor) -> Tensor:
    """Give ``x`` a dense last dimension, as the kernels need it."""
    return x if x.stride(-1) == 1 else x.contiguous()


def check_heads(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, starts: Tensor | None = None) -> None:
    """Raise ValueError or TypeError unless these are attention heads of one dtype and device."""
    if q.ndim != 4 or not 1 <= q.shape[3] <= MAX_HEAD_DIM:
        raise ValueError(f"q must be [B, H, T, D] with D in 1 .. {MAX_HEAD_DIM}, got {list(q.shape)}")
    check_dtype("q", q)
    n_batch, n_heads, n_queries, head_dim = q.shape
    n_keys = k.shape[2] if k.ndim == 4 else n_queries
    check_operand("k", k, (n_batch, n_heads, n_keys, head_dim), q, "q", dtypes=None)
    check_operand("v", v, k.shape, q, "q", dtypes=None)
    if n_queries > n_keys:
        raise ValueError(f"q must have no more rows than k, which has {n_keys}, got {n_queries}")
    for name, x in (("lengths", lengths), ("starts", starts)):
        if x is not None:
            check_operand(name, x, (n_batch,), q, "q", INTEGERS)


def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    biases: Biases,
    left: int,
    right: int,
    clipped: bool,
    lengths: Tensor | None,
    starts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the output ``[B, H, Tq, D]`` and the base-2 log-sum-exp ``[B, H, Tq]``."""
    q, k, v, pos = _rows(q), _rows(k), _rows(v), _rows(pos)
    out, lse = empty_heads(q), empty_lse(q)
    if not out.numel():
        return out, lse
    n_batch, n_heads, n_queries, head_dim = q.shape
    options = tiles(head_dim, q.dtype)
    grid = (n_batch * n_heads * triton.cdiv(n_queries, options["BLOCK_M"]),)
    with on_device("q", q):
        _attention_fwd_kernel[grid](
            q,
            k,
            v,
            pos,
            *map(contiguous, (*biases, lengths, starts)),
            out,
            lse,
            *q.stride()[:3],
            *k.stride()[:3],
            *v.stride()[:3],
            0 if clipped else pos.stride(0),
            pos.stride(-2),
            n_heads,
            n_queries,
            k.shape[2],
            left,
            right,
            CLIPPED=clipped,
            HEAD_DIM=head_dim,
            SCALE=head_dim**-0.5,
            COMPUTE=compute_dtype(q.dtype),
            **options,
            num_stages=2,
            **AS_WRITTEN,
        )
    return out, lse


def _biased(q: Tensor, bias: Tensor | None, wide: torch.dtype) -> Tensor:
    """Add ``q + bias`` as the forward pass rounds it; ``bias`` is ``[H, D]``."""
    if bias is None:
        return q
    limit = torch.finfo(q.dtype).max
    return (q.to(wide) + bias[:, None].to(wide)).clamp(-limit, limit).to(q.dtype)


def attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    biases: Biases,
    left: int,
    right: int,
    clipped: bool,
    lengths: Tensor | None,
    starts: Tensor | None,
    out: Tensor,
    lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return dq, dk, dv; dpos ``[H, R, D]``; du and dv_bias ``[H, D]`` or, clipped, dpos of the first and last row."""
    dout, q, k, v, pos = (_rows(x) for x in (dout, q, k, v, pos))
    lengths, starts = contiguous(lengths), contiguous(starts)
    n_batch, n_heads, n_queries, head_dim = q.shape
    n_keys, n_rows = k.shape[2], pos.shape[-2]
    dq, dk, dv = empty_heads(q), empty_heads(k), empty_heads(v)
    if not q.numel():
        du, dv_bias = lse.new_zeros(n_heads, head_dim), lse.new_zeros(n_heads, head_dim)
        return dq, dk.zero_(), dv.zero_(), lse.new_zeros(n_heads, n_rows, head_dim), du, dv_bias
    options = tiles(head_dim, q.dtype, backward=True)
    block = options.pop("BLOCK_N")
    del options["BLOCK_M"]
    n_query_tiles, n_key_tiles = triton.cdiv(n_queries, block), triton.cdiv(n_keys, block)
    n_diagonals = triton.cdiv(n_rows, block) + 1
    n_splits = max(1, min(n_batch * n_query_tiles, DPOS_PROGRAMS // (n_heads * n_diagonals)))
    delta = torch.empty_like(lse)
    sums = torch.empty((2, n_batch, n_heads, n_query_tiles, head_dim), dtype=lse.dtype, device=q.device)
    dpos = torch.empty((2, n_splits, n_heads, n_rows, head_dim), dtype=lse.dtype, device=q.device)
    qc, qp = (_biased(q, bias, lse.dtype) for bias in biases)
    tensors = (dout, qc, qp, k, v, pos, lengths, starts)
    strides = [stride for x in (dout, qc, k, v) for stride in x.stride()[:3]]
    strides += [0 if clipped else pos.stride(0), pos.stride(-2)]
    constants = {"CLIPPED": clipped, "HEAD_DIM": head_dim, "SCALE": head_dim**-0.5, "BLOCK": block, **options}
    constants |= {"COMPUTE": compute_dtype(q.dtype), **AS_WRITTEN}
    with on_device("q", q):
        _attention_bwd_dq_kernel[(n_batch * n_heads * n_query_tiles,)](
            *tensors,
            out,
            lse,
            dq,
            delta,
            sums,
            *strides,
            *out.stride()[:3],
            n_batch * n_heads,
            n_heads,
            n_queries,
            n_keys,
            left,
            right,
            **constants,
        )
        _attention_bwd_dkv_kernel[(n_batch * n_heads * n_key_tiles,)](
            *tensors, lse, delta, dk, dv, *strides, n_heads, n_queries, n_keys, left, right, **constants
        )
        _attention_bwd_dpos_kernel[(n_splits * n_heads * n_diagonals,)](
            *tensors,
            lse,
            delta,
            dpos,
            *strides,
            n_batch,
            n_heads,
            n_queries,
            n_keys,
            left,
            right,
            n_diagonals,
            n_splits,
            **constants,
        )
    return dq, dk, dv, dpos.sum((0, 1)), sums[0].sum((0, 2)), sums[1].sum((0, 2))
