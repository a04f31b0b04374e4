"""Residual unit, forward: the whole unit for one tile of rows, and one convolution for one tile.

Signals are channels-last ``[B, T, C]``, their rows numbered through the batch. Weights are ``[K, P, P]``
(tap, input channel, output channel) and vectors ``[P]``, where P is C padded to whole tiles.
"""

import triton
import triton.language as tl

from .._math import saturate
from ..snake import snake_value

BEYOND = tl.constexpr(1 << 30)  # a time after the end of every signal
SIZES = ["n_rows", "n_time", "dilation", "left"]  # no kernel gains from knowing them


@triton.jit
def _snake(b_v, snake_ptr, o_channel, WIDTH: tl.constexpr):
    """Snake of float32 ``b_v`` [rows, channels]; ``snake_ptr`` [3, WIDTH]: high, low, scale of ``snake_value``."""
    b_high = tl.load(snake_ptr + o_channel)[None, :]
    b_low = tl.load(snake_ptr + WIDTH + o_channel)[None, :]
    b_scale = tl.load(snake_ptr + 2 * WIDTH + o_channel)[None, :]
    return snake_value(b_v, b_high, b_low, b_scale)


@triton.jit
def _tile_rows(i_row, n_rows, n_time, BLOCK_T: tl.constexpr):
    """First row of a tile; of each row the offset from it, existence, time, and sample of the batch."""
    o_row = tl.arange(0, BLOCK_T)
    m_row = o_row < n_rows - i_row
    o_time = (i_row % n_time).to(tl.int32) + o_row
    return i_row, o_row, m_row, tl.where(m_row, o_time % n_time, BEYOND), i_row // n_time + o_time // n_time


@triton.jit
def _convolve(
    source_ptr,
    context_ptr,
    weight_ptr,
    bias_ptr,
    snake_ptr,
    rows,
    o_a,
    o_b,
    n_time,
    dilation,
    left,
    N_CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    N_TAPS: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Convolution with bias, float32 [rows, o_a] and [rows, o_b]; of ``snake(source)`` unless ``snake_ptr`` is None.

    The taps of one block of channels follow each other, so that all but the first find their rows in L2.
    """
    i_row, o_row, _, o_time, o_batch = rows
    source_ptr += i_row * N_CHANNELS
    b_a = tl.zeros([o_row.shape[0], o_a.shape[0]], tl.float32) + tl.load(bias_ptr + o_a)[None, :]
    b_b = tl.zeros([o_row.shape[0], o_b.shape[0]], tl.float32) + tl.load(bias_ptr + o_b)[None, :]
    for i in range(N_TAPS * (WIDTH // BLOCK_K)):
        i_tap = i % N_TAPS
        o_k = i // N_TAPS * BLOCK_K + tl.arange(0, BLOCK_K)
        i_shift = i_tap * dilation - left
        o_source = o_time + i_shift
        p_v = source_ptr + i_shift.to(tl.int64) * N_CHANNELS + o_row[:, None] * N_CHANNELS + o_k[None, :]
        m_time = o_source < n_time
        if context_ptr is None:
            m_time &= o_source >= 0
        else:  # [B, left, C], read by rows from before the start of the signal
            p_context = context_ptr + ((o_batch + 1) * left + o_source)[:, None] * N_CHANNELS + o_k[None, :]
            p_v = tl.where((o_source < 0)[:, None], p_context, p_v)
        b_v = tl.load(p_v, mask=m_time[:, None] & (o_k < N_CHANNELS)[None, :], other=0.0)
        if snake_ptr is not None:
            b_v = saturate(_snake(b_v.to(tl.float32), snake_ptr, o_k, WIDTH), source_ptr.dtype.element_ty, True)
        p_weight = weight_ptr + (i_tap * WIDTH + o_k)[:, None] * WIDTH
        b_a = tl.dot(b_v, tl.load(p_weight + o_a[None, :]), b_a, input_precision="ieee")
        b_b = tl.dot(b_v, tl.load(p_weight + o_b[None, :]), b_b, input_precision="ieee")
    return b_a, b_b


@triton.jit
def _store(b_y, residual_ptr, y_ptr, snake_ptr, rows, o_channel, N_CHANNELS: tl.constexpr, WIDTH: tl.constexpr):
    """Store the Snake of ``b_y`` or, where ``snake_ptr`` is None, its sum with the residual."""
    i_row, o_row, m_row, _, _ = rows
    i_y = i_row * N_CHANNELS
    o_y = o_row[:, None] * N_CHANNELS + o_channel[None, :]
    m_y = m_row[:, None] & (o_channel < N_CHANNELS)[None, :]
    if residual_ptr is not None:
        b_y += tl.load(residual_ptr + i_y + o_y, mask=m_y, other=0.0).to(tl.float32)
    if snake_ptr is None:
        b_y = b_y.to(y_ptr.dtype.element_ty)
    else:
        b_y = saturate(_snake(b_y, snake_ptr, o_channel, WIDTH), y_ptr.dtype.element_ty, True)
    tl.store(y_ptr + i_y + o_y, b_y, mask=m_y)


@triton.jit(do_not_specialize=SIZES)
def _residual_unit_fwd_kernel(
    x_ptr,
    source_ptr,
    context_ptr,
    weight1_ptr,
    bias1_ptr,
    snake1_ptr,
    weight2_ptr,
    bias2_ptr,
    snake2_ptr,
    y_ptr,
    n_rows,
    n_time,
    dilation,
    left,
    N_CHANNELS: tl.constexpr,
    WIDTH_A: tl.constexpr,
    WIDTH_B: tl.constexpr,
    N_TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The whole unit for one tile of rows; ``source_ptr``, what is convolved, is x as well."""
    WIDTH: tl.constexpr = WIDTH_A + WIDTH_B
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    rows = _tile_rows(tl.program_id(0).to(tl.int64) * BLOCK_T, n_rows, n_time, BLOCK_T)
    o_a, o_b = tl.arange(0, WIDTH_A), WIDTH_A + tl.arange(0, WIDTH_B)
    b_a, b_b = _convolve(
        *(source_ptr, context_ptr, weight1_ptr, bias1_ptr, snake1_ptr),
        *(rows, o_a, o_b, n_time, dilation, left, N_CHANNELS, WIDTH, N_TAPS, BLOCK_K),
    )
    b_a = saturate(_snake(b_a, snake2_ptr, o_a, WIDTH), DTYPE, True)
    b_b = saturate(_snake(b_b, snake2_ptr, o_b, WIDTH), DTYPE, True)
    for i_n in range(0, WIDTH, WIDTH_B):  # in slices, to need few registers
        o_n = i_n + tl.arange(0, WIDTH_B)
        p_weight = weight2_ptr + o_n[None, :]
        b_y = tl.zeros([BLOCK_T, WIDTH_B], tl.float32) + tl.load(bias2_ptr + o_n)[None, :]
        b_y = tl.dot(b_a, tl.load(p_weight + o_a[:, None] * WIDTH), b_y, input_precision="ieee")
        b_y = tl.dot(b_b, tl.load(p_weight + o_b[:, None] * WIDTH), b_y, input_precision="ieee")
        _store(b_y, x_ptr, y_ptr, None, rows, o_n, N_CHANNELS, WIDTH)


@triton.jit(do_not_specialize=SIZES)
def _conv_fwd_kernel(
    source_ptr,
    context_ptr,
    weight_ptr,
    bias_ptr,
    snake_ptr,
    residual_ptr,
    y_ptr,
    next_snake_ptr,
    n_rows,
    n_time,
    dilation,
    left,
    N_CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    N_TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One convolution for one tile of rows and output channels; programs of the same rows are neighbours.

    y is ``residual + conv(snake(source))`` or, with ``next_snake_ptr``, the Snake of the convolution alone.
    """
    i_tile, i_n = tl.program_id(0) // (WIDTH // BLOCK_N), tl.program_id(0) % (WIDTH // BLOCK_N)
    rows = _tile_rows(i_tile.to(tl.int64) * BLOCK_T, n_rows, n_time, BLOCK_T)
    o_a = i_n * BLOCK_N + tl.arange(0, BLOCK_N // 2)
    o_b = o_a + BLOCK_N // 2
    b_a, b_b = _convolve(
        *(source_ptr, context_ptr, weight_ptr, bias_ptr, snake_ptr),
        *(rows, o_a, o_b, n_time, dilation, left, N_CHANNELS, WIDTH, N_TAPS, BLOCK_K),
    )
    _store(b_a, residual_ptr, y_ptr, next_snake_ptr, rows, o_a, N_CHANNELS, WIDTH)
    _store(b_b, residual_ptr, y_ptr, next_snake_ptr, rows, o_b, N_CHANNELS, WIDTH)
