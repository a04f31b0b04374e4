"""Forms of the modules of ``transformers``' DacModel."""

from transformers.models.dac import modeling_dac as dac

from silk_fast.codecs.snake_family import (
    CoderShape,
    DecoderBlockShape,
    EncoderBlockShape,
    Forms,
    OnCpu,
    OnGpu,
    SnakeShape,
    UnitShape,
)


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
