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
``row = distance + right``. True (Shaw et al., 2018): the others take the nearest row, ``row = left - distance``, and
there are no biases; the X of a tile far from the diagonal is one number per query, without a product.

float32 is multiplied in float32 ("ieee"), float16 and bfloat16 on tensor cores with float32 sums. FLOPs:
6 D per pair of query and key, 4 D where far. Bytes: q, k, v, pos and the output once from memory; k, v and pos
again from L2 for each tile of queries. Tiles depend on D and dtype only, so that a sample has the same
result alone and padded in a batch, bit for bit. They are small, for the sake of short sequences: at 2.5 Hz
one tile holds 6 or 13 s of one (sample, head) pair, and by registers 8 (float16) or 13 (float32) of these run
at once on each SM of a 3090. Several pairs in one program would only add products that the mask discards.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import compute_dtype, on_device

LOG2_E = tl.constexpr(1.4426950408889634)
MAX_HEAD_DIM = 128


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
def load_vector(ptr, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, COMPUTE: tl.constexpr):
    """[BLOCK_D], padded with 0."""
    o_d = tl.arange(0, BLOCK_D)
    return tl.load(ptr + o_d, mask=o_d < HEAD_DIM, other=0.0).to(COMPUTE)


@triton.jit
def biased(b_q, bias_ptr, i_head, CLIPPED: tl.constexpr, HEAD_DIM: tl.constexpr, COMPUTE: tl.constexpr):
    """``q`` plus the bias of its head, in the dtype of ``q``; the clipped scheme has none."""
    if not CLIPPED:
        b_bias = load_vector(bias_ptr + i_head * HEAD_DIM, HEAD_DIM, b_q.shape[1], COMPUTE)
        b_q = narrow(b_q.to(COMPUTE) + b_bias[None, :], b_q.dtype)
    return b_q


@triton.jit
def table_row(distance, left, right, CLIPPED: tl.constexpr):
    """Row of ``pos`` that holds ``distance``, or the nearest that it holds."""
    nearest = tl.minimum(tl.maximum(distance, -right), left)
    return left - nearest if CLIPPED else nearest + right


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
def visible_keys(i_position, n_rows, first, end, left, right, CLIPPED: tl.constexpr):
    """The part of ``first .. end`` that some query of ``i_position .. i_position + n_rows`` may see."""
    if not CLIPPED:
        first, end = tl.maximum(first, i_position - left), tl.minimum(end, i_position + n_rows + right)
    return first, end


@triton.jit
def visible(o_position, o_key, first, end, left, right, CLIPPED: tl.constexpr):
    """Mask [M, N] of the keys in the sample and in the window; [1, N] where distances are clipped: there is none."""
    mask = ((o_key >= first) & (o_key < end))[None, :]
    if not CLIPPED:
        distance = o_position[:, None] - o_key[None, :]
        mask = mask & (distance <= left) & (distance >= -right)
    return mask


@triton.jit
def _attention_fwd_kernel(
    q_ptr, k_ptr, v_ptr, pos_ptr, u_ptr, v_bias_ptr, lengths_ptr, starts_ptr, out_ptr, lse_ptr,
    stride_q_b, stride_q_h, stride_q_t, stride_k_b, stride_k_h, stride_k_t, stride_v_b, stride_v_h, stride_v_t,
    stride_pos_h, stride_pos_r, n_heads, n_queries, n_keys, left, right,
    CLIPPED: tl.constexpr, HEAD_DIM: tl.constexpr, SCALE: tl.constexpr, COMPUTE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
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
        b_x = tl.dot(b_qp, tl.trans(b_band), input_precision="ieee")
        b_y_before = tl.where(m_behind, b_x_before, b_x)
        b_x_before = b_x

    b_out = tl.zeros([BLOCK_M, BLOCK_D], COMPUTE)
    b_max = tl.full([BLOCK_M], float("-inf"), COMPUTE)
    b_sum = tl.zeros([BLOCK_M], COMPUTE)
    for i_key in tl.range(first, end, BLOCK_N):
        o_key = i_key + o_n
        b_k = load_rows(k_ptr, o_key, o_key < end, stride_k_t, HEAD_DIM, BLOCK_D)
        b_score = tl.dot(b_qc, tl.trans(b_k), input_precision="ieee")
        base = i_position - i_key
        if CLIPPED and (base - BLOCK_N + 1 >= left or base <= -right):
            b_x = tl.where(base > 0, b_far_left, b_far_right)[:, None] + tl.zeros([BLOCK_M, BLOCK_N], COMPUTE)
        else:
            b_band = load_band(pos_ptr, base, left, right, stride_pos_r, CLIPPED, HEAD_DIM, BLOCK_N, BLOCK_D)
            b_x = tl.dot(b_qp, tl.trans(b_band), input_precision="ieee")
        b_y = tl.where(m_behind, b_x_before, b_x)
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

    b_total = tl.where(b_sum == 0, 1.0, b_sum)
    store_rows(out_ptr, b_out / b_total[:, None], o_query, o_query < n_queries, n_heads * HEAD_DIM, HEAD_DIM)
    b_lse = tl.where(b_sum == 0, float("inf"), b_max + tl.log2(b_total))  # infinity: exp2(score - lse) is 0
    tl.store(lse_ptr + i_pair * n_queries + o_query, b_lse, mask=o_query < n_queries)


def tiles(head_dim: int, dtype: torch.dtype) -> dict[str, int]:
    """Tile sizes and warps: what fits the registers of every card without spilling (`bench.static`)."""
    block_d = max(16, triton.next_power_of_2(head_dim))
    if dtype.itemsize > 2:  # with no limit stated, the assembler spills a few bytes for occupancy that memory forbids
        return {"BLOCK_M": 16, "BLOCK_N": 16, "BLOCK_D": block_d, "num_warps": block_d // 16, "maxnreg": 255}
    block_m = 64 if block_d == 64 else 32
    warps = 8 if block_d >= 128 else 4 if block_d == 64 else 2
    return {"BLOCK_M": block_m, "BLOCK_N": 32, "BLOCK_D": block_d, "num_warps": warps}


def empty_heads(x: Tensor) -> Tensor:
    """Uninitialised, of the shape of ``x`` ``[B, H, T, D]``, laid out ``[B, T, H, D]``: joining the heads is a view."""
    n_batch, n_heads, n_rows, head_dim = x.shape
    return torch.empty((n_batch, n_rows, n_heads, head_dim), dtype=x.dtype, device=x.device).transpose(1, 2)


def empty_lse(q: Tensor) -> Tensor:
    """Uninitialised ``[B, H, Tq]`` in the dtype of computation."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return torch.empty(q.shape[:3], dtype=dtype, device=q.device)


def rows(x: Tensor) -> Tensor:
    """``x`` with a dense last dimension, as the kernels need it."""
    return x if x.stride(-1) == 1 else x.contiguous()


def dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def check_heads(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, starts: Tensor | None = None) -> None:
    """Raise ValueError or TypeError unless these are attention heads of one dtype and device."""
    if q.ndim != 4 or not 1 <= q.shape[3] <= MAX_HEAD_DIM:
        raise ValueError(f"q must be [B, H, T, D] with D in 1 .. {MAX_HEAD_DIM}, got {tuple(q.shape)}")
    if q.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"q must be float16, bfloat16, float32 or float64, got {q.dtype}")
    expected = (q.shape[0], q.shape[1], k.shape[2] if k.ndim == 4 else "Tk", q.shape[3])
    for name, x in (("k", k), ("v", v)):
        if tuple(x.shape) != expected:
            raise ValueError(f"{name} must be {list(expected)}, got {tuple(x.shape)}")
        check_like(q, name, x)
    if q.shape[2] > k.shape[2]:
        raise ValueError(f"q must have no more rows than k, which has {k.shape[2]}, got {q.shape[2]}")
    for name, x in (("lengths", lengths), ("starts", starts)):
        if x is None:
            continue
        if x.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"{name} must be int32 or int64, got {x.dtype}")
        if tuple(x.shape) != (q.shape[0],) or x.device != q.device:
            raise ValueError(f"{name} must be [{q.shape[0]}] on {q.device}, got {tuple(x.shape)} on {x.device}")


def check_like(q: Tensor, name: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless ``x`` has the dtype and device of ``q``."""
    if x.dtype != q.dtype:
        raise TypeError(f"{name} must be {q.dtype} as q, got {x.dtype}")
    if x.device != q.device:
        raise ValueError(f"{name} must be on {q.device} as q, got {x.device}")


def attention_forward(
    q: Tensor, k: Tensor, v: Tensor, pos: Tensor, biases: tuple[Tensor | None, Tensor | None],
    left: int, right: int, clipped: bool, lengths: Tensor | None, starts: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Output ``[B, H, Tq, D]`` and base-2 log-sum-exp ``[B, H, Tq]``; ``pos`` ``[H, R, D]`` or, clipped, ``[R, D]``."""
    q, k, v, pos = rows(q), rows(k), rows(v), rows(pos)
    out, lse = empty_heads(q), empty_lse(q)
    if not out.numel():
        return out, lse
    n_batch, n_heads, n_queries, head_dim = q.shape
    options = tiles(head_dim, q.dtype)
    grid = (n_batch * n_heads * triton.cdiv(n_queries, options["BLOCK_M"]),)
    with on_device("q", q):
        _attention_fwd_kernel[grid](
            q, k, v, pos, *map(dense, (*biases, lengths, starts)), out, lse,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], 0 if clipped else pos.stride(0), pos.stride(-2),
            n_heads, n_queries, k.shape[2], left, right,
            CLIPPED=clipped, HEAD_DIM=head_dim, SCALE=head_dim**-0.5, COMPUTE=compute_dtype(q.dtype),
            **options, num_stages=2, enable_fp_fusion=True,
        )  # fmt: skip
    return out, lse
