"""GLU, depthwise convolution, LayerNorm and SiLU, backward: two kernels.

The first recomputes the convolution as forward does (2 reads; to keep its output would cost a write, a read and the
memory), goes back through SiLU and norm, and stores the gradient at the convolution (1 read, 1 write) in float32, for
the norm divides by a deviation and may leave the range of float16. The second slides over that gradient with K - 1
frames to come in registers, and makes dx (3 reads, 2 writes) and the gradient of the weights. Gradients of parameters
are deterministic: programs, whose number depends on the shape alone and never on the card, store one partial sum per
parameter each, and ``torch.sum`` adds these up.
"""

import triton
import triton.language as tl

from .._math import fma, sigmoid, silu_slope
from .window import UNROLL, convolve, gated_before, load_affine, load_frame, mean, normalise, stack, store_frames


@triton.jit
def _glu_conv_norm_silu_bwd_kernel(
    dy_ptr,
    x_ptr,
    context_ptr,
    weight_ptr,
    bias_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    dconv_ptr,
    sums_ptr,
    n_time,
    n_segments,
    segment,
    EPS: tl.constexpr,
    N_CHANNELS: tl.constexpr,
    N_TAPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Back to the convolution. Program p stores ``sums[p]``: for bias, norm_weight and norm_bias."""
    i_batch = (tl.program_id(0) // n_segments).to(tl.int64)
    i_start = tl.program_id(0) % n_segments * segment
    x_ptr += i_batch * n_time * (2 * N_CHANNELS)
    dy_ptr += i_batch * n_time * N_CHANNELS
    dconv_ptr += i_batch * n_time * N_CHANNELS
    if context_ptr is not None:
        context_ptr += i_batch * ((N_TAPS - 1) * 2 * N_CHANNELS)
    i_channel = tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    b_dbias = tl.zeros((BLOCK_C,), COMPUTE)
    b_dgain = tl.zeros((BLOCK_C,), COMPUTE)
    b_dshift = tl.zeros((BLOCK_C,), COMPUTE)
    window = gated_before(x_ptr, context_ptr, i_start, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
    for i_time in range(i_start, tl.minimum(i_start + segment, n_time), UNROLL):
        b_conv, window = convolve(
            window, x_ptr, weight_ptr, bias_ptr, i_time, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE
        )
        frames: tl.tuple = ()  # loaded late, for registers are scarce while the taps are summed
        for u in tl.static_range(UNROLL):
            o_dy = tl.cast(i_time, tl.int64) * N_CHANNELS + u * N_CHANNELS + i_channel
            b_dy = tl.load(dy_ptr + o_dy, mask=m_channel & (i_time + u < n_time), other=0.0).to(COMPUTE)
            frames = frames + (b_dy,)
        b_hat, b_rstd = normalise(b_conv, i_channel, N_CHANNELS, EPS)
        b_gain, b_shift = load_affine(norm_weight_ptr, norm_bias_ptr, i_channel, N_CHANNELS, COMPUTE)
        b_dv = stack(frames) * silu_slope(fma(b_hat, b_gain, b_shift))
        b_dhat = b_dv * b_gain
        b_along = mean(b_dhat * b_hat, N_CHANNELS)  # the part that would change the variance
        b_dconv = b_rstd * fma(-b_hat, b_along, b_dhat - mean(b_dhat, N_CHANNELS))
        b_dbias += tl.sum(b_dconv, 1)
        b_dgain += tl.sum(b_dv * b_hat, 1)
        b_dshift += tl.sum(b_dv, 1)
        store_frames(dconv_ptr, b_dconv, i_time, n_time, i_channel, N_CHANNELS)
    p_sum = sums_ptr + tl.program_id(0).to(tl.int64) * (3 * N_CHANNELS) + i_channel
    tl.store(p_sum, b_dbias, mask=m_channel)
    tl.store(p_sum + N_CHANNELS, b_dgain, mask=m_channel)
    tl.store(p_sum + 2 * N_CHANNELS, b_dshift, mask=m_channel)


@triton.jit
def _load_dconv(dconv_ptr, i_time, AHEAD: tl.constexpr, n_time, i_channel, N_CHANNELS: tl.constexpr):
    """The gradient at frame ``i_time + AHEAD`` of the convolution, zeros outside the signal."""
    m_dconv = (i_channel < N_CHANNELS) & (i_time + AHEAD >= 0) & (i_time + AHEAD < n_time)
    o_dconv = tl.cast(i_time, tl.int64) * N_CHANNELS + AHEAD * N_CHANNELS + i_channel
    return tl.load(dconv_ptr + o_dconv, mask=m_dconv, other=0.0)


@triton.jit
def _glu_conv_bwd_kernel(
    dconv_ptr,
    x_ptr,
    weight_ptr,
    dx_ptr,
    sums_ptr,
    n_batch,
    n_time,
    n_before,
    n_segments,
    segment,
    N_CHANNELS: tl.constexpr,
    N_TAPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Through convolution and gate, for the ``n_time`` frames of x, of which ``n_before`` precede the convolution.

    Program (p, c) takes segments p, p + n, ... of a block of channels, and stores ``sums[p, :, c]``, for the taps.
    """
    i_channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    dweight: tl.tuple = ()
    for _ in tl.static_range(N_TAPS):
        dweight = dweight + (tl.zeros((BLOCK_C,), COMPUTE),)
    for i_segment in range(tl.program_id(0), n_batch * n_segments, tl.num_programs(0)):
        i_batch = tl.cast(i_segment // n_segments, tl.int64)
        i_start = i_segment % n_segments * segment
        p_x, p_dx = x_ptr + i_batch * n_time * (2 * N_CHANNELS), dx_ptr + i_batch * n_time * (2 * N_CHANNELS)
        p_dconv, n_conv = dconv_ptr + i_batch * (n_time - n_before) * N_CHANNELS, n_time - n_before
        window: tl.tuple = ()
        for k in tl.static_range(N_TAPS - 1):
            window = window + (_load_dconv(p_dconv, i_start - n_before, k, n_conv, i_channel, N_CHANNELS),)
        for i_time in range(i_start, tl.minimum(i_start + segment, n_time), UNROLL):
            frames: tl.tuple = ()
            gates: tl.tuple = ()
            dgated: tl.tuple = ()
            for u in tl.static_range(UNROLL):
                b_a, b_b = load_frame(p_x, None, i_time, u, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
                frames, gates = frames + (b_a,), gates + (sigmoid(b_b),)
                dgated = dgated + (tl.zeros((BLOCK_C,), COMPUTE),)
                b_dconv = _load_dconv(p_dconv, i_time - n_before, u + N_TAPS - 1, n_conv, i_channel, N_CHANNELS)
                window = window + (b_dconv,)
            new_dweight: tl.tuple = ()
            for k in tl.static_range(N_TAPS):  # output window[u + k] hears frame u through tap K - 1 - k
                p_weight = weight_ptr + (N_TAPS - 1 - k) * N_CHANNELS + i_channel
                b_weight = tl.load(p_weight, mask=m_channel, other=0.0).to(COMPUTE)
                b_dweight = dweight[k]
                new_dgated: tl.tuple = ()
                for u in tl.static_range(UNROLL):
                    new_dgated = new_dgated + (fma(b_weight, window[u + k], dgated[u]),)
                    if BLOCK_C == 128:  # four channels a thread: fused, the sums would not fit the registers of sm_80
                        b_dweight += frames[u] * gates[u] * window[u + k]
                    else:
                        b_dweight = fma(frames[u] * gates[u], window[u + k], b_dweight)
                dgated, new_dweight = new_dgated, new_dweight + (b_dweight,)
            dweight, window = new_dweight, window[UNROLL:]
            for u in tl.static_range(UNROLL):
                b_da = dgated[u] * gates[u]
                b_db = b_da * frames[u] * (1.0 - gates[u])
                o_dx = tl.cast(i_time, tl.int64) * (2 * N_CHANNELS) + u * (2 * N_CHANNELS) + i_channel
                m_dx = m_channel & (i_time + u < n_time)
                tl.store(p_dx + o_dx, b_da.to(dx_ptr.dtype.element_ty), mask=m_dx)
                tl.store(p_dx + o_dx + N_CHANNELS, b_db.to(dx_ptr.dtype.element_ty), mask=m_dx)
    for k in tl.static_range(N_TAPS):
        p_sum = sums_ptr + (tl.program_id(0) * N_TAPS + N_TAPS - 1 - k) * N_CHANNELS + i_channel
        tl.store(p_sum, dweight[k], mask=m_channel)
