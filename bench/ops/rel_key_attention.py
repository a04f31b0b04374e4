"""`rel_key_attention`: Wav2Vec2-BERT (16 heads of 64, left 64, right 8), as in X-Codec 2."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench import attention
from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {  # samples, frames, heads, D
    **{f"other head [2, 8, 75, {d}]": (2, 75, 8, d) for d in (8, 96)},
    "wav2vec2-bert [4, 16, 500, 64]": (4, 500, 16, 64),
}

LAYER = "Wav2Vec2-BERT"
N_HEADS, DIM, LEFT, RIGHT, RATE = 16, 64, 64, 8, 50  # RATE: frames per second


def _run(name: str, dtype: torch.dtype) -> None:
    from silk_fast.kernels import rel_key_attention

    shape = SHAPES[name]
    heads = [torch.zeros(shape, dtype=dtype).transpose(1, 2) for _ in range(3)]
    table = torch.zeros(LEFT + RIGHT + 1, shape[-1], dtype=dtype)
    tensors = [x.requires_grad_() for x in (*heads, table)]
    out = rel_key_attention(*tensors, LEFT, RIGHT, torch.full(shape[:1], shape[1]))
    torch.autograd.grad(out, tensors, torch.zeros_like(out))


def static_cases() -> list[StaticCase]:
    return attention.static_cases("rel_key_attention", SHAPES, _run)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("rel_key_attention", _describe, [LAYER], points, dtypes)


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    dims = (point[0], N_HEADS, frames(point[1], RATE), DIM)

    def make(source: Source) -> list[Tensor]:
        return [*(source.heads(*dims) for _ in range(3)), source.normal(LEFT + RIGHT + 1, DIM)]

    calls = both(lambda ops, *inputs: ops.rel_key_attention(*inputs, LEFT, RIGHT))
    return {
        "sizes": {"B": dims[0], "H": N_HEADS, "T": dims[2], "D": DIM, "left": LEFT, "right": RIGHT},
        "dims": dims,
        "make": make,
        "calls": calls | {"sdpa": _by(attention.sdpa), "flex_attention": _by(attention.flex)},
        "scratch": attention.scratch(dims[0] * N_HEADS * dims[2] ** 2, dtype),
    }


def _by(library: Callable) -> Callable[..., Tensor]:
    """The op by a function of :mod:`bench.attention`; the table is of ``j - i``, so it is turned round."""

    def call(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        position = q @ table.flip(0).T
        row = attention.distances(q.shape[-2], -RIGHT, LEFT, q.device)
        return library(q, k, v, position, row, (None, None))

    return call
