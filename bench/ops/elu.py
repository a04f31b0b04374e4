"""ELU at the shapes of EnCodec and Mimi: long rows, rows of odd length, rows shorter than a program."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {  # (B, C, T), with bias, with residual
    "EnCodec 24 kHz, 1 s": ((1, 32, 24000), False, False),
    "EnCodec 24 kHz, 1 s, after the unit": ((1, 32, 24000), True, True),
    "EnCodec 75 Hz, crop of 2 s": ((16, 512, 150), True, False),
    "Mimi 24 kHz, hidden, odd T": ((1, 32, 24001), True, False),
    "Mimi 200 Hz, crop of 3.01 s": ((2, 512, 602), True, True),
    "24 channels, odd T": ((1, 24, 4101), True, True),  # no multiple of 16
}
WIDE = frozenset({"_elu_fwd_kernel", "_elu_bwd_kernel", "_elu_short_bwd_kernel"})

LAYERS = {  # channels, samples per second, with bias, with residual
    "EnCodec 24 kHz + bias + residual": (32, 24_000, True, True),
    "Mimi 24 kHz, hidden + bias": (32, 24_000, True, False),
    "EnCodec 24 kHz": (32, 24_000, False, False),
    "EnCodec 600 Hz + bias + residual": (256, 600, True, True),
    "EnCodec 75 Hz + bias": (512, 75, True, False),
    "Mimi 6 kHz + bias + residual": (128, 6_000, True, True),
    "Mimi 25 Hz + bias": (1024, 25, True, False),
}
MAIN = ("EnCodec 24 kHz + bias + residual", "Mimi 24 kHz, hidden + bias")


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("elu", name, dtype, partial(_inputs, *shape), _call, WIDE)
        for dtype in DTYPES
        for name, shape in SHAPES.items()
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("elu", _describe, [*LAYERS], points, dtypes, MAIN)


def _inputs(dims: tuple[int, int, int], bias: bool, residual: bool, source: Source) -> list[Tensor | None]:
    return [source.normal(*dims), source.normal(dims[1]) if bias else None, source.normal(*dims) if residual else None]


def _call(ops, *inputs: Tensor | None):
    return ops.elu(*inputs)


def _describe(layer: str, point: Point, *_: object) -> dict:
    n_channels, rate, bias, residual = LAYERS[layer]
    dims = (point[0], n_channels, frames(point[1], rate))
    sizes = {"B": dims[0], "C": dims[1], "T": dims[2], "bias": bias, "residual": residual}
    return {"sizes": sizes, "dims": dims, "make": partial(_inputs, dims, bias, residual), "calls": both(_call)}
