"""`rel_key_attention`: Wav2Vec2-BERT (16 heads of 64, left 64, right 8), as in X-Codec 2."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench import attention
from bench.cases import Point, Source, StaticCase, TimingCase, both, frames, timing_case

KERNELS = (
    "_attention_fwd_kernel",
    "_attention_bwd_dq_kernel",
    "_attention_bwd_dkv_kernel",
    "_attention_bwd_dpos_kernel",
)
SHAPES = {  # samples, frames, heads, D
    **{f"other head [2, 8, 75, {d}]": (2, 75, 8, d) for d in (8, 96)},
    "wav2vec2-bert [4, 16, 500, 64]": (4, 500, 16, 64),
}

LAYER = "Wav2Vec2-BERT"
N_HEADS, DIM, LEFT, RIGHT, RATE = 16, 64, 64, 8, 50  # RATE: frames per second


def _run(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from silk_fast.kernels import rel_key_attention

    heads = [torch.zeros(shape, dtype=dtype).transpose(1, 2) for _ in range(3)]
    table = torch.zeros(LEFT + RIGHT + 1, shape[-1], dtype=dtype)
    tensors = [x.requires_grad_() for x in (*heads, table)]
    out = rel_key_attention(*tensors, LEFT, RIGHT, torch.full(shape[:1], shape[1]))
    torch.autograd.grad(out, tensors, torch.zeros_like(out))


def static_cases() -> list[StaticCase]:
    return [
        StaticCase(
            op="rel_key_attention",
            shape=name,
            dtype=dtype,
            run=partial(_run, shape, dtype),
            tensor_cores=frozenset(KERNELS) if dtype.itemsize == 2 else frozenset(),
        )
        for name, shape in SHAPES.items()
        for dtype in attention.static_dtypes(name)
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return [
        _timing_case(point, dtype, direction)
        for point in points
        for dtype in dtypes
        for direction in ("forward", "backward")
    ]


def _timing_case(point: Point, dtype: torch.dtype, direction: str) -> TimingCase:
    shape = (point[0], N_HEADS, frames(point[1], RATE), DIM)

    def make(source: Source) -> list[Tensor]:
        return [*(source.heads(*shape) for _ in range(3)), source.normal(LEFT + RIGHT + 1, DIM)]

    calls = both(lambda ops, *inputs: ops.rel_key_attention(*inputs, LEFT, RIGHT))
    calls |= {"sdpa": _by(attention.sdpa), "flex_attention": _by(attention.flex)}
    return timing_case(
        "rel_key_attention",
        LAYER,
        point,
        dtype,
        direction,
        {"B": shape[0], "H": N_HEADS, "T": shape[2], "D": DIM, "left": LEFT, "right": RIGHT},
        shape,
        make,
        calls,
        scratch=shape[0] * N_HEADS * shape[2] ** 2 * (8 + 6 * dtype.itemsize),  # int64 rows, scores and copies of them
        is_main=True,
    )


def _by(library: Callable) -> Callable[..., Tensor]:
    """The op by a function of :mod:`bench.attention`; the table is of ``j - i``, so it is turned round."""

    def call(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        position = q @ table.flip(0).T
        row = attention.distances(q.shape[-2], -RIGHT, LEFT, q.device)
        return library(q, k, v, position, row, (None, None))

    return call
