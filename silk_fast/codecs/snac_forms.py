"""Forms of the modules of SNAC."""

from typing import Any

import torch
from snac import layers, vq
from snac.attention import LocalMHA
from torch import Tensor, nn

from silk_fast.codecs.factorized import FactorizedQuantizer
from silk_fast.codecs.places import Forms, OnCpu, OnGpu, Place
from silk_fast.codecs.snake_family import SequenceShape, SnakeShape, UnitSequenceShape

OTHER_PARTS = (LocalMHA, nn.Tanh)


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


class CpuSnacResidualUnit(OnCpu, UnitSequenceShape, layers.ResidualUnit): ...


class CpuSnacNoise(OnCpu, NoiseShape, layers.NoiseBlock): ...


class CpuSnacEncoderBlock(OnCpu, SequenceShape, layers.EncoderBlock): ...


class CpuSnacDecoderBlock(OnCpu, SequenceShape, layers.DecoderBlock): ...


class CpuSnacEncoder(OnCpu, SequenceShape, layers.Encoder): ...


class CpuSnacDecoder(OnCpu, SequenceShape, layers.Decoder): ...


class GpuSnacSnake(OnGpu, SnakeShape, layers.Snake1d): ...


class GpuSnacResidualUnit(OnGpu, UnitSequenceShape, layers.ResidualUnit): ...


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


class GpuSnacQuantizer(FactorizedQuantizer, vq.ResidualVectorQuantize):
    """The last stage has a stride of 1."""

    def _strides(self) -> list[int]:
        return [stage.stride for stage in self.quantizers]

    def forward(self, z: Tensor):
        strides = self._strides()
        if not self._serves(z) or z.shape[2] % max(strides) or not all(s in (1, 2, 4, 8, 16) for s in strides):
            return super().forward(z)
        stages = self._stages(len(strides))
        indices, _ = self._search(z, stages, strides, "snac")
        z_q = self._back(self._entries(indices, stages), stages)
        return z_q, [index[:, ::stride] for index, stride in zip(indices.unbind(1), strides, strict=True)]

    def from_codes(self, codes: list[Tensor]) -> Tensor:
        if not self._serves(self.quantizers[0].codebook.weight[None]):
            return super().from_codes(codes)
        stages = self._stages(len(self.quantizers))
        held = [code.repeat_interleave(s, dim=-1) for code, s in zip(codes, self._strides(), strict=True)]
        return self._back(self._entries(torch.stack(held, dim=1), stages), stages)
