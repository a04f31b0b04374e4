"""Forms of the modules of ``transformers``' DacModel."""

from torch import Tensor
from transformers.models.dac import modeling_dac as dac

from silk_fast.codecs.factorized import FactorizedQuantizer
from silk_fast.codecs.places import Forms, OnCpu, OnGpu
from silk_fast.codecs.snake_family import CoderShape, DecoderBlockShape, EncoderBlockShape, SnakeShape, UnitShape


class CpuDacSnake(OnCpu, SnakeShape, dac.Snake1d): ...


class CpuDacResidualUnit(OnCpu, UnitShape, dac.DacResidualUnit): ...


class CpuDacEncoderBlock(OnCpu, EncoderBlockShape, dac.DacEncoderBlock): ...


class CpuDacDecoderBlock(OnCpu, DecoderBlockShape, dac.DacDecoderBlock): ...


class CpuDacEncoder(OnCpu, CoderShape, dac.DacEncoder): ...


class CpuDacDecoder(OnCpu, CoderShape, dac.DacDecoder): ...


class GpuDacSnake(OnGpu, SnakeShape, dac.Snake1d): ...


class GpuDacResidualUnit(OnGpu, UnitShape, dac.DacResidualUnit): ...


class GpuDacEncoderBlock(OnGpu, EncoderBlockShape, dac.DacEncoderBlock): ...


class GpuDacDecoderBlock(OnGpu, DecoderBlockShape, dac.DacDecoderBlock): ...


class GpuDacEncoder(OnGpu, CoderShape, dac.DacEncoder): ...


class GpuDacDecoder(OnGpu, CoderShape, dac.DacDecoder): ...


class GpuDacQuantizer(FactorizedQuantizer, dac.DacResidualVectorQuantizer):
    n_codebooks: int

    def forward(self, hidden_state: Tensor, n_quantizers: int | None = None):
        n_stages = min(self.n_codebooks if n_quantizers is None else n_quantizers, self.n_codebooks)
        if n_stages < 1 or not self._serves(hidden_state):
            return super().forward(hidden_state, n_quantizers)
        stages = self._stages(n_stages)
        indices, latents = self._search(hidden_state, stages, None, "dac")
        entries = self._entries(indices, stages)
        losses = (latents - entries).square().unflatten(2, (n_stages, -1)).mean((0, 1, 3)).sum().expand(len(latents))
        return self._back(entries, stages), indices, latents.transpose(1, 2), losses, losses.clone()

    def from_codes(self, audio_codes: Tensor):
        if audio_codes.ndim != 3 or not self._serves(self.quantizers[0].codebook.weight[None]):
            return super().from_codes(audio_codes)
        stages = self._stages(audio_codes.shape[1])
        entries = self._entries(audio_codes, stages)
        return self._back(entries, stages), entries.transpose(1, 2), audio_codes


FORMS: Forms = {
    "snake": [(CpuDacSnake, GpuDacSnake)],
    "conv": [
        (CpuDacResidualUnit, GpuDacResidualUnit),
        (CpuDacEncoderBlock, GpuDacEncoderBlock),
        (CpuDacDecoderBlock, GpuDacDecoderBlock),
        (CpuDacEncoder, GpuDacEncoder),
        (CpuDacDecoder, GpuDacDecoder),
    ],
}
