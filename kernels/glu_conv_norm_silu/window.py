"""Device code that both passes share: the norm, and a window of gated frames, a tuple, that slides along time."""

import triton
import triton.language as tl

from .._math import fma, sigmoid

UNROLL = tl.constexpr(4)  # frames at a time


@triton.jit
def load_frame(
    x_ptr, context_ptr, i_time, AHEAD: tl.constexpr, n_time, i_channel,
    N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Both halves of frame ``i_time + AHEAD``; those before the signal come from the context, others are zeros."""
    o_x = tl.cast(i_time, tl.int64) * (2 * N_CHANNELS) + AHEAD * (2 * N_CHANNELS) + i_channel
    m_x = (i_channel < N_CHANNELS) & (i_time + AHEAD < n_time)
    if AHEAD < 0 or context_ptr is not None:  # else i_time counts from 0
        m_x &= i_time + AHEAD >= 0
    b_a = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
    b_b = tl.load(x_ptr + o_x + N_CHANNELS, mask=m_x, other=0.0).to(COMPUTE)
    if context_ptr is not None:
        o_x += (N_TAPS - 1) * (2 * N_CHANNELS)
        m_x = (i_channel < N_CHANNELS) & (i_time + AHEAD < 0) & (i_time + AHEAD > -N_TAPS)
        b_a += tl.load(context_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
        b_b += tl.load(context_ptr + o_x + N_CHANNELS, mask=m_x, other=0.0).to(COMPUTE)
    return b_a, b_b


@triton.jit
def gated_before(
    x_ptr, context_ptr, i_time, n_time, i_channel, N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr
):
    """The K - 1 gated frames before ``i_time``, loaded in batches: registers cannot hold the inputs of more at once."""
    N_BATCHES: tl.constexpr = (N_TAPS + 14) // 16  # of up to 16 frames, alike: the first may begin a little early
    BATCH: tl.constexpr = (N_TAPS + N_BATCHES - 2) // max(N_BATCHES, 1)
    window: tl.tuple = ()
    for _ in tl.static_range(N_TAPS - 1):
        window = window + (tl.zeros(i_channel.shape, COMPUTE),)
    for i_batch in range(N_BATCHES):
        i_end = i_time - (N_BATCHES - 1 - i_batch) * BATCH
        for k in tl.static_range(-BATCH, 0):
            b_a, b_b = load_frame(x_ptr, context_ptr, i_end, k, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
            window = window + (b_a * sigmoid(b_b),)
        window = window[BATCH:]
    return window


@triton.jit
def convolve(
    window, x_ptr, weight_ptr, bias_ptr, i_time, n_time, i_channel,
    N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """UNROLL frames of the convolution from ``i_time``, and the window of the next call."""
    for u in tl.static_range(UNROLL):
        b_a, b_b = load_frame(x_ptr, None, i_time, u, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
        window = window + (b_a * sigmoid(b_b),)
    m_channel = i_channel < N_CHANNELS
    b_0 = tl.load(bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_1, b_2, b_3 = b_0, b_0, b_0
    for k in tl.static_range(N_TAPS):
        b_weight = tl.load(weight_ptr + k * N_CHANNELS + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
        b_0 = fma(b_weight, window[k], b_0)
        b_1 = fma(b_weight, window[k + 1], b_1)
        b_2 = fma(b_weight, window[k + 2], b_2)
        b_3 = fma(b_weight, window[k + 3], b_3)
    return stack((b_0, b_1, b_2, b_3)), window[UNROLL:]


@triton.jit
def stack(frames):
    """Four frames ``[BLOCK_C]`` as one ``[BLOCK_C, 4]``; a thread keeps what it has."""
    b_x = tl.join(tl.join(frames[0], frames[2]), tl.join(frames[1], frames[3]))
    return tl.reshape(b_x, (b_x.shape[0], 4))


@triton.jit
def store_frames(y_ptr, b_y, i_time, n_time, i_channel, N_CHANNELS: tl.constexpr):
    """Store ``[BLOCK_C, 4]`` as the frames from ``i_time``."""
    b_02, b_13 = tl.split(tl.reshape(b_y.to(y_ptr.dtype.element_ty), (b_y.shape[0], 2, 2)))
    b_0, b_2 = tl.split(b_02)
    b_1, b_3 = tl.split(b_13)
    frames = (b_0, b_1, b_2, b_3)
    for u in tl.static_range(UNROLL):
        o_y = tl.cast(i_time, tl.int64) * N_CHANNELS + u * N_CHANNELS + i_channel
        tl.store(y_ptr + o_y, frames[u], mask=(i_channel < N_CHANNELS) & (i_time + u < n_time))


@triton.jit
def mean(b_x, N_CHANNELS: tl.constexpr):
    return (tl.sum(b_x, 0) / N_CHANNELS)[None, :]


@triton.jit
def normalise(b_conv, i_channel, N_CHANNELS: tl.constexpr, EPS: tl.constexpr):
    """Frames with mean 0 and variance 1, and the factor that made the variance 1."""
    b_centred = tl.where((i_channel < N_CHANNELS)[:, None], b_conv - mean(b_conv, N_CHANNELS), 0.0)
    b_rstd = 1.0 / tl.sqrt(mean(b_centred * b_centred, N_CHANNELS) + EPS)
    return b_centred * b_rstd, b_rstd


@triton.jit
def load_affine(norm_weight_ptr, norm_bias_ptr, i_channel, N_CHANNELS: tl.constexpr, COMPUTE: tl.constexpr):
    m_channel = i_channel < N_CHANNELS
    b_gain = tl.load(norm_weight_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_shift = tl.load(norm_bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    return b_gain[:, None], b_shift[:, None]
