"""Snake at the shapes of Silk, DAC, SNAC and Oobleck: long rows, rows of odd length, rows shorter than a program."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {  # (B, C, T), fused with bias and residual
    "Silk 24 kHz, 1 s": ((1, 64, 24000), False),
    "Silk 75 Hz, crop of 2 s": ((16, 512, 150), False),
    "DAC 44.1 kHz, odd T": ((1, 96, 44101), True),
    "Oobleck, 602 frames": ((2, 2048, 602), True),
    "24 channels, odd T": ((1, 24, 4101), True),  # no multiple of 16
}
WIDE = frozenset({"_snake_fwd_kernel", "_snake_bwd_kernel", "_snake_short_bwd_kernel"})

LAYERS = {  # channels, samples per second, fused with bias and residual
    "Silk small 24 kHz": (32, 24_000, False),
    "DAC 44.1 kHz": (96, 44_100, False),
    "Silk small 75 Hz": (192, 75, False),
    "Silk base 24 kHz": (64, 24_000, False),
    "DAC 44.1 kHz + bias + residual": (96, 44_100, True),
    "DAC 689 Hz": (768, 44_100 / 64, False),
    "SNAC 12 kHz": (128, 12_000, False),
    "Oobleck 44.1 kHz": (128, 44_100, False),
}
MAIN = ("Silk small 24 kHz", "DAC 44.1 kHz")


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("snake", name, dtype, partial(_inputs, *shape), _call, WIDE)
        for dtype in DTYPES
        for name, shape in SHAPES.items()
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("snake", _describe, [*LAYERS], points, dtypes, MAIN)


def _inputs(dims: tuple[int, int, int], fused: bool, source: Source) -> list[Tensor]:
    inputs = [source.normal(*dims), source.positive(dims[1]), source.positive(dims[1])]
    return [*inputs, source.normal(dims[1]), source.normal(*dims)] if fused else inputs


def _call(ops, *inputs: Tensor):
    return ops.snake(*inputs)


def _describe(layer: str, point: Point, *_: object) -> dict:
    n_channels, rate, fused = LAYERS[layer]
    dims = (point[0], n_channels, frames(point[1], rate))
    calls = both(_call)
    if fused:
        plain = calls["eager"]
        calls["eager"] = lambda x, alpha, beta, bias, residual: residual + plain(x + bias[:, None], alpha, beta)
    sizes = {"B": dims[0], "C": dims[1], "T": dims[2], "bias": fused, "residual": fused}
    return {"sizes": sizes, "dims": dims, "make": partial(_inputs, dims, fused), "calls": calls}
