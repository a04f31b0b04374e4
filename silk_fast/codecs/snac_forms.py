"""Forms of the modules of SNAC."""

from typing import Any

import torch
from snac import layers
from snac.attention import LocalMHA
from torch import Tensor, nn

from silk_fast.acceleration.forms import Form
from silk_fast.codecs.snake_family import Forms, OnCpu, OnGpu, Place, SnakeShape, UnitShape

OTHER_PARTS = (LocalMHA, nn.Tanh)


class SnacUnitShape(UnitShape):
    """A residual unit whose parts are in a sequence; with a depthwise convolution, but for the oldest models."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return tuple(self.block)


class SequenceShape(Place):
    """Modules one after another; a Snake goes with the convolution that follows it."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return tuple(self.model if hasattr(self, "model") else self.block)

    def _run(self, x: Tensor) -> Tensor:
        snake = None
        for i, part in enumerate(self._parts()):
            if isinstance(part, layers.Snake1d):
                snake = part
            elif isinstance(part, nn.Conv1d | nn.ConvTranspose1d):
                x, snake = self._convolve(f"{i}", x, part, snake), None
            elif isinstance(part, Form):
                x = part(x)
            else:
                x = part(x.to(next(self.parameters()).dtype)).to(x.dtype)
        return x


class NoiseShape(Place):
    """Noise, of the same numbers as the library's, times a projection."""

    linear: Any

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return (self.linear,)

    def _run(self, x: Tensor) -> Tensor:
        weight = next(self.parameters())
        noise = torch.randn((x.shape[0], 1, x.shape[2]), device=x.device, dtype=weight.dtype).to(x.dtype)
        return torch.addcmul(x, noise, self._convolve("linear", x, self.linear))


class CpuSnacSnake(OnCpu, SnakeShape, layers.Snake1d): ...


class CpuSnacResidualUnit(OnCpu, SnacUnitShape, layers.ResidualUnit): ...


class CpuSnacNoise(OnCpu, NoiseShape, layers.NoiseBlock): ...


class CpuSnacEncoderBlock(OnCpu, SequenceShape, layers.EncoderBlock): ...


class CpuSnacDecoderBlock(OnCpu, SequenceShape, layers.DecoderBlock): ...


class CpuSnacEncoder(OnCpu, SequenceShape, layers.Encoder): ...


class CpuSnacDecoder(OnCpu, SequenceShape, layers.Decoder): ...


class GpuSnacSnake(OnGpu, SnakeShape, layers.Snake1d): ...


class GpuSnacResidualUnit(OnGpu, SnacUnitShape, layers.ResidualUnit): ...


class GpuSnacNoise(OnGpu, NoiseShape, layers.NoiseBlock): ...


class GpuSnacEncoderBlock(OnGpu, SequenceShape, layers.EncoderBlock): ...


class GpuSnacDecoderBlock(OnGpu, SequenceShape, layers.DecoderBlock): ...


class GpuSnacEncoder(OnGpu, SequenceShape, layers.Encoder): ...


class GpuSnacDecoder(OnGpu, SequenceShape, layers.Decoder): ...


FORMS: Forms = {
    "snake": [(CpuSnacSnake, GpuSnacSnake)],
    "conv": [
        (CpuSnacResidualUnit, GpuSnacResidualUnit),
        (CpuSnacNoise, GpuSnacNoise),
        (CpuSnacEncoderBlock, GpuSnacEncoderBlock),
        (CpuSnacDecoderBlock, GpuSnacDecoderBlock),
        (CpuSnacEncoder, GpuSnacEncoder),
        (CpuSnacDecoder, GpuSnacDecoder),
    ],
}
