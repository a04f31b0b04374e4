"""Device code that both passes of attention share: rows of a tile, products, the band of positions, what is visible."""

import triton
import triton.language as tl

from .._math import saturate

DEPTH = tl.constexpr(16)  # columns; the least that tl.dot takes


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
    tl.store(ptr + o_x, saturate(b_x, ptr.dtype.element_ty), mask=m_row[:, None] & (o_d < HEAD_DIM)[None, :])


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
        b_q = saturate(b_q.to(COMPUTE) + b_bias[None, :], b_q.dtype)
    return b_q


@triton.jit
def product(b_x, b_y):
    """``x @ y``; of float32, with each factor the sum of two TF32 numbers, in three products on the matrix unit."""
    PRECISION: tl.constexpr = "tf32x3" if b_x.dtype == tl.float32 else "ieee"
    return tl.dot(b_x, b_y, input_precision=PRECISION)


@triton.jit
def product_of_rows(b_x, b_y):
    """``x @ y^T``; of float32, the sum of products of DEPTH columns each.

    Matrix units cut their sums toward zero; of a long one the error would lean that way (docs/kernels.md).
    """
    if b_x.dtype == tl.float32 and b_x.shape[1] > DEPTH:
        b_x = tl.permute(tl.reshape(b_x, b_x.shape[0], b_x.shape[1] // DEPTH, DEPTH), 1, 0, 2)
        b_y = tl.permute(tl.reshape(b_y, b_y.shape[0], b_y.shape[1] // DEPTH, DEPTH), 1, 2, 0)
        return tl.sum(product(b_x, b_y), 0)
    else:
        return product(b_x, tl.trans(b_y))


@triton.jit
def scores(b_q, b_k, b_x):
    """``q k^T + x``, in float32 with x added last, which halves the largest errors.

    Triton starts a product from what ``+`` adds to it, so that every term is rounded beside x; not so for ``-``. Matrix
    units round seldom, and take the start for free.
    """
    b_product = product_of_rows(b_q, b_k)
    if b_k.dtype.primitive_bitwidth == 16:
        return b_product + b_x
    else:
        return b_product - (-b_x)


@triton.jit
def table_row(distance, left, right, CLIPPED: tl.constexpr):
    """Row of ``pos`` that holds ``distance``, or the nearest that it holds."""
    nearest = tl.minimum(tl.maximum(distance, -right), left)
    return left - nearest if CLIPPED else nearest + right


@triton.jit
def load_band(
    pos_ptr,
    base,
    left,
    right,
    stride_pos_r,
    CLIPPED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
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
