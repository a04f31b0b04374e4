"""Forms of the modules of ``diffusers``' AutoencoderOobleck."""

from diffusers.models.autoencoders import autoencoder_oobleck as oobleck

from silk_fast.codecs.places import Forms, OnCpu, OnGpu
from silk_fast.codecs.snake_family import CoderShape, DecoderBlockShape, EncoderBlockShape, SnakeShape, UnitShape


class CpuOobleckSnake(OnCpu, SnakeShape, oobleck.Snake1d): ...


class CpuOobleckResidualUnit(OnCpu, UnitShape, oobleck.OobleckResidualUnit): ...


class CpuOobleckEncoderBlock(OnCpu, EncoderBlockShape, oobleck.OobleckEncoderBlock): ...


class CpuOobleckDecoderBlock(OnCpu, DecoderBlockShape, oobleck.OobleckDecoderBlock): ...


class CpuOobleckEncoder(OnCpu, CoderShape, oobleck.OobleckEncoder): ...


class CpuOobleckDecoder(OnCpu, CoderShape, oobleck.OobleckDecoder): ...


class GpuOobleckSnake(OnGpu, SnakeShape, oobleck.Snake1d): ...


class GpuOobleckResidualUnit(OnGpu, UnitShape, oobleck.OobleckResidualUnit): ...


class GpuOobleckEncoderBlock(OnGpu, EncoderBlockShape, oobleck.OobleckEncoderBlock): ...


class GpuOobleckDecoderBlock(OnGpu, DecoderBlockShape, oobleck.OobleckDecoderBlock): ...


class GpuOobleckEncoder(OnGpu, CoderShape, oobleck.OobleckEncoder): ...


class GpuOobleckDecoder(OnGpu, CoderShape, oobleck.OobleckDecoder): ...


FORMS: Forms = {
    "snake": [(CpuOobleckSnake, GpuOobleckSnake)],
    "conv": [
        (CpuOobleckResidualUnit, GpuOobleckResidualUnit),
        (CpuOobleckEncoderBlock, GpuOobleckEncoderBlock),
        (CpuOobleckDecoderBlock, GpuOobleckDecoderBlock),
        (CpuOobleckEncoder, GpuOobleckEncoder),
        (CpuOobleckDecoder, GpuOobleckDecoder),
    ],
}
