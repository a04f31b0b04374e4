"""`rel_key_attention`: Wav2Vec2-BERT (16 heads of 64, left 64, right 8), as in X-Codec 2."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench import attention
from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {  # (samples, heads, frames, D), with lengths
    **{f"other head [2, 8, 75, {d}]": ((2, 8, 75, d), True) for d in (8, 96)},
    "wav2vec2-bert [4, 16, 500, 64]": ((4, 16, 500, 64), True),
}

N_HEADS, DIM, LEFT, RIGHT, RATE = 16, 64, 64, 8, 50  # RATE: frames per second


def static_cases() -> list[StaticCase]:
    return attention.static_cases("rel_key_attention", SHAPES, _inputs, _call, _sizes)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("rel_key_attention", _describe, ["Wav2Vec2-BERT"], points, dtypes)


def _inputs(dims: tuple[int, int, int, int], with_lengths: bool, source: Source) -> list[Tensor | None]:
    counts = torch.full(dims[:1], dims[2], device=source.device) if with_lengths else None
    return [*(source.heads(*dims) for _ in range(3)), source.normal(LEFT + RIGHT + 1, dims[-1]), counts]


def _sizes(dims: tuple[int, int, int, int], *_: object) -> dict:
    return {**dict(zip("BHTD", dims, strict=True)), "left": LEFT, "right": RIGHT}


def _call(ops, *inputs: Tensor | None):
    return ops.rel_key_attention(*inputs[:-1], LEFT, RIGHT, inputs[-1])


def _describe(layer: str, point: Point, dtype: torch.dtype, *_: object) -> dict:
    dims = (point[0], N_HEADS, frames(point[1], RATE), DIM)
    return {
        "sizes": _sizes(dims),
        "dims": dims,
        "make": partial(_inputs, dims, False),
        "calls": both(_call) | {"sdpa": _by(attention.sdpa), "flex_attention": _by(attention.flex)},
    }


def _by(library: Callable) -> Callable[..., Tensor]:
    """The op by a function of :mod:`bench.attention`; the table is of ``j - i``, so it is turned round."""

    def call(q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: None) -> Tensor:
        position = q @ table.flip(0).T
        row = attention.distances(q.shape[-2], -RIGHT, LEFT, q.device)
        return library(q, k, v, position, row, (None, None))

    return call
