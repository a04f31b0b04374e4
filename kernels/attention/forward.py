"""Relative-position attention, forward: the kernel of both schemes.

Softmax is online (Milakov and Gimelshein, 2018; FlashAttention, Dao et al., 2022): neither scores nor shifted
positions reach memory. Positions cost one matrix product per tile of keys, with N consecutive rows of ``pos``, whose
entries are then rotated into place by ``tl.gather`` within the row: one warp shuffle an element for N = 32. Half of the
band under a tile is the other half of the tile before, so it is carried along (docs/kernels.md shows why).
"""

import triton
import triton.language as tl

from .._math import LOG2_E, fma
from .tile import (
    biased,
    key_range,
    load_band,
    load_rows,
    load_vector,
    product,
    product_of_rows,
    scores,
    store_rows,
    visible,
    visible_keys,
)


@triton.jit
def _attention_fwd_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    pos_ptr,
    u_ptr,
    v_bias_ptr,
    lengths_ptr,
    starts_ptr,
    out_ptr,
    lse_ptr,
    stride_q_b,
    stride_q_h,
    stride_q_t,
    stride_k_b,
    stride_k_h,
    stride_k_t,
    stride_v_b,
    stride_v_h,
    stride_v_t,
    stride_pos_h,
    stride_pos_r,
    n_heads,
    n_queries,
    n_keys,
    left,
    right,
    CLIPPED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SCALE: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    n_tiles = tl.cdiv(n_queries, BLOCK_M)
    i_pair = (tl.program_id(0) // n_tiles).to(tl.int64)
    i_query = (tl.program_id(0) % n_tiles) * BLOCK_M
    i_batch, i_head = i_pair // n_heads, i_pair % n_heads
    q_ptr += i_batch * stride_q_b + i_head * stride_q_h
    k_ptr += i_batch * stride_k_b + i_head * stride_k_h
    v_ptr += i_batch * stride_v_b + i_head * stride_v_h
    out_ptr += (i_batch * n_queries * n_heads + i_head) * HEAD_DIM
    pos_ptr += i_head * stride_pos_h

    o_m, o_n = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    o_query = i_query + o_m
    b_q = load_rows(q_ptr, o_query, o_query < n_queries, stride_q_t, HEAD_DIM, BLOCK_D)
    b_qc = biased(b_q, u_ptr, i_head, CLIPPED, HEAD_DIM, COMPUTE)
    b_qp = biased(b_q, v_bias_ptr, i_head, CLIPPED, HEAD_DIM, COMPUTE)
    b_x_before = tl.zeros([BLOCK_M, BLOCK_N], COMPUTE)
    if CLIPPED:
        b_last_row = load_vector(pos_ptr + (left + right) * stride_pos_r, HEAD_DIM, BLOCK_D, COMPUTE)
        b_far_left = tl.sum(b_q.to(COMPUTE) * load_vector(pos_ptr, HEAD_DIM, BLOCK_D, COMPUTE)[None, :], 1)
        b_far_right = tl.sum(b_q.to(COMPUTE) * b_last_row[None, :], 1)
        b_x_before += b_far_left[:, None]
    b_y_before = b_x_before

    i_position = i_query + n_keys - n_queries
    first, end = key_range(i_batch, n_keys, lengths_ptr, starts_ptr)
    first, end = visible_keys(i_position, BLOCK_M, first, end, left, right, CLIPPED)
    m_behind = (o_m >= BLOCK_N)[:, None]
    m_own = (o_m % BLOCK_N)[:, None] + o_n[None, :] < BLOCK_N
    i_rotated = (o_n[None, :] - o_m[:, None]) & (BLOCK_N - 1)
    base = i_position - first
    n_before = tl.where(base < left, tl.cdiv(BLOCK_M, BLOCK_N), 0)  # tiles before the first that matter
    for i_before in tl.range(n_before, 0, -1, num_stages=1):
        b_band = load_band(
            pos_ptr, base + i_before * BLOCK_N, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK_N, BLOCK_D
        )
        b_x = product_of_rows(b_qp, b_band)
        b_y_before = tl.where(m_behind, b_x_before, b_x)
        b_x_before = b_x

    b_out = tl.zeros([BLOCK_M, BLOCK_D], COMPUTE)
    b_max = tl.full([BLOCK_M], float("-inf"), COMPUTE)
    b_sum = tl.zeros([BLOCK_M], COMPUTE)
    for i_key in tl.range(first, end, BLOCK_N):
        o_key = i_key + o_n
        b_k = load_rows(k_ptr, o_key, o_key < end, stride_k_t, HEAD_DIM, BLOCK_D)
        base = i_position - i_key
        if CLIPPED and (base - BLOCK_N + 1 >= left or base <= -right):
            b_x = tl.where(base > 0, b_far_left, b_far_right)[:, None] + tl.zeros([BLOCK_M, BLOCK_N], COMPUTE)
        else:
            b_band = load_band(pos_ptr, base, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK_N, BLOCK_D)
            b_x = product_of_rows(b_qp, b_band)
        b_y = tl.where(m_behind, b_x_before, b_x)
        b_score = scores(b_qc, b_k, tl.gather(tl.where(m_own, b_y, b_y_before), i_rotated, 1))
        b_x_before, b_y_before = b_x, b_y
        mask = visible(i_position + o_m, o_key, first, end, left, right, CLIPPED)
        b_score = tl.where(mask, b_score, float("-inf"))
        b_max_new = tl.maximum(b_max, tl.max(b_score, 1))
        b_shift = tl.where(b_max_new == float("-inf"), 0.0, b_max_new)  # no key seen yet
        b_decay = tl.exp2((b_max - b_shift) * (SCALE * LOG2_E))
        b_p = tl.exp2((b_score - b_shift[:, None]) * (SCALE * LOG2_E))
        b_v = load_rows(v_ptr, o_key, o_key < end, stride_v_t, HEAD_DIM, BLOCK_D)
        b_out = b_out * b_decay[:, None] + product(b_p.to(b_v.dtype), b_v)
        b_sum = fma(b_sum, b_decay, tl.sum(b_p, 1))
        b_max = b_max_new

    b_total = tl.where(b_sum == 0, 1.0, b_sum)
    store_rows(out_ptr, b_out / b_total[:, None], o_query, o_query < n_queries, n_heads * HEAD_DIM, HEAD_DIM)
    b_lse = fma(b_max, tl.full([], SCALE * LOG2_E, COMPUTE), tl.log2(b_total))
    b_lse = tl.where(b_sum == 0, float("inf"), b_lse)  # exp2(score - lse) is 0
    tl.store(lse_ptr + i_pair * n_queries + o_query, b_lse, mask=o_query < n_queries)
