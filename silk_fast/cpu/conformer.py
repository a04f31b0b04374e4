"""The memory-bound operations of a Conformer (Gulati et al., 2020): ``conformer.c``."""

import torch
from torch import Tensor

from silk_fast.cpu.checks import address, check_dtype, is_half, operand, parameters, threads
from silk_fast.cpu.library import load

MAX_CHANNELS, MAX_TAPS = 2048, 64  # of glu_conv_norm_silu


def bias_silu(x: Tensor, bias: Tensor) -> Tensor:
    """Apply SiLU to ``x + bias``.

    Args:
        x: ``[..., C]``.
        bias: ``[C]``.

    Returns:
        ``[..., C]``.
    """
    check_dtype("x", x)
    if not x.ndim:
        raise ValueError("x must be [..., C], got no dimension")
    shape = x.shape
    x, bias, n_channels = x.contiguous(), parameters("bias", bias, shape[-1]), shape[-1]
    y = torch.empty_like(x)
    if n_elements := y.numel():
        load().silk_bias_silu(
            *(x.data_ptr(), bias.data_ptr(), y.data_ptr(), n_elements // n_channels, n_channels),
            *(is_half(x), threads(n_elements)),
        )
    return y


def add_layer_norm(
    x: Tensor, residual: Tensor, scale: float, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Add ``x + scale * residual`` and normalise the sum, as it is stored, over the last dimension (LayerNorm).

    Args:
        x, residual: ``[..., C]``, not necessarily alike: under autocast a float32 signal meets a bfloat16 residual.
        scale: factor on ``residual``.
        weight, bias: ``[C]``, affine of the norm.
        eps: added to the variance.

    Returns:
        (sum, normalised sum), each ``[..., C]``, in the dtype of ``x + residual``.
    """
    check_dtype("x", x)
    if not x.ndim:
        raise ValueError("x must be [..., C], got no dimension")
    shape = x.shape
    n_channels = shape[-1]
    if residual.dtype != x.dtype:
        check_dtype("residual", residual)
        x, residual = x.float(), residual.float()
    x, residual = x.contiguous(), operand("residual", residual, shape, x)
    weight, bias = parameters("weight", weight, n_channels), parameters("bias", bias, n_channels)
    total, normed = torch.empty_like(x), torch.empty_like(x)
    if n_elements := x.numel():
        load().silk_add_layer_norm(
            *(x.data_ptr(), residual.data_ptr(), weight.data_ptr(), bias.data_ptr()),
            *(total.data_ptr(), normed.data_ptr(), n_elements // n_channels, n_channels, scale, eps),
            *(is_half(x), threads(n_elements)),
        )
    return total, normed


def glu_conv_norm_silu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float = 1e-5,
    context: Tensor | None = None,
) -> Tensor:
    """Compute ``silu(layer_norm(depthwise_conv(glu(x))))``, causal; chunks give the very bits of the whole.

    Args:
        x: ``[B, T, 2C]``, C in 1 .. 2048.
        weight: ``[C, K]``, K in 1 .. 64, depthwise taps, the last at the current frame. A copy is made unless it is
            the transpose of a contiguous ``[K, C]``.
        bias, norm_weight, norm_bias: ``[C]``.
        eps: added to the variance.
        context: ``[B, K - 1, 2C]`` in the dtype of ``x``: the frames just before ``x``; None for the start of the
            signal, which is the same as zeros.

    Returns:
        ``[B, T, C]``.
    """
    check_dtype("x", x)
    if x.ndim != 3 or x.shape[2] % 2 or not 2 <= x.shape[2] <= 2 * MAX_CHANNELS:
        raise ValueError(f"x must be [B, T, 2C] with C in 1 .. {MAX_CHANNELS}, got {list(x.shape)}")
    n_batch, n_time, n_both = x.shape
    n_channels = n_both // 2
    if weight.ndim != 2 or weight.shape[0] != n_channels or not 1 <= weight.shape[1] <= MAX_TAPS:
        raise ValueError(f"weight must be [{n_channels}, K] with K in 1 .. {MAX_TAPS}, got {list(weight.shape)}")
    n_taps = weight.shape[1]
    taps, bias = parameters("weight", weight.t(), n_taps, n_channels), parameters("bias", bias, n_channels)
    norm_weight = parameters("norm_weight", norm_weight, n_channels)
    norm_bias = parameters("norm_bias", norm_bias, n_channels)
    if context is not None:
        context = operand("context", context, (n_batch, n_taps - 1, n_both), x)
    x = x.contiguous()
    y = x.new_empty((n_batch, n_time, n_channels))
    gated = x.new_empty((n_batch, n_taps - 1 + n_time, n_channels), dtype=torch.float32)
    if y.numel():
        load().silk_glu_conv_norm_silu(
            *(x.data_ptr(), address(context), taps.data_ptr(), bias.data_ptr()),
            *(norm_weight.data_ptr(), norm_bias.data_ptr(), gated.data_ptr(), y.data_ptr()),
            *(n_batch, n_time, n_channels, n_taps, eps, is_half(x), threads(gated.numel() * n_taps // 8)),
        )
    return y
