"""Residual unit ``y = x + conv1(snake(conv_d(snake(x))))`` (DAC, Kumar et al., 2023); inference only.

``conv_d`` has K taps (7) at distance d, ``conv1`` one; both keep the C channels. Snake is that of ``snake.py``.

Both convolutions are implicit matrix products on channels-last memory ``[B, T, C]``, where each tap is the
same tile of rows, shifted; a channels-first signal would cost scalar loads. Up to C = 192 one kernel does the
whole unit: its accumulator holds every channel of its rows and becomes the left operand of the second product
without leaving the registers. It is kept as two powers of two, which gives 96 and 192 exactly and makes Triton
put all warps along time, so that no two warps evaluate the same Snake. Wider units, and signals too short to
fill the card, take two launches of one convolution kernel with ``h = snake(conv_d(..))`` between them.

FLOPs per element: 2 (K + 1) C. Bytes per element in float16: 4 (x and y) in one kernel; the activated form reads
``snake(x)`` and writes ``snake(y)`` too, 8; two launches write and read h, 4 more.

    C                                    32    64    96   192
    one kernel, FLOP/byte (predicted)   128   256   384   768     an RTX 3090 balances at 76, an H200 at 165
    activated form                       64   128   192   384

Evaluating Snake again at each tap hides behind the matrix unit on sm_86, sm_89 and sm_120 from C = 64. It bounds
the kernel on sm_80 and sm_90, whose matrix units are 4 and 16 times faster: :func:`residual_unit_activated` takes
``snake(x)`` ready made and stores ``snake(y)`` for what follows.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from ._common import INTERPRETED, capability, on_device
from ._residual_unit import _conv_fwd_kernel, _residual_unit_fwd_kernel

SNAKE_EPSILON = 1e-9
MAX_FUSED_WIDTH = 192
MAX_TIME = 1 << 29
DEFAULT_PROCESSORS = 82  # of an RTX 3090, where there is no card to ask


class PackedResidualUnit(NamedTuple):
    """Parameters of a unit as the kernels read them, made by :func:`pack_weights`; P is C padded to whole tiles."""

    weight1: Tensor  # [K, P, P]: tap, input channel, output channel
    bias1: Tensor  # [P], float32 like all that follow but weight2
    snake1: Tensor  # [3, P]: alpha / pi as the sum of two floats, 1 / (beta + 1e-9)
    weight2: Tensor  # [1, P, P]
    bias2: Tensor  # [P]
    snake2: Tensor  # [3, P]


def _padded(n_channels: int) -> int:
    if n_channels % 16 or not n_channels:
        raise ValueError(f"residual_unit needs a multiple of 16 channels, got {n_channels}")
    step = 32 if n_channels <= MAX_FUSED_WIDTH else 128
    return triton.cdiv(n_channels, step) * step


def _check_dtype(name: str, tensor: Tensor) -> None:
    allowed = (torch.float16, torch.bfloat16) + ((torch.float32,) if INTERPRETED else ())
    if tensor.dtype not in allowed:
        raise TypeError(f"{name} must be float16 or bfloat16, got {tensor.dtype}")


def _refuse_gradients(*tensors: Tensor | None) -> None:
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        raise NotImplementedError(
            "residual_unit has no backward pass: use the reference path for training, or torch.no_grad()"
        )


def pack_snake(alpha: Tensor, beta: Tensor) -> Tensor:
    """Constants of a Snake, float32 ``[3, P]``, from ``alpha`` and ``beta`` ``[C]``."""
    if alpha.ndim != 1 or alpha.shape != beta.shape:
        raise ValueError(f"alpha and beta must be [C], got {tuple(alpha.shape)} and {tuple(beta.shape)}")
    half_turns = alpha.double() / math.pi
    high = half_turns.float()
    constants = torch.stack([high, (half_turns - high).float(), 1 / (beta.float() + SNAKE_EPSILON)])
    return F.pad(constants, (0, _padded(len(alpha)) - len(alpha)))


def pack_weights(
    alpha1: Tensor,
    beta1: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    alpha2: Tensor,
    beta2: Tensor,
    weight2: Tensor,
    bias2: Tensor | None,
) -> PackedResidualUnit:
    """Lay out the parameters of a unit for the kernels, once; arguments as in :func:`residual_unit`.

    The result does not follow later changes of the parameters. It is part of the autograd graph, so pack under
    ``torch.no_grad()`` for inference.

    Raises:
        ValueError: a shape does not fit, K is even, or C is not a multiple of 16.
        TypeError: the weights are not float16 or bfloat16, or differ.
    """
    n_channels = weight1.shape[0]
    if weight1.shape[1:2] != (n_channels,) or weight1.ndim != 3 or weight1.shape[2] % 2 == 0:
        raise ValueError(f"weight1 must be [C, C, K] with K odd, got {tuple(weight1.shape)}")
    _check_dtype("weight1", weight1)
    if weight2.dtype != weight1.dtype:
        raise TypeError(f"weight2 must be {weight1.dtype} like weight1, got {weight2.dtype}")
    if weight2.shape != (n_channels, n_channels, 1):
        raise ValueError(f"weight2 must be {[n_channels, n_channels, 1]}, got {tuple(weight2.shape)}")
    vectors = {"alpha1": alpha1, "beta1": beta1, "bias1": bias1, "alpha2": alpha2, "beta2": beta2, "bias2": bias2}
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (n_channels,):
            raise ValueError(f"{name} must be [{n_channels}], got {tuple(vector.shape)}")
    padding = _padded(n_channels) - n_channels

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        bias = weight.new_zeros(n_channels) if bias is None else bias
        return F.pad(weight.permute(2, 1, 0), (0, padding, 0, padding)).contiguous(), F.pad(bias.float(), (0, padding))

    return PackedResidualUnit(
        *pack(weight1, bias1), pack_snake(alpha1, beta1), *pack(weight2, bias2), pack_snake(alpha2, beta2)
    )


def _check(x: Tensor, packed: PackedResidualUnit, dilation: int, context: Tensor | None, padding: str) -> None:
    """Refuse, before any launch, what the kernels cannot serve."""
    if x.ndim != 3 or not 0 < x.shape[1] < MAX_TIME:
        raise ValueError(f"x must be [B, T, C] with 1 <= T < {MAX_TIME}, got {tuple(x.shape)}")
    _check_dtype("x", x)
    n_taps, width = packed.weight1.shape[:2]
    if _padded(x.shape[2]) != width:
        raise ValueError(f"x has {x.shape[2]} channels, the packed weights serve {width} after padding")
    if packed.weight1.dtype != x.dtype:
        raise TypeError(f"the packed weights must be {x.dtype} like x, got {packed.weight1.dtype}")
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1, got {dilation}")
    if padding not in ("causal", "symmetric"):
        raise ValueError(f"padding must be causal or symmetric, got {padding!r}")
    if context is not None:
        expected = (x.shape[0], (n_taps - 1) * dilation, x.shape[2])
        if padding == "symmetric":
            raise ValueError("context needs causal padding")
        if context.shape != expected or context.dtype != x.dtype:
            raise ValueError(f"context must be {list(expected)} {x.dtype}, got {tuple(context.shape)} {context.dtype}")


def _fills_card(n_tiles: int, x: Tensor) -> bool:
    """Whether tiles of 128 rows occupy at least half of the multiprocessors."""
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
    n_taps, width = packed.weight1.shape[:2]
    n_channels, n_rows = x.shape[2], x.shape[0] * x.shape[1]
    reach = (n_taps - 1) * dilation
    x = x.contiguous()
    source, snake1 = (x, packed.snake1) if activated is None else (activated.contiguous(), None)
    context = None if context is None else context.contiguous()
    y = torch.empty_like(x)
    next_activated = None if next_snake is None else torch.empty_like(x)
    if not n_rows:
        return y, next_activated
    sizes = (n_rows, x.shape[1], dilation, reach // 2 if padding == "symmetric" else reach)
    fused = width <= MAX_FUSED_WIDTH
    n_tiles = triton.cdiv(n_rows, 128) * (1 if fused else width // 128)
    small = not _fills_card(n_tiles, x)
    common = {"N_CHANNELS": n_channels, "BLOCK_K": 32, "num_stages": 3}
    with on_device(x):
        if fused and not small:
            width_a = 1 << (width - 1).bit_length() - 1
            _residual_unit_fwd_kernel[(n_tiles,)](
                *(x, source, context, packed.weight1, packed.bias1, snake1, *packed[3:], y, next_activated, next_snake),
                *sizes,
                **common,
                WIDTH_A=width_a,
                WIDTH_B=width - width_a,
                N_TAPS=n_taps,
                BLOCK_T=128,
                num_warps=8,
            )
        else:
            block_t, block_n, warps = (64, 32, 4) if small else (128, 128, 8)
            grid = (triton.cdiv(n_rows, block_t) * (width // block_n),)
            common |= {"WIDTH": width, "BLOCK_T": block_t, "BLOCK_N": block_n, "num_warps": warps}
            h = torch.empty_like(x)
            _conv_fwd_kernel[grid](
                *(source, context, packed.weight1, packed.bias1, snake1, None, None, h, packed.snake2, *sizes),
                N_TAPS=n_taps,
                **common,
            )
            _conv_fwd_kernel[grid](
                *(h, None, packed.weight2, packed.bias2, None, x, y, next_activated, next_snake, *sizes[:2], 1, 0),
                N_TAPS=1,
                **common,
            )
    return y, next_activated
