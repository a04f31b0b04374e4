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
    warp_channels,
)

NORM_WARPS = 2048  # of the first kernel, whose partial sums take at most 2048 * 3 * 128 * 4 bytes = 3 MiB
CONV_WARPS = 1024  # of the second, whose partial sums take at most 1024 * K * 128 * 4 bytes = 8 MiB for 16 taps


@triton.jit
def _glu_conv_norm_silu_bwd_kernel(
    dy_ptr, x_ptr, context_ptr, weight_ptr, bias_ptr, norm_weight_ptr, norm_bias_ptr, dconv_ptr, sums_ptr,
    n_batch, n_time, n_segments, segment,
    EPS: tl.constexpr, N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Back to the convolution. Program p stores ``sums[p]``: for norm_weight, norm_bias and bias."""
    i_channel = tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    b_dgain = tl.zeros((BLOCK_C,), COMPUTE)
    b_dshift = tl.zeros((BLOCK_C,), COMPUTE)
    b_dbias = tl.zeros((BLOCK_C,), COMPUTE)
    for i_segment in range(tl.program_id(0), n_batch * n_segments, tl.num_programs(0)):
        o_batch = (i_segment // n_segments).to(tl.int64) * n_time * N_CHANNELS
        i_start = i_segment % n_segments * segment
        p_x = x_ptr + 2 * o_batch
        p_context = None
        if context_ptr is not None:
            p_context = context_ptr + (i_segment // n_segments).to(tl.int64) * ((N_TAPS - 1) * 2 * N_CHANNELS)
        window = gated_before(p_x, p_context, i_start, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
        for i_time in range(i_start, tl.minimum(i_start + segment, n_time), UNROLL):
            b_conv, window = convolve(
                window, p_x, weight_ptr, bias_ptr, i_time, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE
            )
            b_hat, b_rstd = normalise(b_conv, m_channel[:, None, None], N_CHANNELS, EPS)
            b_gain, b_shift = load_affine(norm_weight_ptr, norm_bias_ptr, i_channel, N_CHANNELS, COMPUTE)
            frames = ()
            for u in tl.static_range(UNROLL):
                p_dy = dy_ptr + o_batch + (i_time + u).to(tl.int64) * N_CHANNELS + i_channel
                b_dy = tl.load(p_dy, mask=m_channel & (i_time + u < n_time), other=0.0).to(COMPUTE)
                frames = frames + (b_dy,)
            b_dv = stack(frames[0], frames[1], frames[2], frames[3]) * silu_slope(b_hat * b_gain + b_shift)
            b_dhat = b_dv * b_gain
            b_along = b_hat * mean(b_dhat * b_hat, N_CHANNELS)  # part of the gradient that changes the variance
            b_dconv = b_rstd * (b_dhat - mean(b_dhat, N_CHANNELS) - b_along)
            b_dgain += tl.sum(tl.sum(b_dv * b_hat, 2), 1)
            b_dshift += tl.sum(tl.sum(b_dv, 2), 1)
            b_dbias += tl.sum(tl.sum(b_dconv, 2), 1)
            store_frames(dconv_ptr + o_batch, b_dconv, i_time, n_time, i_channel, N_CHANNELS)
    p_sum = sums_ptr + tl.program_id(0) * (3 * N_CHANNELS) + i_channel
    tl.store(p_sum, b_dgain, mask=m_channel)
    tl.store(p_sum + N_CHANNELS, b_dshift, mask=m_channel)
    tl.store(p_sum + 2 * N_CHANNELS, b_dbias, mask=m_channel)


@triton.jit
def _load_dconv(dconv_ptr, i_time, n_time, i_channel, N_CHANNELS: tl.constexpr):
    m_dconv = (i_channel < N_CHANNELS) & (i_time >= 0) & (i_time < n_time)
    return tl.load(dconv_ptr + i_time.to(tl.int64) * N_CHANNELS + i_channel, mask=m_dconv, other=0.0)


@triton.jit
def _store_frame(dx_ptr, b_da, b_db, i_time, m_dx, i_channel, N_CHANNELS: tl.constexpr):
    p_dx = dx_ptr + i_time.to(tl.int64) * (2 * N_CHANNELS) + i_channel
    tl.store(p_dx, b_da.to(dx_ptr.dtype.element_ty), mask=m_dx)
    tl.store(p_dx + N_CHANNELS, b_db.to(dx_ptr.dtype.element_ty), mask=m_dx)


@triton.jit
def _glu_conv_bwd_kernel(
    dconv_ptr, x_ptr, context_ptr, weight_ptr, dx_ptr, dcontext_ptr, sums_ptr, n_batch, n_time, n_segments, segment,
    N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Through convolution and gate, for a block of channels. Program (p, c) stores ``sums[p, :, c]``: for the taps."""
    N_BEFORE: tl.constexpr = 0 if context_ptr is None else N_TAPS - 1  # the first segment starts with the context
    i_channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    dweight = ()
    for _ in tl.static_range(N_TAPS):
        dweight = dweight + (tl.zeros((BLOCK_C,), COMPUTE),)
    for i_segment in range(tl.program_id(0), n_batch * n_segments, tl.num_programs(0)):
        i_batch = (i_segment // n_segments).to(tl.int64)
        i_start = i_segment % n_segments * segment - N_BEFORE
        p_dconv = dconv_ptr + i_batch * n_time * N_CHANNELS
        p_x, p_dx = x_ptr + i_batch * n_time * (2 * N_CHANNELS), dx_ptr + i_batch * n_time * (2 * N_CHANNELS)
        p_context, p_dcontext = None, None
        if context_ptr is not None:
            p_context = context_ptr + i_batch * (N_BEFORE * 2 * N_CHANNELS)
            p_dcontext = dcontext_ptr + i_batch * (N_BEFORE * 2 * N_CHANNELS)
        window = ()
        for k in tl.static_range(N_TAPS - 1):
            window = window + (_load_dconv(p_dconv, i_start + k, n_time, i_channel, N_CHANNELS),)
        for i_time in range(i_start, tl.minimum(i_start + segment, n_time), UNROLL):
            frames, gates, dgated = (), (), ()
            for u in tl.static_range(UNROLL):
                i_last = i_time + u + N_TAPS - 1  # of the frames that hear frame i_time + u
                window = window + (_load_dconv(p_dconv, i_last, n_time, i_channel, N_CHANNELS),)
                b_a, b_b = load_frame(p_x, p_context, i_time + u, n_time, i_channel, N_CHANNELS, N_TAPS, COMPUTE)
                frames, gates = frames + (b_a,), gates + (tl.sigmoid(b_b),)
                dgated = dgated + (tl.zeros((BLOCK_C,), COMPUTE),)
            new_dweight = ()
            for k in tl.static_range(N_TAPS):  # window[u + k] is the output that takes frame u with tap K - 1 - k
                p_weight = weight_ptr + (N_TAPS - 1 - k) * N_CHANNELS + i_channel
                b_weight = tl.load(p_weight, mask=m_channel, other=0.0).to(COMPUTE)
                b_dweight = dweight[k]
                new_dgated = ()
                for u in tl.static_range(UNROLL):
                    new_dgated = new_dgated + (dgated[u] + b_weight * window[u + k],)
                    b_dweight += frames[u] * gates[u] * window[u + k]
                dgated, new_dweight = new_dgated, new_dweight + (b_dweight,)
            dweight, window = new_dweight, window[UNROLL:]
            for u in tl.static_range(UNROLL):
                b_da = dgated[u] * gates[u]
                b_db = b_da * frames[u] * (1.0 - gates[u])
                m_dx = m_channel & (i_time + u >= 0) & (i_time + u < n_time)
                _store_frame(p_dx, b_da, b_db, i_time + u, m_dx, i_channel, N_CHANNELS)
                if context_ptr is not None:
                    m_dx = m_channel & (i_time + u < 0)
                    _store_frame(p_dcontext, b_da, b_db, i_time + u + N_BEFORE, m_dx, i_channel, N_CHANNELS)
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, context (empty if that is None), weight, bias, norm_weight and norm_bias."""
    x, dy, taps = x.contiguous(), dy.contiguous(), weight.t().contiguous()
    context = None if context is None else context.contiguous()
    n_batch, n_time, _ = x.shape
    n_channels, n_taps = weight.shape
    n_before = 0 if context is None else n_taps - 1
    dx, dcontext = torch.empty_like(x), torch.empty(n_batch, n_before, 2 * n_channels, dtype=x.dtype, device=x.device)
    sums = {"dtype": sum_dtype(x.dtype), "device": x.device}
    dconv = torch.empty(n_batch, n_time, n_channels, **sums)
    constants = options(weight, x.dtype)

    n_warps = constants["num_warps"]
    n_segments, segment = segments(n_batch, n_time, n_warps)
    n_programs = min(n_batch * n_segments, NORM_WARPS // n_warps)
    norm_sums = torch.empty(n_programs, 3, n_channels, **sums)
    with on_device(x):
        if n_batch:
            _glu_conv_norm_silu_bwd_kernel[n_programs,](
                dy,
                x,
                context,
                taps,
                bias.contiguous(),
                norm_weight.contiguous(),
                norm_bias.contiguous(),
                dconv,
                norm_sums,
                n_batch,
                n_time,
                n_segments,
                segment,
                EPS=eps,
                **constants,
            )

    constants |= {"BLOCK_C": min(constants["BLOCK_C"], warp_channels(n_taps)), "num_warps": 1}
    n_blocks = triton.cdiv(n_channels, constants["BLOCK_C"])
    n_segments, segment = segments(n_batch, n_time + n_before, n_blocks)
    n_programs = min(n_batch * n_segments, CONV_WARPS // n_blocks)
    tap_sums = torch.empty(n_programs, n_taps, n_channels, **sums)
    with on_device(x):
        if n_batch:
            _glu_conv_bwd_kernel[n_programs, n_blocks](
                dconv, x, context, taps, dx, dcontext, tap_sums, n_batch, n_time, n_segments, segment, **constants
            )

    dgain, dshift, dbias = norm_sums.sum(0)
    dweight = tap_sums.sum(0).t().contiguous()
    return (
        dx,
        dcontext,
        dweight.to(weight.dtype),
        dbias.to(bias.dtype, copy=True),
        dgain.to(norm_weight.dtype, copy=True),
        dshift.to(norm_bias.dtype, copy=True),
    )


@glu_conv_norm_silu_backward.register_fake
def _(dy, x, weight, bias, norm_weight, norm_bias, eps, context):
    n_before = 0 if context is None else weight.shape[1] - 1
    parameters = (
        torch.empty_like(p, memory_format=torch.contiguous_format) for p in (weight, bias, norm_weight, norm_bias)
    )
    return (
        torch.empty_like(x, memory_format=torch.contiguous_format),
        x.new_empty(x.shape[0], n_before, x.shape[2]),
        *parameters,
    )
