"""Residual unit ``y = x + conv1(snake(conv_d(snake(x))))`` (DAC, Kumar et al., 2023); inference only.

``conv_d`` has K taps (7) at distance d, ``conv1`` one; both keep the C channels. Snake is that of ``snake.py``.

Both convolutions are implicit matrix products on channels-last memory ``[B, T, C]``, where each tap is the
same tile of rows, shifted; a channels-first signal would cost scalar loads. Up to C = 192 one kernel does the
whole unit: its accumulator holds every channel of its rows and becomes the left operand of the second product
without leaving the registers. It is kept as two powers of two, which gives 96 and 192 exactly and makes Triton
put all warps along time, so that no two warps evaluate the same Snake. Wider units, and signals too short to
fill the card, take two launches of one convolution kernel with ``h = snake(conv_d(..))`` between them. Both forms
add up in the same order.

FLOPs per element: 2 (K + 1) C. Bytes per element in float16: 4 (x and y) in one kernel; the activated form reads
``snake(x)`` and writes ``snake(y)`` too, 8; two launches write and read h, 4 more. From L2 a tile of 128 rows reads
its rows K times (asynchronous 16-byte copies bypass L1) and all weights once.

    C                                    32    64    96   192
    one kernel, FLOP/byte (predicted)   128   256   384   768     an RTX 3090 balances at 76, an H200 at 165
    activated form                       64   128   192   384

Evaluating Snake again at each tap hides behind the matrix unit on sm_86, sm_89 and sm_120 from C = 64. It bounds
the kernel on sm_80 and sm_90, whose matrix units are 4 and 16 times faster per clock (predicted, not measured):
:func:`residual_unit_activated` takes ``snake(x)`` ready made and stores ``snake(y)`` for what follows.
"""

from typing import Literal

import torch
import triton
from torch import Tensor

from ._common import capability, on_device
from ._residual_unit import _conv_fwd_kernel, _residual_unit_fwd_kernel
from ._residual_unit_weights import MAX_FUSED_WIDTH, PackedResidualUnit, check_dtype, pack_snake, pack_weights

__all__ = [
    "PackedResidualUnit",
    "pack_snake",
    "pack_weights",
    "residual_unit",
    "residual_unit_activated",
    "residual_unit_channels_last",
]

MAX_TIME = 1 << 29
DEFAULT_PROCESSORS = 82  # of an RTX 3090, where there is no card to ask

Padding = Literal["causal", "symmetric"]


def _refuse_gradients(*values: object) -> None:
    if torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in values):
        raise NotImplementedError(
            "residual_unit has no backward pass: use the reference path for training, or torch.no_grad()"
        )


def _check(x: Tensor, packed: PackedResidualUnit, dilation: int, context: Tensor | None, padding: str) -> None:
    """Refuse, before any launch, what the kernels cannot serve."""
    if x.ndim != 3 or not 0 < x.shape[1] < MAX_TIME:
        raise ValueError(f"x must be [B, T, C] with 1 <= T < {MAX_TIME}, got {tuple(x.shape)}")
    check_dtype("x", x)
    if x.shape[2] != packed.n_channels:
        raise ValueError(f"x must be [B, T, {packed.n_channels}] like the packed weights, got {tuple(x.shape)}")
    if packed.weight1.dtype != x.dtype:
        raise TypeError(f"the packed weights must be {x.dtype} like x, got {packed.weight1.dtype}")
    largest = MAX_TIME // packed.weight1.shape[0]
    if not 1 <= dilation <= largest:
        raise ValueError(f"dilation must be at least 1 and at most {largest}, got {dilation}")
    if padding not in ("causal", "symmetric"):
        raise ValueError(f"padding must be causal or symmetric, got {padding!r}")
    if context is not None:
        expected = (x.shape[0], (packed.weight1.shape[0] - 1) * dilation, x.shape[2])
        if padding == "symmetric":
            raise ValueError("context needs causal padding")
        if context.shape != expected or context.dtype != x.dtype:
            raise ValueError(f"context must be {list(expected)} {x.dtype}, got {tuple(context.shape)} {context.dtype}")


def _fills_card(n_tiles: int, x: Tensor) -> bool:
    """Whether that many large tiles occupy at least half of the multiprocessors."""
    n = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else DEFAULT_PROCESSORS
    return 2 * n_tiles >= n


def _launch(
    x: Tensor,
    activated: Tensor | None,
    packed: PackedResidualUnit,
    next_snake: Tensor | None,
    dilation: int,
    context: Tensor | None,
    padding: str,
) -> tuple[Tensor, Tensor | None]:
    """The unit of ``x`` and, with ``next_snake``, the Snake of that; ``activated`` is ``snake(x)`` or None."""
    _check(x, packed, dilation, context, padding)
    others = [("packed", tensor) for tensor in packed[:-1]]
    others += [("context", context), ("activated", activated), ("next_snake", next_snake)]
    for name, tensor in others:
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name} must be on the device of x, {x.device}, got {tensor.device}")
    x = x.contiguous()
    context = None if context is None else context.contiguous()
    source, snake1 = (x, packed.snake1) if activated is None else (activated.contiguous(), None)
    y = torch.empty_like(x)
    next_activated = None if next_snake is None else torch.empty_like(x)
    n_rows = x.shape[0] * x.shape[1]
    if not n_rows:
        return y, next_activated
    n_taps, width = packed.weight1.shape[:2]
    reach = (n_taps - 1) * dilation
    sizes = (n_rows, x.shape[1], dilation, reach // 2 if padding == "symmetric" else reach)
    fused = width <= MAX_FUSED_WIDTH
    n_tiles = triton.cdiv(n_rows, 128) * (1 if fused else width // 128)
    small = not _fills_card(n_tiles, x)
    options = {"N_CHANNELS": x.shape[2], "num_stages": 3, "enable_fp_fusion": True}
    with on_device("x", x):
        # wgmma reads 128-byte rows of shared memory
        options["BLOCK_K"] = 64 if capability() == 90 and width % 64 == 0 else 32
        if fused and not small:
            width_a = 1 << (width - 1).bit_length() - 1
            options |= {"WIDTH_A": width_a, "WIDTH_B": width - width_a, "BLOCK_T": 128, "num_warps": 8}
            _residual_unit_fwd_kernel[(n_tiles,)](
                *(x, source, context, packed.weight1, packed.bias1, snake1, packed.weight2, packed.bias2),
                *(packed.snake2, y, next_activated, next_snake, *sizes),
                **options,
                N_TAPS=n_taps,
            )
        else:
            block_t, block_n, n_warps = (64, 32, 4) if small else (128, 128, 8)
            options |= {"WIDTH": width, "BLOCK_T": block_t, "BLOCK_N": block_n, "num_warps": n_warps}
            grid = (triton.cdiv(n_rows, block_t) * (width // block_n),)
            h = torch.empty_like(x)
            _conv_fwd_kernel[grid](
                *(source, context, packed.weight1, packed.bias1, snake1, None, None, h, packed.snake2, *sizes),
                **options,
                N_TAPS=n_taps,
            )
            _conv_fwd_kernel[grid](
                *(h, None, packed.weight2, packed.bias2, None, x, y, next_activated, next_snake, *sizes[:2], 1, 0),
                **options,
                N_TAPS=1,
            )
    return y, next_activated


@torch.library.custom_op("silk_fast::residual_unit", mutates_args=(), device_types=("cuda", "cpu"))
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
    return _launch(x, None, packed, None, dilation, context, padding)[0]


@_residual_unit.register_fake
def _(x, *_):
    return x.new_empty(x.shape)


@torch.library.custom_op("silk_fast::residual_unit_activated", mutates_args=(), device_types=("cuda", "cpu"))
def _residual_unit_activated(
    x: Tensor,
    activated: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    snake1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    snake2: Tensor,
    n_channels: int,
    next_snake: Tensor,
    dilation: int,
    context: Tensor | None,
    padding: str,
) -> tuple[Tensor, Tensor]:
    packed = PackedResidualUnit(weight1, bias1, snake1, weight2, bias2, snake2, n_channels)
    if activated.shape != x.shape or activated.dtype != x.dtype:
        raise ValueError(f"activated must be {list(x.shape)} {x.dtype}, got {tuple(activated.shape)} {activated.dtype}")
    if next_snake.shape != snake1.shape:
        raise ValueError(f"next_snake must be {list(snake1.shape)}, got {tuple(next_snake.shape)}")
    return _launch(x, activated, packed, next_snake, dilation, context, padding)


@_residual_unit_activated.register_fake
def _(x, *_):
    return x.new_empty(x.shape), x.new_empty(x.shape)


def residual_unit_channels_last(
    x: Tensor, packed: PackedResidualUnit, dilation: int, context: Tensor | None = None, padding: Padding = "causal"
) -> Tensor:
    """Residual unit of a channels-last signal; ``x + conv1(snake(conv_d(snake(x))))``, computed in float32.

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
        TypeError: ``x`` or the weights are not float16 or bfloat16, or differ.
        NotImplementedError: an input requires a gradient.
    """
    _refuse_gradients(x, context, *packed)
    return _residual_unit(x, *packed, dilation, context, padding)


def residual_unit_activated(
    x: Tensor,
    activated: Tensor,
    packed: PackedResidualUnit,
    next_snake: Tensor,
    dilation: int,
    context: Tensor | None = None,
    padding: Padding = "causal",
) -> tuple[Tensor, Tensor]:
    """Residual unit that neither evaluates its first Snake nor leaves the Snake after it to another kernel.

    Args:
        x: ``[B, T, C]``, float16 or bfloat16.
        activated: ``[B, T, C]``, the unit's first Snake of ``x``.
        packed: parameters from :func:`pack_weights`; their first Snake is not used.
        next_snake: constants from :func:`pack_snake` of the Snake that follows: of the next unit, or of the stage.
        dilation, padding: as in :func:`residual_unit_channels_last`.
        context: ``[B, (K - 1) * dilation, C]``, the rows of ``activated`` before it, or None for zeros.

    Returns:
        (y, ``snake(y)``), each ``[B, T, C]``.

    Raises:
        As :func:`residual_unit_channels_last`.
    """
    _refuse_gradients(x, activated, next_snake, context, *packed)
    return _residual_unit_activated(x, activated, *packed, next_snake, dilation, context, padding)


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
    """Residual unit of a channels-first signal: packs, transposes and calls :func:`residual_unit_channels_last`.

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
        raise ValueError(f"x must be [B, C, T], got {tuple(x.shape)}")
    packed = pack_weights(alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2)
    rows = None if context is None else context.transpose(1, 2)
    return residual_unit_channels_last(x.transpose(1, 2), packed, dilation, rows, padding).transpose(1, 2)
