"""`rel_attention`: Silk (8 heads of 16, window 63, 0) and Wav2Vec2Conformer (heads of 64, all keys)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench import attention
from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {  # name: samples, heads, queries, keys, D, window, with lengths
    "silk [16, 8, 75, 16]": (16, 8, 75, 75, 16, (63, 0), True),
    "silk stream [1, 8, 1 of 64, 16]": (1, 8, 1, 64, 16, (63, 0), False),
    "wav2vec2-conformer [4, 16, 500, 64]": (4, 16, 500, 500, 64, (None, None), True),
    **{f"other head [2, 8, 75, {d}]": (2, 8, 75, 75, d, (63, 0), True) for d in (8, 32, 96)},
    "wide head [1, 8, 500, 128]": (1, 8, 500, 500, 128, (None, None), False),
}
FORWARD_ONLY = ("silk stream [1, 8, 1 of 64, 16]",)

LAYERS = {  # heads, D, window, frames per second
    "Silk": (8, 16, (63, 0), 2.5),
    "Wav2Vec2-Conformer": (16, 64, (None, None), 50),
}
STREAMS = {"Silk stream": LAYERS["Silk"]}  # with a full cache of the keys before


def _inputs(n_batch, n_heads, n_queries, n_keys, head_dim, window, with_lengths, dtype, stream):
    def heads(n_rows):
        return torch.zeros(n_batch, n_rows, n_heads, head_dim, dtype=dtype).transpose(1, 2)

    left, right = (n_keys - 1 if extent is None else extent for extent in window)
    pos = torch.zeros(left + right + 1, n_heads, head_dim, dtype=dtype).transpose(0, 1)
    biases = torch.zeros(2, n_heads, head_dim, dtype=dtype).unbind()
    counts = torch.full((n_batch,), n_keys)
    tensors = [heads(n_queries), heads(n_keys), heads(n_keys), pos, *biases]
    return tensors, window, counts if with_lengths else None, counts * 0 if stream else None


def _run(name: str, dtype: torch.dtype) -> None:
    from silk_fast.kernels import rel_attention

    forward_only = name in FORWARD_ONLY
    tensors, *options = _inputs(*SHAPES[name], dtype, forward_only)
    tensors = [x.requires_grad_(not forward_only) for x in tensors]
    out = rel_attention(*tensors, *options)
    if not forward_only:
        torch.autograd.grad(out, tensors, torch.zeros_like(out))


def static_cases() -> list[StaticCase]:
    return attention.static_cases("rel_attention", SHAPES, _run)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("rel_attention", _describe, LAYERS, points, dtypes, streams=STREAMS)


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    is_stream = layer in STREAMS
    n_heads, dim, window, rate = (LAYERS | STREAMS)[layer]
    dims = (point[0], n_heads, frames(point[1], rate), dim)
    n_cached = window[0] if is_stream else 0
    n_keys = n_cached + dims[2]
    left, right = (n_keys - 1 if extent is None else extent for extent in window)

    def make(source: Source) -> list[Tensor | None]:
        """A projection leaves heads side by side in memory; what is joined to a cache lies head by head."""
        keys = [source.normal(*dims[:2], n_keys, dim) if is_stream else source.heads(*dims) for _ in range(2)]
        positions = [source.normal(n_heads, left + right + 1, dim), *(source.normal(n_heads, dim) for _ in range(2))]
        starts = torch.zeros(dims[0], dtype=torch.int64, device=source.device) if is_stream else None
        return [source.heads(*dims), *keys, *positions, starts]

    calls = both(lambda ops, *inputs: ops.rel_attention(*inputs[:-1], window, starts=inputs[-1]))
    if not is_stream:
        calls["sdpa"] = _by(attention.sdpa, left, right, window)
        if direction == "forward" or dims[2] > 1:  # a single frame has no gradient but that of its value
            calls["flex_attention"] = _by(attention.flex, left, right, window)
    return {
        "sizes": {"B": dims[0], "H": n_heads, "T": dims[2], "D": dim, "window": window, "cached": n_cached},
        "dims": dims,
        "make": make,
        "calls": calls,
        "scratch": attention.scratch(dims[0] * n_heads * dims[2] * n_keys, dtype),
    }


def _by(library: Callable, left: int, right: int, window: tuple[int | None, int | None]) -> Callable[..., Tensor]:
    """The op by a function of :mod:`bench.attention`."""

    def call(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, u: Tensor, v_bias: Tensor, starts: None) -> Tensor:
        position = (q + v_bias[:, None]) @ pos.transpose(-1, -2)
        row = attention.distances(q.shape[-2], -right, left, q.device)
        return library(q + u[:, None], k, v, position, row, window)

    return call
