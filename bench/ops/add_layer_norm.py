"""Residual sum and LayerNorm: Silk's Conformer (128 channels) and Wav2Vec2-BERT (1024)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {"silk": (2, 1500, 128), "wav2vec2_bert": (2, 1500, 1024)}
LAYERS = {"Silk": (128, 2.5), "Wav2Vec2-BERT": (1024, 50)}  # channels, frames per second
KERNELS = frozenset({"_add_layer_norm_fwd_kernel", "_add_layer_norm_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("add_layer_norm", name, dtype, partial(_inputs, dims), _call, KERNELS)
        for name, dims in SHAPES.items()
        for dtype in DTYPES
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("add_layer_norm", _describe, [*LAYERS], points, dtypes)


def _inputs(dims: tuple[int, int, int], source: Source) -> list[Tensor]:
    return [source.normal(*dims), source.normal(*dims), source.positive(dims[2]), source.normal(dims[2])]


def _call(ops, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor):
    return ops.add_layer_norm(x, residual, 0.5, weight, bias)


def _describe(layer: str, point: Point, *_: object) -> dict:
    n_channels, rate = LAYERS[layer]
    dims = (point[0], frames(point[1], rate), n_channels)
    sizes = {"N": dims[0] * dims[1], "C": n_channels}
    return {"sizes": sizes, "dims": dims, "make": partial(_inputs, dims), "calls": both(_call)}
