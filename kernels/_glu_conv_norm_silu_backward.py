"""The way back through ``glu_conv_norm_silu``, whose file explains both kernels."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import on_device, silu_slope, sum_dtype
from ._glu_conv import (
    UNROLL,
    convolve,
    gated_before,
    load_affine,
    load_frame,
    mean,
    normalise,
    options,
    segments,
    stack,
    store_frames,
)

CONV_PROGRAMS = 1024  # of the second kernel; partial sums take at most 1024 * 16 * 128 * 4 bytes = 8 MiB for 16 taps


@triton.jit
def _glu_conv_norm_silu_bwd_kernel(
    dy_ptr, x_ptr, context_ptr, weight_ptr, bias_ptr, norm_weight_ptr, norm_bias_ptr, dconv_ptr, sums_ptr,
    n_time, n_segments, segment,
    EPS: tl.constexpr, N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
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
        frames = ()  # loaded late, for registers are scarce while the taps are summed
        for u in tl.static_range(UNROLL):
            o_dy = tl.cast(i_time, tl.int64) * N_CHANNELS + u * N_CHANNELS + i_channel
            b_dy = tl.load(dy_ptr + o_dy, mask=m_channel & (i_time + u < n_time), other=0.0).to(COMPUTE)
            frames = frames + (b_dy,)
        b_hat, b_rstd = normalise(b_conv, i_channel, N_CHANNELS, EPS)
        b_gain, b_shift = load_affine(norm_weight_ptr, norm_bias_ptr, i_channel, N_CHANNELS, COMPUTE)
        b_dv = stack(frames) * silu_slope(b_hat * b_gain + b_shift)
        b_dhat = b_dv * b_gain
        b_along = b_hat * mean(b_dhat * b_hat, N_CHANNELS)  # the part that would change the variance
        b_dconv = b_rstd * (b_dhat - mean(b_dhat, N_CHANNELS) - b_along)
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
    dconv_ptr, x_ptr, weight_ptr, dx_ptr, sums_ptr, n_batch, n_time, n_before, n_segments, segment,
    N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Through convolution and gate, for the ``n_time`` frames of x, of which ``n_before`` precede the convolution.

    Program (p, c) takes segments p, p + n, ... of a block of channels, and stores ``sums[p, :, c]``, for the taps.
    """
    i_channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    dweight = ()
    for _ in tl.static_range(N_TAPS):
        dweight = dweight + (tl.zeros((BLOCK_C,), COMPUTE),)
    for i_segment in range(tl.program_id(0), n_batch * n_segments, tl.num_programs(0)):
        i_batch = tl.cast(i_segment // n_segments, tl.int64)
        i_start = i_segment % n_segments * segment
        p_x, p_dx = x_ptr + i_batch * n_time * (2 * N_CHANNELS), dx_ptr + i_batch * n_time * (2 * N_CHANNELS)
        p_dconv, n_conv = dconv_ptr + i_batch * (n_time - n_before) * N_CHANNELS, n_time - n_before
        window = ()
        for k in tl.static_range(N_TAPS - 1):
            window = window + (_load_dconv(p_dconv, i_start - n_before, k, n_conv, i_channel, N_CHANNELS),)
        for i_time in range(i_start, tl.minimum(i_start + segment, n_time), UNROLL):
            frames, gates, dgated = (), (), ()
            for u in tl.static_range(UNROLL):
                b_a, b_b = load_frame(p_x, None, i_time, u, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
                frames, gates = frames + (b_a,), gates + (tl.sigmoid(b_b),)
                dgated = dgated + (tl.zeros((BLOCK_C,), COMPUTE),)
                b_dconv = _load_dconv(p_dconv, i_time - n_before, u + N_TAPS - 1, n_conv, i_channel, N_CHANNELS)
                window = window + (b_dconv,)
            new_dweight = ()
            for k in tl.static_range(N_TAPS):  # output window[u + k] hears frame u through tap K - 1 - k
                p_weight = weight_ptr + (N_TAPS - 1 - k) * N_CHANNELS + i_channel
                b_weight = tl.load(p_weight, mask=m_channel, other=0.0).to(COMPUTE)
                b_dweight, new_dgated = dweight[k], ()
                for u in tl.static_range(UNROLL):
                    new_dgated = new_dgated + (dgated[u] + b_weight * window[u + k],)
                    b_dweight += frames[u] * gates[u] * window[u + k]
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


@torch.library.custom_op("silk_fast::glu_conv_norm_silu_backward", mutates_args=(), device_types=("cuda", "cpu"))
def glu_conv_norm_silu_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    context: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of context and x ``[B, K - 1 + T, 2C]`` (of x, without context), weight, and ``[3, C]`` the vectors."""
    n_batch, n_time, _ = x.shape
    n_channels, n_taps = weight.shape
    x, taps = x.contiguous(), weight.t().contiguous()
    context = None if context is None else context.contiguous()
    extended = x if context is None else torch.cat([context, x], dim=1)
    n_extended = extended.shape[1]
    dx = torch.empty_like(extended)
    sums = {"dtype": sum_dtype(x.dtype), "device": x.device}
    if not n_batch:
        return dx, torch.zeros(n_channels, n_taps, **sums), torch.zeros(3, n_channels, **sums)

    constants = options(weight, x.dtype)
    n_segments, segment = segments(n_batch, n_time, constants["num_warps"])
    dconv = torch.empty(n_batch, n_time, n_channels, **sums)
    vector_sums = torch.empty(n_batch * n_segments, 3, n_channels, **sums)
    with on_device("x", x):
        _glu_conv_norm_silu_bwd_kernel[n_batch * n_segments,](
            dy.contiguous(),
            x,
            context,
            taps,
            bias.contiguous(),
            norm_weight.contiguous(),
            norm_bias.contiguous(),
            dconv,
            vector_sums,
            n_time,
            n_segments,
            segment,
            EPS=eps,
            **constants,
        )

    # One warp; the sums for the taps need as many registers as the window: four channels a thread up to 16 taps.
    constants |= {"BLOCK_C": min(constants["BLOCK_C"], 128 if n_taps <= 16 else 64), "num_warps": 1}
    n_blocks = triton.cdiv(n_channels, constants["BLOCK_C"])
    n_segments, segment = segments(n_batch, n_extended, n_blocks)
    n_programs = min(n_batch * n_segments, CONV_PROGRAMS // n_blocks)
    tap_sums = torch.empty(n_programs, n_taps, n_channels, **sums)
    with on_device("x", x):
        _glu_conv_bwd_kernel[n_programs, n_blocks](
            dconv,
            extended,
            taps,
            dx,
            tap_sums,
            n_batch,
            n_extended,
            n_extended - n_time,
            n_segments,
            segment,
            **constants,
        )
    return dx, tap_sums.sum(0).t().contiguous(), vector_sums.sum(0)


@glu_conv_norm_silu_backward.register_fake
def _(dy, x, weight, bias, norm_weight, norm_bias, eps, context):
    n_extended = x.shape[1] + (0 if context is None else context.shape[1])
    return (
        x.new_empty(x.shape[0], n_extended, x.shape[2]),
        x.new_empty(weight.shape, dtype=sum_dtype(x.dtype)),
        x.new_empty(3, weight.shape[0], dtype=sum_dtype(x.dtype)),
    )
