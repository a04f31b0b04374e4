"""Residual sum and LayerNorm: Silk's Conformer (128 channels) and Wav2Vec2-BERT (1024)."""

from collections.abc import Sequence

import torch

from bench.cases import DTYPES, Point, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {"silk": (2, 1500, 128), "wav2vec2_bert": (2, 1500, 1024)}
LAYERS = {"Silk": (128, 2.5), "Wav2Vec2-BERT": (1024, 50)}  # channels, frames per second
KERNELS = frozenset({"_add_layer_norm_fwd_kernel", "_add_layer_norm_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [_case(name, shape, dtype) for name, shape in SHAPES.items() for dtype in DTYPES]


def _case(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> StaticCase:
    def run() -> None:
        from silk_fast.kernels import add_layer_norm

        x, residual = (torch.empty(shape, dtype=dtype, requires_grad=True) for _ in range(2))
        weight, bias = (torch.empty(shape[-1], dtype=dtype, requires_grad=True) for _ in range(2))
        outputs = add_layer_norm(x, residual, 0.5, weight, bias)
        torch.autograd.backward(outputs, [torch.empty(shape, dtype=dtype)] * 2)

    return StaticCase("add_layer_norm", name, dtype, run, wide=KERNELS)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("add_layer_norm", _describe, LAYERS, points, dtypes)


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    n_channels, rate = LAYERS[layer]
    dims = (point[0], frames(point[1], rate), n_channels)

    def make(source):
        return [source.normal(*dims), source.normal(*dims), source.positive(n_channels), source.normal(n_channels)]

    calls = both(lambda ops, x, residual, weight, bias: ops.add_layer_norm(x, residual, 0.5, weight, bias))
    return {"sizes": {"N": dims[0] * dims[1], "C": n_channels}, "dims": dims, "make": make, "calls": calls}
