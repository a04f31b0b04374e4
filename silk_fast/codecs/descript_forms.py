"""Forms of the modules of ``descript-audio-codec``."""

from dac.model import dac
from dac.nn.layers import Snake1d
from torch import nn

from silk_fast.codecs.places import Forms, OnCpu, OnGpu
from silk_fast.codecs.snake_family import SequenceShape, SnakeShape, UnitSequenceShape

OTHER_PARTS = (nn.Tanh,)


class CpuDescriptSnake(OnCpu, SnakeShape, Snake1d): ...


class CpuDescriptResidualUnit(OnCpu, UnitSequenceShape, dac.ResidualUnit): ...


class CpuDescriptEncoderBlock(OnCpu, SequenceShape, dac.EncoderBlock): ...


class CpuDescriptDecoderBlock(OnCpu, SequenceShape, dac.DecoderBlock): ...


class CpuDescriptEncoder(OnCpu, SequenceShape, dac.Encoder): ...


class CpuDescriptDecoder(OnCpu, SequenceShape, dac.Decoder): ...


class GpuDescriptSnake(OnGpu, SnakeShape, Snake1d): ...


class GpuDescriptResidualUnit(OnGpu, UnitSequenceShape, dac.ResidualUnit): ...


class GpuDescriptEncoderBlock(OnGpu, SequenceShape, dac.EncoderBlock): ...


class GpuDescriptDecoderBlock(OnGpu, SequenceShape, dac.DecoderBlock): ...


class GpuDescriptEncoder(OnGpu, SequenceShape, dac.Encoder): ...


class GpuDescriptDecoder(OnGpu, SequenceShape, dac.Decoder): ...


FORMS: Forms = {
    "snake": [(CpuDescriptSnake, GpuDescriptSnake)],
    "conv": [
        (CpuDescriptResidualUnit, GpuDescriptResidualUnit),
        (CpuDescriptEncoderBlock, GpuDescriptEncoderBlock),
        (CpuDescriptDecoderBlock, GpuDescriptDecoderBlock),
        (CpuDescriptEncoder, GpuDescriptEncoder),
        (CpuDescriptDecoder, GpuDescriptDecoder),
    ],
}
