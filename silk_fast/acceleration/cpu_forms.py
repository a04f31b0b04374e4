"""Forms for the CPU: operations of PyTorch that overwrite their own intermediate results.

At the audio's rate an activation is megabytes long, and the reference allocates one for every step of a formula: most
of its time goes to pages that the system hands out and takes back. Here each result is computed in one piece of
memory, by the same operations in the same order, so it is the reference's bit for bit. It applies where gradients are
off and nothing is being compiled: autograd needs the intermediate results, and a compiler fuses them itself.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.acceleration.forms import Form
from silk_fast.reference import ops
from silk_fast.reference.layers import ResidualUnit, ResidualUnitOperands, Snake


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
    *operands: Any,
    dilation: int,
    context: Tensor | None = None,
    padding: Literal["causal", "symmetric"] = "causal",
) -> Tensor:
    """:func:`silk_fast.reference.ops.residual_unit`; ``x`` and ``context`` are not written.

    Snake of the zeros of the padding is zero, so padding may come after it.
    """
    unit = ResidualUnitOperands(*operands)
    if not _may_overwrite():
        return ops.residual_unit(x, *unit, dilation=dilation, context=context, padding=padding)
    if context is not None:
        context = snake(context, unit.alpha1, unit.beta1)
    extended = ops.extend(snake(x, unit.alpha1, unit.beta1), unit.reach(dilation), context, padding)
    hidden = F.conv1d(extended, unit.weight1, unit.bias1, dilation=dilation)
    y = F.conv1d(snake(hidden, unit.alpha2, unit.beta2), unit.weight2, unit.bias2)
    return y.add_(x) if y.dtype == x.dtype else x + y


class InPlaceOps:
    """The functions of ``reference.ops`` that allocate most."""

    snake = staticmethod(snake)
    residual_unit = staticmethod(residual_unit)


class InPlaceSnake(Form, Snake):
    """Snake that allocates its result only."""

    ops = InPlaceOps


class InPlaceResidualUnit(Form, ResidualUnit):
    """A residual unit that allocates the results of its convolutions and Snakes only."""

    ops = InPlaceOps
