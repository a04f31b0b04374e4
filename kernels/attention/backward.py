"""Relative-position attention, backward: three kernels, in each of which one program owns what it writes.

With p the weights, recomputed from the saved log-sum-exp, and ``delta_i = dout_i . out_i``:

    dv_j = sum_i p_ij dout_i
    ds_ij = p_ij (dout_i . v_j - delta_i) / sqrt(D)
    dk_j = sum_i ds_ij (q_i + u)
    dq_i = sum_j ds_ij (k_j + pos[row(i - j)])        du, dv_bias: the two parts of dq summed over i
    dpos[r] = sum of ds_ij (q_i + v_bias) where row(i - j) = r

No atomics, the same bits each time. dq goes over tiles of queries, dk and dv over tiles of keys, dpos over diagonals of
tiles, where all queries of all samples at the same distances meet. The end rows of the clipped scheme gather half
planes: the dq kernel sums those, where it would sum du and dv_bias.
"""

import triton
import triton.language as tl

from .._math import LOG2_E, fma, saturate
from .tile import (
    key_range,
    load_band,
    load_rows,
    product,
    product_of_rows,
    scores,
    store_rows,
    table_row,
    visible,
    visible_keys,
)


@triton.jit
def _own_half(BLOCK: tl.constexpr):
    """Mask [N, N]: entry (i, m) of the skewed tile belongs to the half ``base - m`` of the band, else to the other."""
    return tl.arange(0, BLOCK)[:, None] + tl.arange(0, BLOCK)[None, :] < BLOCK


@triton.jit
def _weights_and_gradients(b_qc, b_qp, b_k, b_v, b_own, b_before, b_dout, b_lse, b_delta, mask, SCALE: tl.constexpr):
    """Weights p of a tile and gradients ds of its products, [N, N] both, 0 where masked."""
    BLOCK: tl.constexpr = b_k.shape[0]
    o_n = tl.arange(0, BLOCK)
    b_x = product_of_rows(b_qp, b_own)
    b_x = tl.where(_own_half(BLOCK), b_x, product_of_rows(b_qp, b_before))
    b_score = scores(b_qc, b_k, tl.gather(b_x, (o_n[None, :] - o_n[:, None]) & (BLOCK - 1), 1))
    b_log_p = fma(b_score, tl.full([], SCALE * LOG2_E, b_score.dtype), -b_lse[:, None])
    b_log_p = tl.minimum(b_log_p, 0.0, propagate_nan=tl.PropagateNan.ALL)  # rounding of huge scores may exceed 0
    b_p = tl.where(mask, tl.exp2(b_log_p), 0.0)
    b_dp = product_of_rows(b_dout, b_v)
    return b_p, b_p * (b_dp - b_delta[:, None]) * SCALE


@triton.jit
def _skew(b_ds):
    """The gradients of a tile under the rows of its band that they used: for its own half, and for the one before."""
    BLOCK: tl.constexpr = b_ds.shape[0]
    o_n = tl.arange(0, BLOCK)
    b_skewed = tl.gather(b_ds, (o_n[None, :] + o_n[:, None]) & (BLOCK - 1), 1)
    return tl.where(_own_half(BLOCK), b_skewed, 0.0), tl.where(_own_half(BLOCK), 0.0, b_skewed)


@triton.jit
def _attention_bwd_dq_kernel(
    dout_ptr,
    qc_ptr,
    qp_ptr,
    k_ptr,
    v_ptr,
    pos_ptr,
    lengths_ptr,
    starts_ptr,
    out_ptr,
    lse_ptr,
    dq_ptr,
    delta_ptr,
    sums_ptr,
    stride_dout_b,
    stride_dout_h,
    stride_dout_t,
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
    stride_out_b,
    stride_out_h,
    stride_out_t,
    n_pairs,
    n_heads,
    n_queries,
    n_keys,
    left,
    right,
    CLIPPED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SCALE: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """dq; delta ``[pairs, Tq]``; and per tile ``sums [2, pairs, tiles, D]``: of du and dv_bias, or of the end rows."""
    n_tiles = tl.cdiv(n_queries, BLOCK)
    i_pair = (tl.program_id(0) // n_tiles).to(tl.int64)
    i_tile = tl.program_id(0) % n_tiles
    i_batch, i_head = i_pair // n_heads, i_pair % n_heads
    dout_ptr += i_batch * stride_dout_b + i_head * stride_dout_h
    out_ptr += i_batch * stride_out_b + i_head * stride_out_h
    qc_ptr += i_batch * stride_q_b + i_head * stride_q_h
    qp_ptr += i_batch * stride_q_b + i_head * stride_q_h
    k_ptr += i_batch * stride_k_b + i_head * stride_k_h
    v_ptr += i_batch * stride_v_b + i_head * stride_v_h
    pos_ptr += i_head * stride_pos_h
    dq_ptr += (i_batch * n_queries * n_heads + i_head) * HEAD_DIM

    o_n = tl.arange(0, BLOCK)
    o_query = i_tile * BLOCK + o_n
    m_query = o_query < n_queries
    b_qc = load_rows(qc_ptr, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
    b_qp = load_rows(qp_ptr, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
    b_dout = load_rows(dout_ptr, o_query, m_query, stride_dout_t, HEAD_DIM, BLOCK_D)
    b_out = load_rows(out_ptr, o_query, m_query, stride_out_t, HEAD_DIM, BLOCK_D)
    b_lse = tl.load(lse_ptr + i_pair * n_queries + o_query, mask=m_query, other=float("inf"))
    b_delta = tl.sum(b_dout.to(COMPUTE) * b_out.to(COMPUTE), 1)
    tl.store(delta_ptr + i_pair * n_queries + o_query, b_delta, mask=m_query)

    i_position = i_tile * BLOCK + n_keys - n_queries
    first, end = key_range(i_batch, n_keys, lengths_ptr, starts_ptr)
    first, end = visible_keys(i_position, BLOCK, first, end, left, right, CLIPPED)
    b_dqc = tl.zeros([BLOCK, BLOCK_D], COMPUTE)
    b_dqp = tl.zeros([BLOCK, BLOCK_D], COMPUTE)
    b_far_left = tl.zeros([BLOCK], COMPUTE)
    b_far_right = tl.zeros([BLOCK], COMPUTE)
    for i_key in tl.range(first, end, BLOCK, num_stages=1):
        o_key = i_key + o_n
        b_k = load_rows(k_ptr, o_key, o_key < end, stride_k_t, HEAD_DIM, BLOCK_D)
        b_v = load_rows(v_ptr, o_key, o_key < end, stride_v_t, HEAD_DIM, BLOCK_D)
        base = i_position - i_key
        b_own = load_band(pos_ptr, base, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK, BLOCK_D)
        b_before = load_band(pos_ptr, base + BLOCK, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK, BLOCK_D)
        mask = visible(i_position + o_n, o_key, first, end, left, right, CLIPPED)
        _, b_ds = _weights_and_gradients(b_qc, b_qp, b_k, b_v, b_own, b_before, b_dout, b_lse, b_delta, mask, SCALE)
        b_dqc += product(saturate(b_ds, b_k.dtype), b_k)
        b_ds_own, b_ds_before = _skew(saturate(b_ds, b_k.dtype))
        b_dqp += product(b_ds_own, b_own)
        b_dqp += product(b_ds_before, b_before)
        if CLIPPED:
            distance = base + o_n[:, None] - o_n[None, :]
            b_far_left += tl.sum(tl.where(distance >= left, b_ds, 0.0), 1)
            b_far_right += tl.sum(tl.where((distance <= -right) & (distance < left), b_ds, 0.0), 1)

    store_rows(dq_ptr, b_dqc + b_dqp, o_query, m_query, n_heads * HEAD_DIM, HEAD_DIM)
    if CLIPPED:  # loaded again, for registers could not hold it all the while without spilling
        b_q = load_rows(qc_ptr, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D).to(COMPUTE)
        b_dqc, b_dqp = b_far_left[:, None] * b_q, b_far_right[:, None] * b_q
    o_d = tl.arange(0, BLOCK_D)
    sums_ptr += (i_pair * n_tiles + i_tile) * HEAD_DIM
    tl.store(sums_ptr + o_d, tl.sum(b_dqc, 0), mask=o_d < HEAD_DIM)
    tl.store(sums_ptr + n_pairs * n_tiles * HEAD_DIM + o_d, tl.sum(b_dqp, 0), mask=o_d < HEAD_DIM)


@triton.jit
def _attention_bwd_dkv_kernel(
    dout_ptr,
    qc_ptr,
    qp_ptr,
    k_ptr,
    v_ptr,
    pos_ptr,
    lengths_ptr,
    starts_ptr,
    lse_ptr,
    delta_ptr,
    dk_ptr,
    dv_ptr,
    stride_dout_b,
    stride_dout_h,
    stride_dout_t,
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
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    n_tiles = tl.cdiv(n_keys, BLOCK)
    i_pair = (tl.program_id(0) // n_tiles).to(tl.int64)
    i_key = (tl.program_id(0) % n_tiles) * BLOCK
    i_batch, i_head = i_pair // n_heads, i_pair % n_heads
    dout_ptr += i_batch * stride_dout_b + i_head * stride_dout_h
    qc_ptr += i_batch * stride_q_b + i_head * stride_q_h
    qp_ptr += i_batch * stride_q_b + i_head * stride_q_h
    k_ptr += i_batch * stride_k_b + i_head * stride_k_h
    v_ptr += i_batch * stride_v_b + i_head * stride_v_h
    pos_ptr += i_head * stride_pos_h
    o_out = (i_batch * n_keys * n_heads + i_head) * HEAD_DIM

    o_n = tl.arange(0, BLOCK)
    o_key = i_key + o_n
    first, end = key_range(i_batch, n_keys, lengths_ptr, starts_ptr)
    b_k = load_rows(k_ptr, o_key, o_key < end, stride_k_t, HEAD_DIM, BLOCK_D)
    b_v = load_rows(v_ptr, o_key, o_key < end, stride_v_t, HEAD_DIM, BLOCK_D)
    b_dk = tl.zeros([BLOCK, BLOCK_D], COMPUTE)
    b_dv = tl.zeros([BLOCK, BLOCK_D], COMPUTE)
    query_from, query_to = 0, tl.where(i_key < end, n_queries, 0)
    first_position = n_keys - n_queries
    if not CLIPPED:
        query_from = tl.maximum(0, i_key - right - first_position)
        query_to = tl.minimum(query_to, i_key + BLOCK + left - first_position)
    for i_query in tl.range(query_from, query_to, BLOCK, num_stages=1):
        o_query = i_query + o_n
        m_query = o_query < n_queries
        b_qc = load_rows(qc_ptr, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
        b_qp = load_rows(qp_ptr, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
        b_dout = load_rows(dout_ptr, o_query, m_query, stride_dout_t, HEAD_DIM, BLOCK_D)
        b_lse = tl.load(lse_ptr + i_pair * n_queries + o_query, mask=m_query, other=float("inf"))
        b_delta = tl.load(delta_ptr + i_pair * n_queries + o_query, mask=m_query, other=0.0)
        base = i_query + first_position - i_key
        b_own = load_band(pos_ptr, base, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK, BLOCK_D)
        b_before = load_band(pos_ptr, base + BLOCK, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK, BLOCK_D)
        mask = visible(first_position + o_query, o_key, first, end, left, right, CLIPPED)
        b_p, b_ds = _weights_and_gradients(b_qc, b_qp, b_k, b_v, b_own, b_before, b_dout, b_lse, b_delta, mask, SCALE)
        b_dk += product(tl.trans(saturate(b_ds, b_qc.dtype)), b_qc)
        b_dv += product(tl.trans(b_p.to(b_qc.dtype)), b_dout)
    store_rows(dk_ptr + o_out, b_dk, o_key, o_key < n_keys, n_heads * HEAD_DIM, HEAD_DIM)
    store_rows(dv_ptr + o_out, b_dv, o_key, o_key < n_keys, n_heads * HEAD_DIM, HEAD_DIM)


@triton.jit
def _attention_bwd_dpos_kernel(
    dout_ptr,
    qc_ptr,
    qp_ptr,
    k_ptr,
    v_ptr,
    pos_ptr,
    lengths_ptr,
    starts_ptr,
    lse_ptr,
    delta_ptr,
    dpos_ptr,
    stride_dout_b,
    stride_dout_h,
    stride_dout_t,
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
    n_batch,
    n_heads,
    n_queries,
    n_keys,
    left,
    right,
    n_diagonals,
    n_splits,
    CLIPPED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SCALE: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """``dpos [2, splits, H, R, D]`` of one diagonal of tiles: from the tiles' own halves, and from those before."""
    i_diagonal = tl.program_id(0) % n_diagonals
    i_head = ((tl.program_id(0) // n_diagonals) % n_heads).to(tl.int64)
    i_split = tl.program_id(0) // n_diagonals // n_heads
    pos_ptr += i_head * stride_pos_h
    n_rows = left + right + 1
    base = left - i_diagonal * BLOCK
    o_n = tl.arange(0, BLOCK)
    b_own = load_band(pos_ptr, base, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK, BLOCK_D)
    b_before = load_band(pos_ptr, base + BLOCK, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK, BLOCK_D)
    b_dpos_own = tl.zeros([BLOCK, BLOCK_D], COMPUTE)
    b_dpos_before = tl.zeros([BLOCK, BLOCK_D], COMPUTE)
    n_tiles = tl.cdiv(n_queries, BLOCK)
    for i_item in tl.range(i_split, n_batch * n_tiles, n_splits, num_stages=1):
        i_batch = (i_item // n_tiles).to(tl.int64)
        o_query = (i_item % n_tiles) * BLOCK + o_n
        i_position = (i_item % n_tiles) * BLOCK + n_keys - n_queries
        i_key = i_position - base
        first, end = key_range(i_batch, n_keys, lengths_ptr, starts_ptr)
        if i_key < end and i_key + BLOCK > first:
            m_query = o_query < n_queries
            o_key = i_key + o_n
            m_key = (o_key >= first) & (o_key < end)
            o_lse = (i_batch * n_heads + i_head) * n_queries + o_query
            o_q = i_batch * stride_q_b + i_head * stride_q_h
            dout_head_ptr = dout_ptr + i_batch * stride_dout_b + i_head * stride_dout_h
            k_head_ptr = k_ptr + i_batch * stride_k_b + i_head * stride_k_h
            v_head_ptr = v_ptr + i_batch * stride_v_b + i_head * stride_v_h
            b_qc = load_rows(qc_ptr + o_q, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
            b_qp = load_rows(qp_ptr + o_q, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
            b_dout = load_rows(dout_head_ptr, o_query, m_query, stride_dout_t, HEAD_DIM, BLOCK_D)
            b_k = load_rows(k_head_ptr, o_key, m_key, stride_k_t, HEAD_DIM, BLOCK_D)
            b_v = load_rows(v_head_ptr, o_key, m_key, stride_v_t, HEAD_DIM, BLOCK_D)
            b_lse = tl.load(lse_ptr + o_lse, mask=m_query, other=float("inf"))
            b_delta = tl.load(delta_ptr + o_lse, mask=m_query, other=0.0)
            inner = 1 if CLIPPED else 0  # the end rows of the clipped scheme are summed by the dq kernel
            mask = visible(i_position + o_n, o_key, first, end, left - inner, right - inner, False)
            _, b_ds = _weights_and_gradients(b_qc, b_qp, b_k, b_v, b_own, b_before, b_dout, b_lse, b_delta, mask, SCALE)
            b_ds_own, b_ds_before = _skew(saturate(b_ds, b_qc.dtype))
            b_dpos_own += product(tl.trans(b_ds_own), b_qp)
            b_dpos_before += product(tl.trans(b_ds_before), b_qp)
    o_block = (i_split * n_heads + i_head) * n_rows
    o_own, o_before = base - o_n, base + BLOCK - o_n  # distances
    o_row = o_block + table_row(o_own, left, right, CLIPPED)
    store_rows(dpos_ptr, b_dpos_own, o_row, o_own >= -right, HEAD_DIM, HEAD_DIM)
    o_row = o_block + n_splits * n_heads * n_rows + table_row(o_before, left, right, CLIPPED)
    store_rows(dpos_ptr, b_dpos_before, o_row, (o_before <= left) & (o_before >= -right), HEAD_DIM, HEAD_DIM)
