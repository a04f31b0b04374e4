"""GLU, depthwise convolution, LayerNorm and SiLU, forward: one pass over the frames of a segment.

A program slides along time with the last K - 1 gated frames in registers, so each input is loaded and gated once, and
takes four frames at a time: a weight fetched from L1 serves them all, and so does a reduction over channels. A segment
starts by reading the K - 1 frames before it, which L2 holds for the neighbour. Taps are summed in float32, in the
order of time, whatever the segment: a signal in chunks gives, with ``context``, the very bits of the whole.
"""

import triton
import triton.language as tl

from .._math import fma, silu
from .window import UNROLL, convolve, gated_before, load_affine, normalise, store_frames


@triton.jit
def _glu_conv_norm_silu_fwd_kernel(
    x_ptr,
    context_ptr,
    weight_ptr,
    bias_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    y_ptr,
    n_time,
    n_segments,
    segment,
    EPS: tl.constexpr,
    N_CHANNELS: tl.constexpr,
    N_TAPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    i_batch = (tl.program_id(0) // n_segments).to(tl.int64)
    i_start = tl.program_id(0) % n_segments * segment
    x_ptr += i_batch * n_time * (2 * N_CHANNELS)
    y_ptr += i_batch * n_time * N_CHANNELS
    if context_ptr is not None:
        context_ptr += i_batch * ((N_TAPS - 1) * 2 * N_CHANNELS)
    i_channel = tl.arange(0, BLOCK_C)
    window = gated_before(x_ptr, context_ptr, i_start, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
    for i_time in range(i_start, tl.minimum(i_start + segment, n_time), UNROLL):
        b_conv, window = convolve(
            window, x_ptr, weight_ptr, bias_ptr, i_time, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE
        )
        b_hat, _ = normalise(b_conv, i_channel, N_CHANNELS, EPS)
        b_gain, b_shift = load_affine(norm_weight_ptr, norm_bias_ptr, i_channel, N_CHANNELS, COMPUTE)
        store_frames(y_ptr, silu(fma(b_hat, b_gain, b_shift)), i_time, n_time, i_channel, N_CHANNELS)
