"""Relative-position attention, forward: what `rel_attention` and `rel_key_attention` share.

``score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos[row(i - j)]) / sqrt(D)``, softmax over the keys, times v.
Softmax is online (Milakov and Gimelshein, 2018; FlashAttention, Dao et al., 2022): neither scores nor
shifted positions reach memory.

Position scores without a gather from memory. Let ``base`` be the distance of the corner of a tile of N
keys, and ``X[i, m] = (q_i + v_bias) . pos[base - m]``, m < N: a matrix product with N consecutive rows.
Entry (i, j) of the tile is ``X[i, j - i]`` where j >= i, and ``X'[i, j - i + N]`` where j < i, with ``X'``
the X of the tile before, whose base is larger by N. So a row of the answer is a row of X or X',
chosen by ``i + m < N``, rotated by i: one ``where`` and one ``tl.gather`` within the row, which compiles
to one warp shuffle per element for N = 32. X' is carried from tile to tile, so positions cost one
product per tile, as the content does. With M = 2N queries the second half of the rows is one tile behind.

``CLIPPED`` tells the schemes apart. False (Transformer-XL): only distances in ``-right .. left`` are visible, and
``row = distance + right``. True (Shaw et al., 2018): the others take the nearest row, and ``row = left - distance``;
tiles far from the diagonal have one row for all their keys, hence one position score per query.

float32 is multiplied in float32 ("ieee"), float16 and bfloat16 on tensor cores with float32 sums. FLOPs:
6 D per pair of query and key, 4 D where far. Bytes: q, k, v, pos and the output once from memory; k, v and pos
again from L2 for each tile of queries.
"""

import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def narrow(b_x, dtype: tl.constexpr):
    """Cast to ``dtype``; what is beyond the range of float16 becomes its largest number, not infinity."""
    if dtype == tl.float16:
        b_x = tl.clamp(b_x, -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL)
    return b_x.to(dtype)


@triton.jit
def load_rows(ptr, o_row, m_row, stride_row, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows ``o_row``, [rows, BLOCK_D]; masked rows and padded columns are 0."""
    o_d = tl.arange(0, BLOCK_D)
    o_x = o_row.to(tl.int64)[:, None] * stride_row + o_d[None, :]
    return tl.load(ptr + o_x, mask=m_row[:, None] & (o_d < HEAD_DIM)[None, :], other=0.0)


@triton.jit
def store_rows(ptr, b_x, o_row, m_row, stride_row, HEAD_DIM: tl.constexpr):
    """Inverse of `load_rows`, in the dtype of ``ptr``."""
    o_d = tl.arange(0, b_x.shape[1])
    o_x = o_row.to(tl.int64)[:, None] * stride_row + o_d[None, :]
    tl.store(ptr + o_x, narrow(b_x, ptr.dtype.element_ty), mask=m_row[:, None] & (o_d < HEAD_DIM)[None, :])


@triton.jit
def add_bias(b_q, bias_ptr, HEAD_DIM: tl.constexpr, COMPUTE: tl.constexpr):
    """``q + bias`` in the dtype of ``q``."""
    o_d = tl.arange(0, b_q.shape[1])
    b_bias = tl.load(bias_ptr + o_d, mask=o_d < HEAD_DIM, other=0.0).to(COMPUTE)
    return narrow(b_q.to(COMPUTE) + b_bias[None, :], b_q.dtype)


@triton.jit
def table_row(distance, left, right, CLIPPED: tl.constexpr):
    """Row of ``pos`` that holds ``distance``, or the nearest that it holds."""
    clipped = tl.minimum(tl.maximum(distance, -right), left)
    return left - clipped if CLIPPED else clipped + right


@triton.jit
def load_band(
    pos_ptr, base, left, right, stride_pos_r, CLIPPED: tl.constexpr, HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rows of ``pos`` for the distances ``base - m``, m < BLOCK."""
    o_row = table_row(base - tl.arange(0, BLOCK), left, right, CLIPPED)
    return load_rows(pos_ptr, o_row, o_row >= 0, stride_pos_r, HEAD_DIM, BLOCK_D)


@triton.jit
def key_range(i_batch, n_keys, lengths_ptr, starts_ptr):
    """First key of the sample and the end of its keys; pointers of None stand for 0 and ``n_keys``."""
    first, end = 0, n_keys
    if starts_ptr is not None:
        first = tl.minimum(tl.maximum(tl.load(starts_ptr + i_batch), 0), n_keys).to(tl.int32)
    if lengths_ptr is not None:
        end = tl.minimum(tl.maximum(tl.load(lengths_ptr + i_batch), 0), n_keys).to(tl.int32)
    return first, end


@triton.jit
def visible(o_position, o_key, first, end, left, right, CLIPPED: tl.constexpr):
    """Mask [M, N] of the keys in the sample and, unless distances are clipped, in the window."""
    distance = o_position[:, None] - o_key[None, :]
    mask = ((o_key >= first) & (o_key < end))[None, :]
    mask &= CLIPPED | ((distance <= left) & (distance >= -right))
    return mask


@triton.jit
def _scan_keys(
    b_out, b_max, b_sum, b_qc, b_qp, i_position, i_from, i_to, k_ptr, v_ptr, pos_ptr,
    stride_k_t, stride_v_t, stride_pos_r, first, end, left, right,
    FAR: tl.constexpr, CLIPPED: tl.constexpr, HEAD_DIM: tl.constexpr, SCALE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Add the keys ``i_from .. i_to`` to the softmax; ``b_qp`` is q + v_bias or, where FAR, the position score [M]."""
    BLOCK_M: tl.constexpr = b_out.shape[0]
    BLOCK_D: tl.constexpr = b_out.shape[1]
    o_m, o_n = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    base = i_position - i_from
    if not FAR:
        m_behind = (o_m >= BLOCK_N)[:, None]
        m_own = (o_m % BLOCK_N)[:, None] + o_n[None, :] < BLOCK_N
        i_rotated = (o_n[None, :] - o_m[:, None]) & (BLOCK_N - 1)
        b_band = load_band(pos_ptr, base + BLOCK_N, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK_N, BLOCK_D)
        b_x_before = tl.dot(b_qp, tl.trans(b_band), input_precision="ieee")
        b_y_before = b_x_before
        if BLOCK_M > BLOCK_N:
            b_band = load_band(
                pos_ptr, base + 2 * BLOCK_N, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK_N, BLOCK_D
            )
            b_y_before = tl.where(m_behind, tl.dot(b_qp, tl.trans(b_band), input_precision="ieee"), b_x_before)
    for i_key in tl.range(i_from, i_to, BLOCK_N):
        o_key = i_key + o_n
        b_k = load_rows(k_ptr, o_key, o_key < end, stride_k_t, HEAD_DIM, BLOCK_D)
        b_score = tl.dot(b_qc, tl.trans(b_k), input_precision="ieee")
        if FAR:
            b_score += b_qp[:, None]
        else:
            b_band = load_band(
                pos_ptr, i_position - i_key, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK_N, BLOCK_D
            )
            b_x = tl.dot(b_qp, tl.trans(b_band), input_precision="ieee")
            b_y = tl.where(m_behind, b_x_before, b_x) if BLOCK_M > BLOCK_N else b_x
            b_score += tl.gather(tl.where(m_own, b_y, b_y_before), i_rotated, 1)
            b_x_before, b_y_before = b_x, b_y
        mask = visible(i_position + o_m, o_key, first, end, left, right, CLIPPED)
        b_score = tl.where(mask, b_score * (SCALE * LOG2_E), float("-inf"))
        b_max_new = tl.maximum(b_max, tl.max(b_score, 1))
        b_shift = tl.where(b_max_new == float("-inf"), 0.0, b_max_new)  # no key seen yet
        b_decay = tl.exp2(b_max - b_shift)
        b_p = tl.exp2(b_score - b_shift[:, None])
        b_v = load_rows(v_ptr, o_key, o_key < end, stride_v_t, HEAD_DIM, BLOCK_D)
        b_out = b_out * b_decay[:, None] + tl.dot(b_p.to(b_v.dtype), b_v, input_precision="ieee")
        b_sum = b_sum * b_decay + tl.sum(b_p, 1)
        b_max = b_max_new
    return b_out, b_max, b_sum


@triton.jit
def _far_score(b_q, row_ptr, HEAD_DIM: tl.constexpr, COMPUTE: tl.constexpr):
    """Position score [M] of each query with the one row at ``row_ptr``."""
    o_d = tl.arange(0, b_q.shape[1])
    b_row = tl.load(row_ptr + o_d, mask=o_d < HEAD_DIM, other=0.0).to(COMPUTE)
    return tl.sum(b_q.to(COMPUTE) * b_row[None, :], 1)


@triton.jit
def _attention_fwd_kernel(
    q_ptr, k_ptr, v_ptr, pos_ptr, u_ptr, v_bias_ptr, lengths_ptr, starts_ptr, out_ptr, lse_ptr,
    stride_q_b, stride_q_h, stride_q_t, stride_k_b, stride_k_h, stride_k_t, stride_v_b, stride_v_h, stride_v_t,
    stride_pos_h, stride_pos_r, stride_out_b, stride_out_h, stride_out_t, n_heads, n_queries, n_keys, left, right,
    CLIPPED: tl.constexpr, HEAD_DIM: tl.constexpr, SCALE: tl.constexpr, COMPUTE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    n_tiles = tl.cdiv(n_queries, BLOCK_M)
    i_pair = tl.program_id(0) // n_tiles
    i_query = (tl.program_id(0) % n_tiles) * BLOCK_M
    i_batch, i_head = (i_pair // n_heads).to(tl.int64), (i_pair % n_heads).to(tl.int64)
    k_ptr += i_batch * stride_k_b + i_head * stride_k_h
    v_ptr += i_batch * stride_v_b + i_head * stride_v_h
    pos_ptr += i_head * stride_pos_h
    o_query = i_query + tl.arange(0, BLOCK_M)
    m_query = o_query < n_queries
    b_q = load_rows(q_ptr + i_batch * stride_q_b + i_head * stride_q_h, o_query, m_query, stride_q_t, HEAD_DIM, BLOCK_D)
    if CLIPPED:
        b_qc, b_qp = b_q, b_q
    else:
        b_qc = add_bias(b_q, u_ptr + i_head * HEAD_DIM, HEAD_DIM, COMPUTE)
        b_qp = add_bias(b_q, v_bias_ptr + i_head * HEAD_DIM, HEAD_DIM, COMPUTE)

    first, end = key_range(i_batch, n_keys, lengths_ptr, starts_ptr)
    i_position = i_query + n_keys - n_queries
    b_out = tl.zeros([BLOCK_M, BLOCK_D], COMPUTE)
    b_max = tl.full([BLOCK_M], float("-inf"), COMPUTE)
    b_sum = tl.zeros([BLOCK_M], COMPUTE)
    if CLIPPED:
        # Keys of whole tiles at a distance >= left, then around the diagonal, then at a distance <= -right.
        near = first + tl.maximum(0, (i_position - left + 1 - first) // BLOCK_N) * BLOCK_N
        far = near + tl.cdiv(tl.maximum(0, i_position + BLOCK_M - 1 + right - near), BLOCK_N) * BLOCK_N
        b_far = _far_score(b_q, pos_ptr, HEAD_DIM, COMPUTE)
        b_out, b_max, b_sum = _scan_keys(
            b_out, b_max, b_sum, b_qc, b_far, i_position, first, tl.minimum(near, end), k_ptr, v_ptr, pos_ptr,
            stride_k_t, stride_v_t, stride_pos_r, first, end, left, right, True, CLIPPED, HEAD_DIM, SCALE, BLOCK_N,
        )  # fmt: skip
    else:
        near, far = tl.maximum(first, i_position - left), tl.minimum(end, i_position + BLOCK_M + right)
    b_out, b_max, b_sum = _scan_keys(
        b_out, b_max, b_sum, b_qc, b_qp, i_position, near, tl.minimum(far, end), k_ptr, v_ptr, pos_ptr,
        stride_k_t, stride_v_t, stride_pos_r, first, end, left, right, False, CLIPPED, HEAD_DIM, SCALE, BLOCK_N,
    )  # fmt: skip
    if CLIPPED:
        b_far = _far_score(b_q, pos_ptr + (left + right) * stride_pos_r, HEAD_DIM, COMPUTE)
        b_out, b_max, b_sum = _scan_keys(
            b_out, b_max, b_sum, b_qc, b_far, i_position, far, end, k_ptr, v_ptr, pos_ptr,
            stride_k_t, stride_v_t, stride_pos_r, first, end, left, right, True, CLIPPED, HEAD_DIM, SCALE, BLOCK_N,
        )  # fmt: skip

    b_lse = tl.where(b_sum == 0, float("inf"), b_max + tl.log2(b_sum))  # infinity: exp2(score - lse) is 0
    b_out = b_out / tl.where(b_sum == 0, 1.0, b_sum)[:, None]
    store_rows(
        out_ptr + i_batch * stride_out_b + i_head * stride_out_h, b_out, o_query, m_query, stride_out_t, HEAD_DIM
    )
    tl.store(lse_ptr + i_pair.to(tl.int64) * n_queries + o_query, b_lse, mask=m_query)


def empty_rows(x: Tensor, n_rows: int) -> Tensor:
    """Uninitialised ``[B, H, n_rows, D]`` laid out ``[B, n_rows, H, D]``, so that joining the heads copies nothing."""
    return x.new_empty(x.shape[0], n_rows, x.shape[1], x.shape[3]).transpose(1, 2)


def rows(x: Tensor) -> Tensor:
    """``x`` with its last dimension dense, as the kernels need it."""
    return x if x.stride(-1) == 1 else x.contiguous()
