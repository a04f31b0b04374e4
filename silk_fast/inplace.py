"""Operations of PyTorch that overwrite their own intermediate results: what a CPU gains without kernels.

At the audio's rate an activation is megabytes long, and the reference allocates one for every step of a formula: most
of its time goes to pages that the system hands out and takes back. Here each result is computed in one piece of
memory, by the same operations in the same order, so it is the reference's bit for bit. It applies where gradients are
off and nothing is being compiled: autograd needs the intermediate results, and a compiler fuses them itself.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.reference import ops
from silk_fast.reference.layers import ResidualUnit, Snake


def _may_overwrite() -> bool:
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def snake(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """:func:`silk_fast.reference.ops.snake`; ``x`` itself is not written."""
    if not _may_overwrite():
        return ops.snake(x, alpha, beta)
    y = alpha[:, None] * x
    return y.sin_().square_().div_(beta[:, None] + ops.SNAKE_EPSILON).add_(x)


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
    padding: Literal["causal", "symmetric"] = "causal",
) -> Tensor:
    """:func:`silk_fast.reference.ops.residual_unit`; ``x`` and ``context`` are not written.

    Snake of the zeros of the padding is zero, so padding may come after it.
    """
    if not _may_overwrite():
        operands = alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2
        return ops.residual_unit(x, *operands, dilation, context, padding)
    if context is not None:
        context = snake(context, alpha1, beta1)
    extended = ops.extend(snake(x, alpha1, beta1), (weight1.shape[-1] - 1) * dilation, context, padding)
    hidden = F.conv1d(extended, weight1, bias1, dilation=dilation)
    y = F.conv1d(snake(hidden, alpha2, beta2), weight2, bias2)
    return y.add_(x) if y.dtype == x.dtype else x + y


class InPlaceOps:
    """The functions of ``reference.ops`` that allocate most."""

    snake = staticmethod(snake)
    residual_unit = staticmethod(residual_unit)


class InPlaceSnake(Snake):
    """Snake that allocates its result only."""

    ops = InPlaceOps


class InPlaceResidualUnit(ResidualUnit):
    """A residual unit that allocates the results of its convolutions and Snakes only."""

    ops = InPlaceOps
