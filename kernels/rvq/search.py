"""The nearest entry of a codebook, on chip: shared by both searches."""

import torch
import triton
import triton.language as tl

from .._math import fma

HALVES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def products(b_parts, columns_ptr, i_code, m_code, n_codes):
    """``x . e`` [FRAMES, CODES] of the coordinates of x, a tuple of [FRAMES, 1], and of codes [1, CODES]."""
    b_dot = tl.zeros([b_parts[0].shape[0], i_code.shape[1]], tl.float32)
    for i in tl.static_range(len(b_parts)):
        b_dot = fma(b_parts[i], tl.load(columns_ptr + i * n_codes + i_code, mask=m_code, other=0.0), b_dot)
    return b_dot


@triton.jit
def nearest_code(
    b_x,
    b_square,
    columns_ptr,
    squares_ptr,
    i_first,
    n_last,
    n_codes,
    D: tl.constexpr,
    ADD_SQUARES: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    CODES: tl.constexpr,
    IN_REGISTERS: tl.constexpr,
):
    """Score and index of the best of codes ``i_first .. n_last`` for each x.

    ``score = (2 x . e - |x|^2) - |e|^2``, in IEEE products; ADD_SQUARES adds the last; EUCLIDEAN takes the root of a
    distance, which makes more of them equal. The first of equals; index ``i_first`` where every score is NaN.

    Args:
        b_x: [FRAMES, DIMS >= D] or, IN_REGISTERS, a tuple of D coordinates [FRAMES, 1].
        b_square: ``|x|^2`` [FRAMES, 1].
    """
    o_code = tl.arange(0, CODES)[None, :]
    b_best = tl.full([b_square.shape[0], CODES], float("-inf"), tl.float32)
    b_index = tl.zeros([b_square.shape[0], CODES], tl.int32) + i_first
    for i_start in range(i_first, n_last, CODES):
        i_code = i_start + o_code
        m_code = i_code < n_last
        if IN_REGISTERS:
            b_dot = products(b_x, columns_ptr, i_code, m_code, n_codes)
        else:
            o_dim = tl.arange(0, b_x.shape[1])[:, None]
            b_codes = tl.load(columns_ptr + o_dim * n_codes + i_code, mask=m_code & (o_dim < D), other=0.0)
            b_dot = tl.dot(b_x, b_codes, input_precision="ieee")
        b_added = tl.load(squares_ptr + i_code, mask=m_code, other=0.0)
        if not ADD_SQUARES:
            b_added = -b_added
        b_score = (2.0 * b_dot - b_square) + b_added
        if EUCLIDEAN:
            b_score = -tl.sqrt_rn(tl.where(b_score > 0.0, 0.0, -b_score))
        m_better = m_code & (b_score > b_best)
        b_index = tl.where(m_better, i_code, b_index)
        b_best = tl.where(m_better, b_score, b_best)
    b_top = tl.max(b_best, 1)
    return b_top, tl.min(tl.where(b_best == b_top[:, None], b_index, 2147483647), 1)
