"""What the kernels of ``glu_conv_norm_silu`` share: the window of gated frames that slides along time."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import compute_dtype

UNROLL = tl.constexpr(4)  # frames at a time
SEGMENTS = (16, 32, 64)  # frames per segment, multiples of UNROLL
WARPS = 8192  # that fill any card some times over; segments grow beyond


@triton.jit
def load_frame(
    x_ptr, context_ptr, i_time, n_time, i_channel, N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr
):
    """Both halves of a frame; those before the signal come from the context, others outside it are zeros."""
    m_x = (i_channel < N_CHANNELS) & (i_time >= 0) & (i_time < n_time)
    p_x = x_ptr + i_time.to(tl.int64) * (2 * N_CHANNELS) + i_channel
    b_a = tl.load(p_x, mask=m_x, other=0.0).to(COMPUTE)
    b_b = tl.load(p_x + N_CHANNELS, mask=m_x, other=0.0).to(COMPUTE)
    if context_ptr is not None:
        m_x = (i_channel < N_CHANNELS) & (i_time < 0)
        p_x = context_ptr + (i_time + N_TAPS - 1).to(tl.int64) * (2 * N_CHANNELS) + i_channel
        b_a += tl.load(p_x, mask=m_x, other=0.0).to(COMPUTE)
        b_b += tl.load(p_x + N_CHANNELS, mask=m_x, other=0.0).to(COMPUTE)
    return b_a, b_b


@triton.jit
def gated_before(
    x_ptr, context_ptr, i_time, n_time, i_channel, N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr
):
    """The K - 1 gated frames before ``i_time``, a tuple."""
    window = ()
    for k in tl.static_range(N_TAPS - 1):
        i_frame = i_time - (N_TAPS - 1) + k
        b_a, b_b = load_frame(x_ptr, context_ptr, i_frame, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
        window = window + (b_a * tl.sigmoid(b_b),)
    return window


@triton.jit
def convolve(
    window, x_ptr, weight_ptr, bias_ptr, i_time, n_time, i_channel,
    N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """UNROLL frames of the convolution from ``i_time``, stacked, and the window of the next call."""
    for u in tl.static_range(UNROLL):
        b_a, b_b = load_frame(x_ptr, None, i_time + u, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
        window = window + (b_a * tl.sigmoid(b_b),)
    m_channel = i_channel < N_CHANNELS
    b_0 = tl.load(bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_1, b_2, b_3 = b_0, b_0, b_0
    for k in tl.static_range(N_TAPS):
        b_weight = tl.load(weight_ptr + k * N_CHANNELS + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
        b_0 += b_weight * window[k]
        b_1 += b_weight * window[k + 1]
        b_2 += b_weight * window[k + 2]
        b_3 += b_weight * window[k + 3]
    return stack(b_0, b_1, b_2, b_3), window[UNROLL:]


@triton.jit
def stack(b_0, b_1, b_2, b_3):
    """Four frames ``[BLOCK_C]`` as one ``[BLOCK_C, 2, 2]``."""
    return tl.join(tl.join(b_0, b_2), tl.join(b_1, b_3))


@triton.jit
def _unstack(b_x):
    b_02, b_13 = tl.split(b_x)
    b_0, b_2 = tl.split(b_02)
    b_1, b_3 = tl.split(b_13)
    return b_0, b_1, b_2, b_3


@triton.jit
def mean(b_x, N_CHANNELS: tl.constexpr):
    return (tl.sum(b_x, 0) / N_CHANNELS)[None, :, :]


@triton.jit
def normalise(b_conv, m_channel, N_CHANNELS: tl.constexpr, EPS: tl.constexpr):
    """Frames with mean 0 and variance 1, and the factor that made the variance 1."""
    b_centred = tl.where(m_channel, b_conv - mean(b_conv, N_CHANNELS), 0.0)
    b_rstd = 1.0 / tl.sqrt(mean(b_centred * b_centred, N_CHANNELS) + EPS)
    return b_centred * b_rstd, b_rstd


@triton.jit
def load_affine(norm_weight_ptr, norm_bias_ptr, i_channel, N_CHANNELS: tl.constexpr, COMPUTE: tl.constexpr):
    m_channel = i_channel < N_CHANNELS
    b_gain = tl.load(norm_weight_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_shift = tl.load(norm_bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    return b_gain[:, None, None], b_shift[:, None, None]


@triton.jit
def store_frames(y_ptr, b_y, i_time, n_time, i_channel, N_CHANNELS: tl.constexpr):
    frames = _unstack(b_y.to(y_ptr.dtype.element_ty))
    for u in tl.static_range(UNROLL):
        m_y = (i_channel < N_CHANNELS) & (i_time + u < n_time)
        tl.store(y_ptr + (i_time + u).to(tl.int64) * N_CHANNELS + i_channel, frames[u], mask=m_y)


def options(weight: Tensor, dtype: torch.dtype) -> dict:
    """Constants of a launch over whole frames."""
    n_channels, n_taps = weight.shape
    block_c = triton.next_power_of_2(n_channels)
    return {
        "N_CHANNELS": n_channels,
        "N_TAPS": n_taps,
        "COMPUTE": compute_dtype(dtype),
        "BLOCK_C": block_c,
        "num_warps": min(max(block_c // warp_channels(n_taps), 1), 16),
        "enable_fp_fusion": True,
    }


def warp_channels(n_taps: int) -> int:
    """Channels of one warp: a thread keeps four up to 16 taps, else two."""
    return 128 if n_taps <= 16 else 64


def segments(n_batch: int, n_time: int, n_warps: int) -> tuple[int, int]:
    """Segments per sample and their frames, for ``n_warps`` a segment: short while there are few, to fill the card."""
    for segment in SEGMENTS:
        n_segments = triton.cdiv(n_time, segment)
        if n_batch * n_segments * n_warps <= WARPS:
            break
    return n_segments, segment
