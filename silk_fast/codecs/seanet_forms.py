"""Forms of the modules of the package ``encodec``, which wraps each convolution once more."""

from typing import Any

from encodec import modules as seanet
from encodec.modules.seanet import SEANetResnetBlock
from torch import nn

from silk_fast.codecs.places import Forms, OnCpu, OnGpu
from silk_fast.codecs.seanet_family import BlockShape, CoderShape, ConvShape, TransposeShape

OTHER_PARTS = (nn.ELU, nn.GroupNorm, nn.Identity, seanet.SLSTM)


class WrappedConvShape(ConvShape):
    _pad1d = staticmethod(seanet.pad1d)

    def _parts(self) -> tuple[nn.Module, ...]:
        return self.conv.conv, self.conv.norm

    @property
    def plain(self) -> Any:
        return self.conv.conv

    @property
    def normalisation(self) -> nn.Module | None:
        return None if isinstance(self.conv.norm, nn.Identity) else self.conv.norm


class WrappedTransposeShape(TransposeShape):
    convtr: Any

    def _parts(self) -> tuple[nn.Module, ...]:
        return self.convtr.convtr, self.convtr.norm

    @property
    def plain(self) -> Any:
        return self.convtr.convtr

    @property
    def normalisation(self) -> nn.Module | None:
        return None if isinstance(self.convtr.norm, nn.Identity) else self.convtr.norm


class SequenceCoderShape(CoderShape):
    model: Any

    def _parts(self) -> tuple[nn.Module, ...]:
        return tuple(self.model)

    @property
    def steps(self) -> Any:
        return self.model


class CpuSeanetConv(OnCpu, WrappedConvShape, seanet.SConv1d): ...


class CpuSeanetConvTranspose(OnCpu, WrappedTransposeShape, seanet.SConvTranspose1d): ...


class CpuSeanetBlock(OnCpu, BlockShape, SEANetResnetBlock): ...


class CpuSeanetEncoder(OnCpu, SequenceCoderShape, seanet.SEANetEncoder): ...


class CpuSeanetDecoder(OnCpu, SequenceCoderShape, seanet.SEANetDecoder): ...


class GpuSeanetConv(OnGpu, WrappedConvShape, seanet.SConv1d): ...


class GpuSeanetConvTranspose(OnGpu, WrappedTransposeShape, seanet.SConvTranspose1d): ...


class GpuSeanetBlock(OnGpu, BlockShape, SEANetResnetBlock): ...


class GpuSeanetEncoder(OnGpu, SequenceCoderShape, seanet.SEANetEncoder): ...


class GpuSeanetDecoder(OnGpu, SequenceCoderShape, seanet.SEANetDecoder): ...


FORMS: Forms = {
    "conv": [
        (CpuSeanetConv, GpuSeanetConv),
        (CpuSeanetConvTranspose, GpuSeanetConvTranspose),
        (CpuSeanetBlock, GpuSeanetBlock),
        (CpuSeanetEncoder, GpuSeanetEncoder),
        (CpuSeanetDecoder, GpuSeanetDecoder),
    ]
}
