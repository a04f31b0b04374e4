"""Middle of a Conformer convolution module: ``y = silu(layer_norm(bias + sum_k weight_k * g_{t - (K - 1) + k}))``.

``g = a * sigmoid(b)``, a and b the halves of x (GLU); the convolution is depthwise and causal, the norm is over
channels. Source: Gulati et al., 2020, with the LayerNorm of Wav2Vec2-BERT (Barrault et al., 2023).

Per frame and channel 3 accesses forward (2 reads, 1 write; eager: about 13; gate, convolution and norm as three
kernels: 7) and 2K + 40 float32 operations. A program owns a segment of frames of one sample, all channels. It
slides along time with the last K - 1 gated frames in registers, so each input is loaded and gated once, and takes
four frames at a time: a weight fetched from L1 serves them all, and so does a reduction over channels. A segment
starts by reading the K - 1 frames before it, which L2 holds for the neighbour. Taps are summed in float32, in the
order of time, whatever the segment: a signal in chunks gives, with ``context``, the very bits of the whole.

Backward, two kernels. The first recomputes the convolution as forward does (2 reads; to keep its output would cost
a write, a read and the memory), goes back through SiLU and norm, and stores the gradient at the convolution (1 read,
1 write) in float32, for the norm divides by a deviation and may leave the range of float16. The second slides
over that gradient with K - 1 frames to come in registers, and makes dx (3 reads, 2 writes) and the gradient of the
weights. Gradients of parameters are deterministic: programs, whose number depends on the shape alone and never on
the card, store one partial sum per parameter each, and ``torch.sum`` adds these up.

Registers decide the tile: a thread keeps K + 3 values for each of its channels, 4 where a frame has 128 or more,
which makes accesses of 16 bytes in float32 and 8 in the others. No loop spills up to 1024 channels and 31 taps.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import check_operand, on_device, silu
from ._glu_conv import UNROLL, convolve, gated_before, load_affine, normalise, options, segments, store_frames
from ._glu_conv_norm_silu_backward import glu_conv_norm_silu_backward

MAX_CHANNELS, MAX_TAPS = 2048, 64


@triton.jit
def _glu_conv_norm_silu_fwd_kernel(
    x_ptr, context_ptr, weight_ptr, bias_ptr, norm_weight_ptr, norm_bias_ptr, y_ptr, n_time, n_segments, segment,
    EPS: tl.constexpr, N_CHANNELS: tl.constexpr, N_TAPS: tl.constexpr, COMPUTE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
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
        store_frames(y_ptr, silu(b_hat * b_gain + b_shift), i_time, n_time, i_channel, N_CHANNELS)


@torch.library.custom_op("silk_fast::glu_conv_norm_silu", mutates_args=(), device_types=("cuda", "cpu"))
def glu_conv_norm_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float = 1e-5,
    context: Tensor | None = None,
) -> Tensor:
    """``silu(layer_norm(depthwise_conv(glu(x))))``, causal, computed in float32 (float64 for float64).

    Args:
        x: ``[B, T, 2C]``, T >= 1, any strides (a copy is made unless contiguous); float32, float16, bfloat16 or
            float64. GLU multiplies the first half by the sigmoid of the second.
        weight: ``[C, K]``, depthwise taps, the last at the current frame. A copy is made unless it is the transpose
            of a contiguous ``[K, C]``.
        bias, norm_weight, norm_bias: ``[C]``. The parameters may have any of the dtypes.
        eps: added to the variance. The kernel is compiled for its value, as for C and K.
        context: ``[B, K - 1, 2C]`` in the dtype of ``x``: the frames just before ``x``; None for the start of the
            signal, which is the same as zeros.

    Returns:
        ``[B, T, C]``, contiguous, in the dtype of ``x``; empty if B is 0. Differentiable to every tensor.

    Raises:
        TypeError: a tensor is not floating-point, or ``context`` has not the dtype of ``x``.
        ValueError: ``x`` is not ``[B, T, 2C]`` with T >= 1 and C in 1 .. 2048; ``weight`` is not ``[C, K]`` with K
            in 1 .. 64; another tensor's shape does not fit, or it is on another device.
    """
    _check(x, weight, bias, norm_weight, norm_bias, context)
    n_batch, n_time, _ = x.shape
    y = torch.empty(n_batch, n_time, weight.shape[0], dtype=x.dtype, device=x.device)
    if n_batch:
        constants = options(weight, x.dtype)
        n_segments, segment = segments(n_batch, n_time, constants["num_warps"])
        with on_device("x", x):
            _glu_conv_norm_silu_fwd_kernel[n_batch * n_segments,](
                x.contiguous(),
                None if context is None else context.contiguous(),
                weight.t().contiguous(),
                bias.contiguous(),
                norm_weight.contiguous(),
                norm_bias.contiguous(),
                y,
                n_time,
                n_segments,
                segment,
                EPS=eps,
                **constants,
            )
    return y


def _check(
    x: Tensor, weight: Tensor, bias: Tensor, norm_weight: Tensor, norm_bias: Tensor, context: Tensor | None
) -> None:
    check_operand("x", x, x.shape, x.device)
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] % 2 or not 2 <= x.shape[2] <= 2 * MAX_CHANNELS:
        raise ValueError(f"x must be [B, T, 2C] with T >= 1 and C in 1 .. {MAX_CHANNELS}, got {list(x.shape)}")
    n_channels = x.shape[2] // 2
    if weight.ndim != 2 or not 1 <= weight.shape[1] <= MAX_TAPS:
        raise ValueError(f"weight must be [{n_channels}, K] with K in 1 .. {MAX_TAPS}, got {list(weight.shape)}")
    n_taps = weight.shape[1]
    check_operand("weight", weight, (n_channels, n_taps), x.device)
    check_operand("bias", bias, (n_channels,), x.device)
    check_operand("norm_weight", norm_weight, (n_channels,), x.device)
    check_operand("norm_bias", norm_bias, (n_channels,), x.device)
    if context is not None:
        check_operand("context", context, (x.shape[0], n_taps - 1, x.shape[2]), x.device)
        if context.dtype != x.dtype:
            raise TypeError(f"context must be {x.dtype} as x is, got {context.dtype}")


@glu_conv_norm_silu.register_fake
def _(x, weight, bias, norm_weight, norm_bias, eps=1e-5, context=None):
    _check(x, weight, bias, norm_weight, norm_bias, context)
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[0])


def _setup_context(ctx, inputs, output):
    *parameters, ctx.eps, context = inputs
    ctx.save_for_backward(*parameters, context)


def _backward(ctx, dy: Tensor):
    x, weight, *vectors, context = ctx.saved_tensors
    dx, dweight, sums = glu_conv_norm_silu_backward(dy, x, weight, *vectors, ctx.eps, context)
    dcontext = None
    if context is not None:
        dcontext, dx = dx.split([context.shape[1], x.shape[1]], dim=1)
    dvectors = [s.to(p.dtype) for s, p in zip(sums, vectors, strict=True)]
    return dx, dweight.to(weight.dtype), *dvectors, None, dcontext


glu_conv_norm_silu.register_autograd(_backward, setup_context=_setup_context)
