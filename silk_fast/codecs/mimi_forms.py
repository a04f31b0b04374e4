"""Forms of the modules of ``transformers``' MimiModel. Its transformers are its own, by PyTorch's fused attention."""

from typing import Any

from torch import Tensor, nn
from transformers.models.mimi import modeling_mimi as mimi

from silk_fast.acceleration.folding import Folding
from silk_fast.acceleration.forms import replaced_class
from silk_fast.codecs.codebooks import NearestEntries
from silk_fast.codecs.places import Forms, OnCpu, OnGpu, Place
from silk_fast.codecs.seanet_family import BlockShape, CoderShape, ConvShape, TransposeShape

OTHER_PARTS = (nn.ELU, nn.Identity)


class Streaming(Place):
    """A module that may be given the cache of a stream: what comes before the signal, of each of its convolutions."""

    def forward(self: Any, hidden_states: Tensor, padding_cache: Any | None = None) -> Tensor:
        if padding_cache is None:
            return super().forward(hidden_states)
        return replaced_class(type(self)).forward(self, hidden_states, padding_cache)


class StreamingConvShape(Streaming, ConvShape):
    layer_idx: Any

    def forward(self, hidden_states: Tensor, padding_cache: Any | None = None) -> Tensor:
        if padding_cache is None or not self.causal or not self._serves(hidden_states):
            return super().forward(hidden_states, padding_cache)
        x = hidden_states.to(self._half() or hidden_states.dtype)
        context = padding_cache.update(hidden_states, self.layer_idx).to(x.dtype)
        padding = (context.shape[-1], 0)
        return self._convolve("conv", x, self.plain, None, padding, context).to(hidden_states.dtype)


class StreamingBlockShape(Streaming, BlockShape): ...


class StreamingCoderShape(Streaming, CoderShape): ...


class CpuMimiConv(OnCpu, StreamingConvShape, mimi.MimiConv1d): ...


class CpuMimiConvTranspose(OnCpu, TransposeShape, mimi.MimiConvTranspose1d): ...


class CpuMimiBlock(OnCpu, StreamingBlockShape, mimi.MimiResnetBlock): ...


class CpuMimiEncoder(OnCpu, StreamingCoderShape, mimi.MimiEncoder): ...


class CpuMimiDecoder(OnCpu, CoderShape, mimi.MimiDecoder): ...


class GpuMimiConv(OnGpu, StreamingConvShape, mimi.MimiConv1d): ...


class GpuMimiConvTranspose(OnGpu, TransposeShape, mimi.MimiConvTranspose1d): ...


class GpuMimiBlock(OnGpu, StreamingBlockShape, mimi.MimiResnetBlock): ...


class GpuMimiEncoder(OnGpu, StreamingCoderShape, mimi.MimiEncoder): ...


class GpuMimiDecoder(OnGpu, CoderShape, mimi.MimiDecoder): ...


class MimiCodebook(Folding, mimi.MimiEuclideanCodebook):
    """Entries that follow their sums; the library keeps those of the first call, whatever is loaded later."""

    embed_sum: Tensor
    cluster_usage: Tensor
    epsilon: float

    @property
    def embed(self) -> Tensor:
        def compute() -> Tensor:
            return self.embed_sum / self.cluster_usage.clamp(min=self.epsilon)[:, None]

        return self.folded("embed", compute, self.embed_sum, self.cluster_usage)


class GpuMimiQuantizer(NearestEntries, mimi.MimiResidualVectorQuantizer):
    num_quantizers: int
    input_proj: Any
    output_proj: Any

    def encode(self, embeddings: Tensor, num_quantizers: int | None = None) -> Tensor:
        n_stages = self.num_quantizers if num_quantizers is None else num_quantizers
        if n_stages < 1 or not self._serves(embeddings):
            return super().encode(embeddings, num_quantizers)
        x = embeddings if self.input_proj is None else self.input_proj(embeddings)
        return self._search(x, n_stages, euclidean=True)

    def decode(self, codes: Tensor) -> Tensor:
        if not self._knows(codes.transpose(0, 1)):
            return super().decode(codes)
        y = self._entries(codes.transpose(0, 1))
        return y if self.output_proj is None else self.output_proj(y)


FORMS: Forms = {
    "conv": [
        (CpuMimiConv, GpuMimiConv),
        (CpuMimiConvTranspose, GpuMimiConvTranspose),
        (CpuMimiBlock, GpuMimiBlock),
        (CpuMimiEncoder, GpuMimiEncoder),
        (CpuMimiDecoder, GpuMimiDecoder),
    ]
}
