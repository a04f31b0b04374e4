"""Attention with relative positions in a window (Dai et al., 2019; Gulati et al., 2020): ``attention.c``."""

import ctypes

import torch
from torch import Tensor

from silk_fast.cpu.checks import INTEGERS, address, check_dtype, check_shape, parameters, threads
from silk_fast.cpu.library import load


def rel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    u: Tensor,
    v_bias: Tensor,
    window: tuple[int | None, int | None] = (None, None),
    lengths: Tensor | None = None,
    starts: Tensor | None = None,
) -> Tensor:
    """Attend; chunks of queries, with the keys that they see, give the very bits of the whole.

    ``score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos_{i - j}) / sqrt(D)``

    Args:
        q: ``[B, H, Tq, D]``; the last query stands at the last key, so Tq <= Tk.
        k, v: ``[B, H, Tk, D]``, in the dtype of ``q``. Any strides; a dense last dimension spares a copy.
        pos: ``[H, R, D]``, projected position of each distance ``i - j``: row r holds distance ``r - right``, so
            ``R = left + right + 1``. An extent of None in ``window`` counts as ``Tk - 1``.
        u, v_bias: ``[H, D]``, content and position biases.
        window: keys to the left and to the right that a query sees; None for all.
        lengths: int ``[B]``, keys per sample; None for all.
        starts: int ``[B]``, first key per sample; None for 0.

    Returns:
        ``[B, H, Tq, D]``, laid out so that ``transpose(1, 2).flatten(2)`` copies nothing; zeros for a query that sees
        no key.
    """
    check_dtype("q", q)
    dtype = q.dtype
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.ndim != 4:
            raise ValueError(f"{name} must be [B, H, T, D], got {list(tensor.shape)}")
    n_batch, n_heads, n_queries, n_dims = q.shape
    n_keys = k.shape[2]
    shape = (n_batch, n_heads, n_keys, n_dims)
    q, k, v = _frames("q", q, q.shape, dtype), _frames("k", k, shape, dtype), _frames("v", v, shape, dtype)
    if n_queries > n_keys:
        raise ValueError(f"q must have at most as many frames as k, {n_keys}, got {n_queries}")
    left, right = (n_keys - 1 if extent is None else extent for extent in window)
    if n_keys and (left < 0 or right < 0):
        raise ValueError(f"window must not be negative, got {window}")
    pos = parameters("pos", pos, n_heads, left + right + 1, n_dims)
    u, v_bias = parameters("u", u, n_heads, n_dims), parameters("v_bias", v_bias, n_heads, n_dims)
    lengths, starts = _counts("lengths", lengths, n_batch), _counts("starts", starts, n_batch)
    y = q.new_empty((n_batch, n_queries, n_heads, n_dims))
    if y.numel():
        n_units, library = n_batch * n_heads, load()
        memory = q.new_empty(n_units * library.silk_attention_memory(n_keys, n_dims, left + right + 1))
        strides = (ctypes.c_int64 * 9)(*q.stride()[:3], *k.stride()[:3], *v.stride()[:3])
        library.silk_rel_attention(
            *(q.data_ptr(), k.data_ptr(), v.data_ptr(), pos.data_ptr(), u.data_ptr(), v_bias.data_ptr()),
            *(address(lengths), address(starts), y.data_ptr(), memory.data_ptr(), strides),
            *(n_batch, n_heads, n_queries, n_keys, n_dims, left, right, threads(y.numel() * min(left + right, n_keys))),
        )
    return y.to(dtype).transpose(1, 2)


def _frames(name: str, x: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Check frames of heads; give them in float32 with a dense last dimension."""
    if x.dtype is not dtype:
        raise TypeError(f"{name} must be {dtype} as q, got {x.dtype}")
    check_dtype(name, x)
    check_shape(name, x, shape)
    return x.float() if x.stride(3) == 1 else x.float().contiguous()


def _counts(name: str, counts: Tensor | None, n_batch: int) -> Tensor | None:
    if counts is None:
        return None
    check_dtype(name, counts, INTEGERS)
    check_shape(name, counts, (n_batch,))
    return counts.long().contiguous()
