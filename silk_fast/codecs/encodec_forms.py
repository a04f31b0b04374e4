"""Forms of the modules of ``transformers``' EncodecModel."""

from typing import Any

from torch import Tensor, nn
from transformers.models.encodec import modeling_encodec as encodec

from silk_fast.codecs.codebooks import NearestEntries
from silk_fast.codecs.places import Forms, OnCpu, OnGpu
from silk_fast.codecs.seanet_family import BlockShape, CoderShape, ConvShape, TransposeShape

OTHER_PARTS = (nn.ELU, nn.GroupNorm, nn.Identity, encodec.EncodecLSTM)


class CpuEncodecConv(OnCpu, ConvShape, encodec.EncodecConv1d): ...


class CpuEncodecConvTranspose(OnCpu, TransposeShape, encodec.EncodecConvTranspose1d): ...


class CpuEncodecBlock(OnCpu, BlockShape, encodec.EncodecResnetBlock): ...


class CpuEncodecEncoder(OnCpu, CoderShape, encodec.EncodecEncoder): ...


class CpuEncodecDecoder(OnCpu, CoderShape, encodec.EncodecDecoder): ...


class GpuEncodecConv(OnGpu, ConvShape, encodec.EncodecConv1d): ...


class GpuEncodecConvTranspose(OnGpu, TransposeShape, encodec.EncodecConvTranspose1d): ...


class GpuEncodecBlock(OnGpu, BlockShape, encodec.EncodecResnetBlock): ...


class GpuEncodecEncoder(OnGpu, CoderShape, encodec.EncodecEncoder): ...


class GpuEncodecDecoder(OnGpu, CoderShape, encodec.EncodecDecoder): ...


class GpuEncodecQuantizer(NearestEntries, encodec.EncodecResidualVectorQuantizer):
    get_num_quantizers_for_bandwidth: Any

    def encode(self, embeddings: Tensor, bandwidth: float | None = None) -> Tensor:
        if not self._serves(embeddings):
            return super().encode(embeddings, bandwidth)
        return self._search(embeddings, self.get_num_quantizers_for_bandwidth(bandwidth), euclidean=False)

    def decode(self, codes: Tensor) -> Tensor:
        return self._entries(codes) if self._knows(codes) else super().decode(codes)


FORMS: Forms = {
    "conv": [
        (CpuEncodecConv, GpuEncodecConv),
        (CpuEncodecConvTranspose, GpuEncodecConvTranspose),
        (CpuEncodecBlock, GpuEncodecBlock),
        (CpuEncodecEncoder, GpuEncodecEncoder),
        (CpuEncodecDecoder, GpuEncodecDecoder),
    ]
}
