"""Building blocks of the convolutional encoder and decoder; all ``[B, C, T]``, all causal."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.reference.module import OpsModule
from silk_fast.reference.state import ContextState


class Snake(OpsModule):
    """Snake activation with one frequency and one magnitude per channel, stored as logarithms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.zeros(channels))
        self.log_beta = nn.Parameter(torch.zeros(channels))

    @property
    def constants(self) -> tuple[Tensor, Tensor]:
        """Frequency alpha and inverse magnitude beta, ``[C]``."""
        return self.log_alpha.exp(), self.log_beta.exp()

    def forward(self, x: Tensor) -> Tensor:
        return self.ops.snake(x, *self.constants)


class CausalConv1d(nn.Conv1d):
    """Convolution padded on the left by ``(kernel - 1) * dilation + 1 - stride`` samples.

    T must be a multiple of the stride; output n sees no sample later than ``(n + 1) * stride - 1``.
    """

    @property
    def reach(self) -> int:
        """Samples of left context."""
        return (self.kernel_size[0] - 1) * self.dilation[0] + 1 - self.stride[0]

    def initial_state(self, batch_size: int) -> ContextState:
        return ContextState(self.weight.new_zeros(batch_size, self.in_channels, self.reach))

    def forward(self, x: Tensor, state: ContextState | None = None) -> Tensor:
        if state is None:
            return super().forward(F.pad(x, (self.reach, 0)))
        extended = torch.cat([state.context.to(x.dtype), x], dim=-1)
        state.push(x)
        return super().forward(extended)


class ResidualUnitOperands(NamedTuple):
    """Parameters of a residual unit as ``ops.residual_unit`` takes them, in this order: two Snakes and convolutions."""

    alpha1: Tensor  # [C]
    beta1: Tensor  # [C]
    weight1: Tensor  # [C, C, K]
    bias1: Tensor | None  # [C]
    alpha2: Tensor  # [C]
    beta2: Tensor  # [C]
    weight2: Tensor  # [C, C, 1]
    bias2: Tensor | None  # [C]

    def reach(self, dilation: int) -> int:
        """Samples of context of the dilated convolution."""
        return (self.weight1.shape[-1] - 1) * dilation


class ResidualUnit(OpsModule):
    """``x + conv1(snake(conv7_d(snake(x))))``.

    Args:
        channels: C.
        dilation: dilation of the 7-tap convolution.
        padding: ``"causal"``, or ``"symmetric"`` as in DAC (cannot be streamed).
    """

    KERNEL = 7

    def __init__(self, channels: int, dilation: int, padding: Literal["causal", "symmetric"] = "causal") -> None:
        super().__init__()
        self.padding = padding
        self.snake1 = Snake(channels)
        self.conv1 = nn.Conv1d(channels, channels, self.KERNEL, dilation=dilation)
        self.snake2 = Snake(channels)
        self.conv2 = nn.Conv1d(channels, channels, 1)

    def initial_state(self, batch_size: int) -> ContextState:
        reach = (self.KERNEL - 1) * self.conv1.dilation[0]
        return ContextState(self.conv2.weight.new_zeros(batch_size, self.conv1.in_channels, reach))

    def forward(self, x: Tensor, state: ContextState | None = None) -> Tensor:
        context = None if state is None else state.context.to(x.dtype)
        y = self._unit(x, context)
        if state is not None:
            state.push(x)
        return y

    def _unit(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.ops.residual_unit(
            x, *self.operands(), dilation=self.conv1.dilation[0], context=context, padding=self.padding
        )

    def operands(self) -> ResidualUnitOperands:
        """Snake, weight and bias of the dilated convolution, then of the pointwise one."""
        return ResidualUnitOperands(
            *(*self.snake1.constants, self.conv1.weight, self.conv1.bias),
            *(*self.snake2.constants, self.conv2.weight, self.conv2.bias),
        )
