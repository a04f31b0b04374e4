"""`rel_attention`: Silk (8 heads of 16, window 63, 0) and Wav2Vec2Conformer (heads of 64, all keys)."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench import attention
from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, both, frames

ALL = (None, None)
SHAPES = {  # (samples, heads, queries, D), cached keys, window, with lengths
    "silk [16, 8, 75, 16]": ((16, 8, 75, 16), 0, (63, 0), True),
    "silk stream [1, 8, 1 of 64, 16]": ((1, 8, 1, 16), 63, (63, 0), False),
    "wav2vec2-conformer [4, 16, 500, 64]": ((4, 16, 500, 64), 0, ALL, True),
    **{f"other head [2, 8, 75, {d}]": ((2, 8, 75, d), 0, (63, 0), True) for d in (8, 32, 96)},
    "wide head [1, 8, 500, 128]": ((1, 8, 500, 128), 0, ALL, False),
}

LAYERS = {  # heads, D, cached keys, window, frames per second
    "Silk": (8, 16, 0, (63, 0), 2.5),
    "Wav2Vec2-Conformer": (16, 64, 0, ALL, 50),
    "Silk stream": (8, 16, 63, (63, 0), 2.5),
}


def static_cases() -> list[StaticCase]:
    return attention.static_cases("rel_attention", SHAPES, _inputs, _call, _sizes)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("rel_attention", _describe, [*LAYERS], points, dtypes)


def _inputs(
    dims: tuple[int, int, int, int], n_cached: int, window: attention.Window, with_lengths: bool, source: Source
) -> list:
    """A projection leaves heads side by side in memory; what is joined to a cache lies head by head."""
    n_batch, n_heads, n_queries, dim = dims
    n_keys = n_cached + n_queries
    keys = [source.normal(n_batch, n_heads, n_keys, dim) if n_cached else source.heads(*dims) for _ in range(2)]
    n_rows = 1 + sum(n_keys - 1 if extent is None else extent for extent in window)
    positions = [source.normal(n_heads, n_rows, dim), *(source.normal(n_heads, dim) for _ in range(2))]
    counts = torch.full((n_batch,), n_keys, device=source.device) if with_lengths else None
    starts = torch.zeros(n_batch, dtype=torch.int64, device=source.device) if n_cached else None
    return [source.heads(*dims), *keys, *positions, window, counts, starts]


def _sizes(dims: tuple[int, int, int, int], n_cached: int, window: attention.Window, *_: object) -> dict:
    return {**dict(zip("BHTD", dims, strict=True)), "window": window, "cached": n_cached}


def _call(ops, *inputs):
    return ops.rel_attention(*inputs)


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    n_heads, dim, n_cached, window, rate = LAYERS[layer]
    dims = (point[0], n_heads, frames(point[1], rate), dim)
    calls = both(_call)
    if not n_cached:
        calls["sdpa"] = _by(attention.sdpa)
        if direction == "forward" or dims[2] > 1:  # a single frame has no gradient but that of its value
            calls["flex_attention"] = _by(attention.flex)
    return {
        "sizes": _sizes(dims, n_cached, window),
        "dims": dims,
        "make": partial(_inputs, dims, n_cached, window, False),
        "calls": calls,
    }


def _by(library: Callable) -> Callable[..., Tensor]:
    """The op by a function of :mod:`bench.attention`."""

    def call(q, k, v, pos, u, v_bias, window, lengths, starts) -> Tensor:
        left, right = (q.shape[-2] - 1 if extent is None else extent for extent in window)
        position = (q + v_bias[:, None]) @ pos.transpose(-1, -2)
        row = attention.distances(q.shape[-2], -right, left, q.device)
        return library(q + u[:, None], k, v, position, row, window)

    return call
