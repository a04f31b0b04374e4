"""Bias + SiLU: the feed-forward blocks of Silk's Conformer, 4 * 128 channels, and of Wav2Vec2-BERT."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPE = (2, 1500, 512)  # wider inputs are cut into the same tiles
LAYERS = {"Silk": (512, 2.5), "Wav2Vec2-BERT": (4096, 50)}  # channels, frames per second
KERNELS = frozenset({"_bias_silu_fwd_kernel", "_bias_silu_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [StaticCase("bias_silu", "silk", dtype, partial(_inputs, SHAPE), _call, KERNELS) for dtype in DTYPES]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("bias_silu", _describe, [*LAYERS], points, dtypes, main=("Silk",))


def _inputs(dims: tuple[int, int, int], source: Source) -> list[Tensor]:
    return [source.normal(*dims), source.normal(dims[2])]


def _call(ops, x: Tensor, bias: Tensor):
    return ops.bias_silu(x, bias)


def _describe(layer: str, point: Point, *_: object) -> dict:
    n_channels, rate = LAYERS[layer]
    dims = (point[0], frames(point[1], rate), n_channels)
    sizes = {"N": dims[0] * dims[1], "C": n_channels}
    return {"sizes": sizes, "dims": dims, "make": partial(_inputs, dims), "calls": both(_call)}
