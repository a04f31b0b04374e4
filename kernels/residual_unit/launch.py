"""Launches of the residual unit: which form serves, registration, the public functions. Inference only."""

from typing import Literal

import torch
import triton
from torch import Tensor

from .._launch import AS_WRITTEN, capability, check_operand, contiguous, define_op, on_device, processors
from .forward import _conv_fwd_kernel, _residual_unit_fwd_kernel
from .weights import MAX_FUSED_WIDTH, PackedResidualUnit, check_half, pack_weights

MAX_TIME = 1 << 29

Padding = Literal["causal", "symmetric"]


def _refuse_gradients(*values: object) -> None:
    if torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in values):
        raise NotImplementedError(
            "residual_unit has no backward pass: use the reference path for training, or torch.no_grad()"
        )


def _check(x: Tensor, packed: PackedResidualUnit, dilation: int, context: Tensor | None, padding: str) -> None:
    """Refuse, before any launch, what the kernels cannot serve."""
    if x.ndim != 3 or not 0 < x.shape[1] < MAX_TIME:
        raise ValueError(f"x must be [B, T, C] with 1 <= T < {MAX_TIME}, got {list(x.shape)}")
    check_half("x", x)
    if x.shape[2] != packed.n_channels:
        raise ValueError(f"x must be [B, T, {packed.n_channels}] like the packed weights, got {list(x.shape)}")
    if packed.weight1.dtype != x.dtype:
        raise TypeError(f"the packed weights must be {x.dtype} like x, got {packed.weight1.dtype}")
    largest = MAX_TIME // packed.weight1.shape[0]
    if not 1 <= dilation <= largest:
        raise ValueError(f"dilation must be at least 1 and at most {largest}, got {dilation}")
    if padding not in ("causal", "symmetric"):
        raise ValueError(f"padding must be causal or symmetric, got {padding!r}")
    if context is not None:
        if padding == "symmetric":
            raise ValueError("context needs causal padding")
        n_before = (packed.weight1.shape[0] - 1) * dilation
        check_operand("context", context, (x.shape[0], n_before, x.shape[2]), x, dtypes=None)
    for tensor in packed[:-1]:
        if tensor.device != x.device:
            raise ValueError(f"packed must be on the device of x, {x.device}, got {tensor.device}")


def _fills_card(n_tiles: int, x: Tensor) -> bool:
    """Tell whether that many large tiles occupy at least half of the multiprocessors."""
    return 2 * n_tiles >= processors(x.device)


def _launch(x: Tensor, packed: PackedResidualUnit, dilation: int, context: Tensor | None, padding: str) -> Tensor:
    _check(x, packed, dilation, context, padding)
    x, context = x.contiguous(), contiguous(context)
    y = torch.empty_like(x)
    n_rows = x.shape[0] * x.shape[1]
    if not n_rows:
        return y
    n_taps, width = packed.weight1.shape[:2]
    reach = (n_taps - 1) * dilation
    sizes = (n_rows, x.shape[1], dilation, reach // 2 if padding == "symmetric" else reach)
    fused = width <= MAX_FUSED_WIDTH
    n_tiles = triton.cdiv(n_rows, 128) * (1 if fused else width // 128)
    small = not _fills_card(n_tiles, x)
    options = {"N_CHANNELS": x.shape[2], "num_stages": 3, **AS_WRITTEN}
    first = (context, packed.weight1, packed.bias1, packed.snake1)
    with on_device("x", x):
        # wgmma reads 128-byte rows of shared memory
        options["BLOCK_K"] = 64 if capability() == 90 and width % 64 == 0 else 32
        if fused and not small:
            width_a = 1 << (width - 1).bit_length() - 1
            options |= {"WIDTH_A": width_a, "WIDTH_B": width - width_a, "BLOCK_T": 128, "num_warps": 8}
            _residual_unit_fwd_kernel[(n_tiles,)](
                *(x, x, *first, packed.weight2, packed.bias2, packed.snake2, y, *sizes), **options, N_TAPS=n_taps
            )
        else:
            block_t, block_n, n_warps = (64, 32, 4) if small else (128, 128, 8)
            options |= {"WIDTH": width, "BLOCK_T": block_t, "BLOCK_N": block_n, "num_warps": n_warps}
            grid = (triton.cdiv(n_rows, block_t) * (width // block_n),)
            h = torch.empty_like(x)
            _conv_fwd_kernel[grid](*(x, *first, None, h, packed.snake2, *sizes), **options, N_TAPS=n_taps)
            second = (None, packed.weight2, packed.bias2, None)
            _conv_fwd_kernel[grid](*(h, *second, x, y, None, *sizes[:2], 1, 0), **options, N_TAPS=1)
    return y


@define_op("residual_unit")
def _residual_unit(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    snake1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    snake2: Tensor,
    n_channels: int,
    dilation: int,
    context: Tensor | None,
    padding: str,
) -> Tensor:
    packed = PackedResidualUnit(weight1, bias1, snake1, weight2, bias2, snake2, n_channels)
    return _launch(x, packed, dilation, context, padding)


@_residual_unit.register_fake
def _(x, *_):
    return x.new_empty(x.shape)


def residual_unit_channels_last(
    x: Tensor, packed: PackedResidualUnit, dilation: int, context: Tensor | None = None, padding: Padding = "causal"
) -> Tensor:
    """Compute a residual unit ``x + conv1(snake(conv_d(snake(x))))`` of a channels-last signal, in float32.

    Products take operands in the dtype of ``x``, where float16 saturates at 65504, and add up in float32.

    Args:
        x: ``[B, T, C]``, float16 or bfloat16.
        packed: parameters from :func:`pack_weights`, of the dtype of ``x``.
        dilation: distance between taps.
        context: ``[B, (K - 1) * dilation, C]``, the rows of x before it, or None for zeros; causal padding only.
        padding: ``"causal"`` pads ``(K - 1) * dilation`` on the left, ``"symmetric"`` half of it on each side (DAC).

    Returns:
        ``[B, T, C]``.

    Raises:
        ValueError: a shape, a device, ``dilation`` or ``padding`` does not fit, T is 0, or C is not a multiple of 16.
        TypeError: ``x`` or the weights are not float16 or bfloat16, or they or ``context`` differ.
        NotImplementedError: an input requires a gradient.
    """
    _refuse_gradients(x, context, *packed)
    return _residual_unit(x, *packed, dilation, context, padding)


def residual_unit(
    x: Tensor,
    alpha1: Tensor,
    beta1: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    alpha2: Tensor,
    beta2: Tensor,
    weight2: Tensor,
    bias2: Tensor | None,
    dilation: int,
    context: Tensor | None = None,
    padding: Padding = "causal",
) -> Tensor:
    """Compute a residual unit of a channels-first signal: pack, transpose, :func:`residual_unit_channels_last`.

    Args:
        x: ``[B, C, T]``, float16 or bfloat16, C a multiple of 16.
        alpha1, beta1: ``[C]``, Snake before the dilated convolution.
        weight1: ``[C, C, K]``, K odd; ``bias1``: ``[C]`` or None.
        alpha2, beta2: ``[C]``, Snake before the pointwise convolution.
        weight2: ``[C, C, 1]``; ``bias2``: ``[C]`` or None.
        dilation: distance between taps.
        context: ``[B, C, (K - 1) * dilation]`` or None; only with causal padding.
        padding: ``"causal"`` or ``"symmetric"``.

    Returns:
        ``[B, C, T]``, a transposed view of channels-last memory: the next unit need not transpose it again.

    Raises:
        As :func:`residual_unit_channels_last` and :func:`pack_weights`.
    """
    _refuse_gradients(x, alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2, context)
    if x.ndim != 3:
        raise ValueError(f"x must be [B, C, T], got {list(x.shape)}")
    packed = pack_weights(alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2)
    rows = None if context is None else context.transpose(1, 2)
    return residual_unit_channels_last(x.transpose(1, 2), packed, dilation, rows, padding).transpose(1, 2)
