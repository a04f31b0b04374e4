"""The nearest entry of a codebook, on chip: shared by both searches."""

import torch
import triton
import triton.language as tl

HALVES = (torch.float32, torch.float16, torch.bfloat16)


@triton.jit
def nearest_code(
    b_x,
    columns_ptr,
    squares_ptr,
    i_first,
    n_last,
    n_codes,
    D: tl.constexpr,
    ADD_SQUARES: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    CODES: tl.constexpr,
):
    """Score and index of the best of codes ``i_first .. n_last`` for each row of ``b_x`` [FRAMES, DIMS >= D].

    ``score = (2 x . e - |x|^2) - |e|^2``, in IEEE products; ADD_SQUARES adds the last; EUCLIDEAN takes the root of a
    distance, which makes more of them equal. The first of equals; index ``i_first`` where every score is NaN.
    """
    FRAMES: tl.constexpr = b_x.shape[0]
    DIMS: tl.constexpr = b_x.shape[1]
    o_dim, o_code = tl.arange(0, DIMS), tl.arange(0, CODES)
    b_square = tl.sum(b_x * b_x, 1)
    b_best = tl.full([FRAMES], float("-inf"), tl.float32)
    b_index = tl.zeros([FRAMES], tl.int32) + i_first
    for i_start in range(i_first, n_last, CODES):
        i_code = i_start + o_code
        m_code = i_code < n_last
        m_entry = m_code[None, :] & (o_dim < D)[:, None]
        b_codes = tl.load(columns_ptr + o_dim[:, None] * n_codes + i_code[None, :], mask=m_entry, other=0.0)
        b_added = tl.load(squares_ptr + i_code, mask=m_code, other=0.0)
        if not ADD_SQUARES:
            b_added = -b_added
        b_dot = tl.dot(b_x, b_codes, input_precision="ieee")
        b_score = (2.0 * b_dot - b_square[:, None]) + b_added[None, :]
        if EUCLIDEAN:
            b_score = -tl.sqrt_rn(tl.where(b_score > 0.0, 0.0, -b_score))
        b_score = tl.where(m_code[None, :], b_score, float("-inf"))
        b_top, i_top = tl.max(b_score, 1, return_indices=True, return_indices_tie_break_left=True)
        m_better = b_top > b_best
        b_index = tl.where(m_better, i_start + i_top, b_index)
        b_best = tl.where(m_better, b_top, b_best)
    return b_best, b_index
