"""Shapes of the modules of codecs that descend from DAC: Snakes, residual units, blocks that change the rate."""

from typing import Any

from torch import Tensor, nn

from silk_fast.acceleration.forms import Form
from silk_fast.codecs.places import Place


class SnakeFamily(Place):
    """What the modules have."""

    block: Any
    model: Any
    conv1: Any
    conv2: Any
    conv_t1: Any
    res_unit1: Any
    res_unit2: Any
    res_unit3: Any
    snake1: Any
    snake2: Any
    tanh: Any


class SnakeShape(SnakeFamily):
    """A Snake by itself."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return (self,)

    def _run(self, x: Tensor) -> Tensor:
        return self._snake("snake", x, self)


class UnitShape(SnakeFamily):
    """A residual unit, of a Snake, a dilated convolution, a Snake and a convolution of one tap."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.snake1, self.conv1, self.snake2, self.conv2

    def _run(self, x: Tensor) -> Tensor:
        return self._residual_unit(x, *self._parts())


class EncoderBlockShape(SnakeFamily):
    """Three units, and a Snake with a convolution that lowers the rate."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.res_unit1, self.res_unit2, self.res_unit3, self.snake1, self.conv1

    def _run(self, x: Tensor) -> Tensor:
        x = self.res_unit3(self.res_unit2(self.res_unit1(x)))
        return self._convolve("conv1", x, self.conv1, self.snake1)


class DecoderBlockShape(SnakeFamily):
    """A Snake with a transposed convolution that raises the rate, and three units."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.snake1, self.conv_t1, self.res_unit1, self.res_unit2, self.res_unit3

    def _run(self, x: Tensor) -> Tensor:
        x = self._transpose("conv_t1", x, self.conv_t1, self.snake1)
        return self.res_unit3(self.res_unit2(self.res_unit1(x)))


class CoderShape(SnakeFamily):
    """An encoder or a decoder: a convolution, blocks, a Snake with a convolution; and DAC's tanh."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.conv1, *self.block, self.snake1, self.conv2

    def _run(self, x: Tensor) -> Tensor:
        x = self._convolve("conv1", x, self.conv1)
        for block in self.block:
            x = block(x)
        x = self._convolve("conv2", x, self.conv2, self.snake1)
        return self.tanh(x) if hasattr(self, "tanh") else x


class UnitSequenceShape(UnitShape):
    """A residual unit whose parts are in a sequence; SNAC's convolution is depthwise, but for the oldest models."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return tuple(self.block)


class SequenceShape(SnakeFamily):
    """Modules one after another; a Snake goes with the convolution that follows it."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return tuple(self.model if hasattr(self, "model") else self.block)

    def _run(self, x: Tensor) -> Tensor:
        snake = None
        for i, part in enumerate(self._parts()):
            if isinstance(part, SnakeShape):
                snake = part
            elif isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
                convolve = self._transpose if isinstance(part, nn.ConvTranspose1d) else self._convolve
                x, snake = convolve(f"{i}", x, part, snake), None
            elif isinstance(part, Form):
                x = part(x)
            else:
                x = part(x.to(next(self.parameters()).dtype)).to(x.dtype)
        return x
