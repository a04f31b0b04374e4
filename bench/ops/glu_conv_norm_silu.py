"""GLU, depthwise convolution, LayerNorm, SiLU: Silk's Conformer (128 channels, 15 taps), Wav2Vec2-BERT (1024, 31)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {  # frames of context, input of 2 samples, taps
    "silk": (0, (2, 1500, 256), 15),
    "silk with context": (14, (2, 1500, 256), 15),
    "wav2vec2_bert": (0, (2, 1500, 2048), 31),
}
LAYERS = {  # channels, taps, frames per second
    "Silk": (128, 15, 2.5),
    "Wav2Vec2-BERT": (1024, 31, 50),
    "Silk stream": (128, 15, 2.5),  # with the frames before as context
}
WIDE = frozenset({"_glu_conv_norm_silu_fwd_kernel", "_glu_conv_norm_silu_bwd_kernel", "_glu_conv_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("glu_conv_norm_silu", name, dtype, partial(_inputs, *shape), _call, WIDE)
        for name, shape in SHAPES.items()
        for dtype in DTYPES
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("glu_conv_norm_silu", _describe, [*LAYERS], points, dtypes, ("Silk",))


def _inputs(n_before: int, dims: tuple[int, int, int], n_taps: int, source: Source) -> list[Tensor | None]:
    n_channels = dims[2] // 2
    weight = source.normal(n_channels, n_taps, scale=n_taps**-0.5)
    vectors = [source.normal(n_channels), source.positive(n_channels), source.normal(n_channels)]
    context = source.normal(dims[0], n_before, dims[2]) if n_before else None
    return [source.normal(*dims), weight, *vectors, context]


def _call(ops, *inputs: Tensor | None):
    return ops.glu_conv_norm_silu(*inputs[:-1], context=inputs[-1])


def _describe(layer: str, point: Point, *_: object) -> dict:
    n_channels, n_taps, rate = LAYERS[layer]
    dims = (point[0], frames(point[1], rate), 2 * n_channels)
    n_before = n_taps - 1 if layer.endswith("stream") else 0
    sizes = {"B": dims[0], "T": dims[1], "C": n_channels, "K": n_taps, "context": n_before}
    return {"sizes": sizes, "dims": dims, "make": partial(_inputs, n_before, dims, n_taps), "calls": both(_call)}
