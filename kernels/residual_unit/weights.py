"""Parameters of a residual unit as its kernels read them: reordered and padded once."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from .._launch import INTERPRETED, check_dtype, check_operand

HALVES = (torch.float16, torch.bfloat16)
SNAKE_EPSILON = 1e-9
MAX_FUSED_WIDTH = 192  # channels up to which one kernel does the whole unit


class PackedResidualUnit(NamedTuple):
    """Parameters of a unit as the kernels read them, made by :func:`pack_weights`; P is C padded to whole tiles."""

    weight1: Tensor  # [K, P, P]: tap, input channel, output channel
    bias1: Tensor  # [P], float32 like all that follow but weight2
    snake1: Tensor  # [3, P]: alpha / pi as the sum of two floats, 1 / (beta + 1e-9)
    weight2: Tensor  # [1, P, P]
    bias2: Tensor  # [P]
    snake2: Tensor  # [3, P]
    n_channels: int  # C


def padded_channels(n_channels: int) -> int:
    """Pad the number of channels to whole tiles of the kernel that serves them."""
    if n_channels % 16 or not n_channels:
        raise ValueError(f"residual_unit needs a multiple of 16 channels, got {n_channels}")
    step = 32 if n_channels <= MAX_FUSED_WIDTH else 128
    return triton.cdiv(n_channels, step) * step


def check_half(name: str, tensor: Tensor) -> None:
    """Refuse all but half precision: float32 has its own path through cuDNN, and the interpreter tests with it."""
    if not (INTERPRETED and tensor.dtype == torch.float32):
        check_dtype(name, tensor, HALVES)


def _pack_snake(alpha: Tensor, beta: Tensor) -> Tensor:
    """Derive the constants of a Snake, float32 ``[3, P]``, from ``alpha`` and ``beta`` ``[C]``."""
    half_turns = alpha.double() / math.pi
    high = half_turns.float()
    constants = torch.stack([high, (half_turns - high).float(), 1 / (beta.float() + SNAKE_EPSILON)])
    return F.pad(constants, (0, padded_channels(len(alpha)) - len(alpha)))


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
        ValueError: a shape or device does not fit, K is even, or C is not a multiple of 16.
        TypeError: the weights are not float16 or bfloat16, or differ, or a vector is not floating-point.
    """
    n_channels = weight1.shape[0]
    if weight1.shape[1:2] != (n_channels,) or weight1.ndim != 3 or weight1.shape[2] % 2 == 0:
        raise ValueError(f"weight1 must be [C, C, K] with K odd, got {tuple(weight1.shape)}")
    check_half("weight1", weight1)
    check_operand("weight2", weight2, (n_channels, n_channels, 1), weight1, "weight1", dtypes=None)
    vectors = {"alpha1": alpha1, "beta1": beta1, "bias1": bias1, "alpha2": alpha2, "beta2": beta2, "bias2": bias2}
    for name, vector in vectors.items():
        if vector is not None:
            check_operand(name, vector, (n_channels,), weight1, "weight1")
    padding = padded_channels(n_channels) - n_channels

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        bias = weight.new_zeros(n_channels) if bias is None else bias
        return F.pad(weight.permute(2, 1, 0), (0, padding, 0, padding)).contiguous(), F.pad(bias.float(), (0, padding))

    return PackedResidualUnit(
        *(*pack(weight1, bias1), _pack_snake(alpha1, beta1), *pack(weight2, bias2), _pack_snake(alpha2, beta2)),
        n_channels=n_channels,
    )
