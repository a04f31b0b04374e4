"""Launches of ``glu_conv_norm_silu``: segments, partial sums, registration, the public function."""

from typing import Any

import torch
import triton
from torch import Tensor

from .._launch import (
    AS_WRITTEN,
    check_dtype,
    check_operand,
    compute_dtype,
    contiguous,
    define_op,
    on_device,
    wide_dtype,
)
from .backward import _glu_conv_bwd_kernel, _glu_conv_norm_silu_bwd_kernel
from .forward import _glu_conv_norm_silu_fwd_kernel

MAX_CHANNELS, MAX_TAPS = 2048, 64
SEGMENTS = (16, 32, 64)  # frames per segment, multiples of UNROLL
WARPS = 8192  # that fill any card some times over; segments grow beyond
CONV_PROGRAMS = 1024  # of the second backward kernel; partial sums take at most 1024 * 16 * 128 * 4 bytes for 16 taps


def _options(weight: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    """Choose constants of a launch over whole frames."""
    n_channels, n_taps = weight.shape
    block_c = triton.next_power_of_2(n_channels)
    return {
        "N_CHANNELS": n_channels,
        "N_TAPS": n_taps,
        "COMPUTE": compute_dtype(dtype),
        "BLOCK_C": block_c,
        "num_warps": min(max(block_c // 128, 1), 16),
        **AS_WRITTEN,
    }


def _segments(n_batch: int, n_time: int, n_warps: int) -> tuple[int, int]:
    """Choose segments per sample, ``n_warps`` each, and their frames: short while there are few, to fill the card."""
    for segment in SEGMENTS:
        n_segments = triton.cdiv(n_time, segment)
        if n_batch * n_segments * n_warps <= WARPS:
            break
    return n_segments, segment


@define_op("glu_conv_norm_silu")
def glu_conv_norm_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float = 1e-5,
    context: Tensor | None = None,
) -> Tensor:
    """Compute ``silu(layer_norm(depthwise_conv(glu(x))))``, causal, computed in float32 (float64 for float64).

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
        constants = _options(weight, x.dtype)
        n_segments, segment = _segments(n_batch, n_time, constants["num_warps"])
        with on_device("x", x):
            _glu_conv_norm_silu_fwd_kernel[n_batch * n_segments,](
                x.contiguous(),
                contiguous(context),
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
    check_dtype("x", x)
    if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] % 2 or not 2 <= x.shape[2] <= 2 * MAX_CHANNELS:
        raise ValueError(f"x must be [B, T, 2C] with T >= 1 and C in 1 .. {MAX_CHANNELS}, got {list(x.shape)}")
    n_channels = x.shape[2] // 2
    if weight.ndim != 2 or not 1 <= weight.shape[1] <= MAX_TAPS:
        raise ValueError(f"weight must be [{n_channels}, K] with K in 1 .. {MAX_TAPS}, got {list(weight.shape)}")
    n_taps = weight.shape[1]
    check_operand("weight", weight, (n_channels, n_taps), x)
    check_operand("bias", bias, (n_channels,), x)
    check_operand("norm_weight", norm_weight, (n_channels,), x)
    check_operand("norm_bias", norm_bias, (n_channels,), x)
    if context is not None:
        check_operand("context", context, (x.shape[0], n_taps - 1, x.shape[2]), x, dtypes=None)


@define_op("glu_conv_norm_silu_backward")
def _glu_conv_norm_silu_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    context: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of context and x ``[B, K - 1 + T, 2C]``, of weight, and ``[3, C]`` of the vectors."""
    n_batch, n_time, _ = x.shape
    n_channels, n_taps = weight.shape
    x, taps = x.contiguous(), weight.t().contiguous()
    context = contiguous(context)
    extended = x if context is None else torch.cat([context, x], dim=1)
    n_extended = extended.shape[1]
    dx = torch.empty_like(extended)
    sums: dict[str, Any] = {"dtype": wide_dtype(x.dtype), "device": x.device}
    if not n_batch:
        return dx, torch.zeros(n_channels, n_taps, **sums), torch.zeros(3, n_channels, **sums)

    constants = _options(weight, x.dtype)
    n_segments, segment = _segments(n_batch, n_time, constants["num_warps"])
    dconv = torch.empty(n_batch, n_time, n_channels, **sums)
    vector_sums = torch.empty(n_batch * n_segments, 3, n_channels, **sums)
    # With no limit stated, the assembler spills a few bytes of float32 for one warp more on each SM.
    limit = {"maxnreg": min(2048 // constants["num_warps"], 255)} if x.dtype.itemsize > 2 else {}
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
            **limit,
        )

    # One warp; the sums for the taps need as many registers as the window: four channels a thread up to 16 taps.
    constants |= {"BLOCK_C": min(constants["BLOCK_C"], 128 if n_taps <= 16 else 64), "num_warps": 1}
    n_blocks = triton.cdiv(n_channels, constants["BLOCK_C"])
    n_segments, segment = _segments(n_batch, n_extended, n_blocks)
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


@glu_conv_norm_silu.register_fake
def _(x, weight, bias, norm_weight, norm_bias, eps=1e-5, context=None):
    _check(x, weight, bias, norm_weight, norm_bias, context)
    return x.new_empty(x.shape[0], x.shape[1], weight.shape[0])


@_glu_conv_norm_silu_backward.register_fake
def _(dy, x, weight, bias, norm_weight, norm_bias, eps, context):
    n_extended = x.shape[1] + (0 if context is None else context.shape[1])
    return (
        x.new_empty(x.shape[0], n_extended, x.shape[2]),
        x.new_empty(weight.shape, dtype=wide_dtype(x.dtype)),
        x.new_empty(3, weight.shape[0], dtype=wide_dtype(x.dtype)),
    )


def _setup_context(ctx, inputs, output):
    *parameters, ctx.eps, context = inputs
    ctx.save_for_backward(*parameters, context)


def _backward(ctx, dy: Tensor):
    x, weight, *vectors, context = ctx.saved_tensors
    dx, dweight, sums = _glu_conv_norm_silu_backward(dy, x, weight, *vectors, ctx.eps, context)
    dcontext = None
    if context is not None:
        dcontext, dx = dx.split([context.shape[1], x.shape[1]], dim=1)
    dvectors = [s.to(p.dtype) for s, p in zip(sums, vectors, strict=True)]
    return dx, dweight.to(weight.dtype), *dvectors, None, dcontext


glu_conv_norm_silu.register_autograd(_backward, setup_context=_setup_context)
