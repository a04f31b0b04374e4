"""Residual vector quantisation: EnCodec and Mimi, whose codebooks are as wide as the vectors; DAC and SNAC, 8 wide."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, both, frames, kernels

WIDE = {  # frames per second, stages, codes, dimensions, roots of distances
    "EnCodec 24 kHz": (75, 8, 1024, 128, False),
    "Mimi": (12.5, 8, 2048, 256, True),
}
FACTORIZED = {  # frames per second, codes, strides, order of the score
    "DAC 44.1 kHz": (44100 / 512, 1024, (1,) * 9, "dac"),
    "SNAC 24 kHz": (24000 / 512, 4096, (4, 2, 1), "snac"),
}
DIMS = 8  # behind projections
HALF: Point = (1, 0.5)
GATHER = frozenset({"_rvq_decode_kernel"})


def static_cases() -> list[StaticCase]:
    """Of each codec half a second: enough to fill every tile, and more only repeats it."""

    def case(op: str, layer: str, make: Callable, call: Callable, wide: frozenset[str] = frozenset()) -> StaticCase:
        return StaticCase(op, layer, torch.float32, make, call, wide, with_gradients=False)

    return [
        *(
            case("rvq_encode", name, partial(_wide, layer, HALF), partial(_encode, layer))
            for name, layer in WIDE.items()
        ),
        *(case("rvq_decode", name, partial(_indices, layer, HALF), _decode, GATHER) for name, layer in WIDE.items()),
        *(
            case("factorized_rvq_encode", name, partial(_factorized, layer, HALF), partial(_search, layer))
            for name, layer in FACTORIZED.items()
        ),
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    """In float32, in which all of them search."""
    cases: list[TimingCase] = []
    single = [dtype for dtype in dtypes if dtype == torch.float32]
    for op, layers, main in (
        ("rvq_encode", WIDE, "EnCodec 24 kHz"),
        ("rvq_decode", WIDE, "EnCodec 24 kHz"),
        ("factorized_rvq_encode", FACTORIZED, "DAC 44.1 kHz"),
    ):
        cases += all_cases(op, partial(_describe, op), [*layers], points, single, (main,), ("forward",))
    return cases


def _describe(op: str, name: str, point: Point, *_: object) -> dict:
    layouts: dict[str, Callable] = {}
    if op == "factorized_rvq_encode":
        layer, layouts = FACTORIZED[name], {"ours": partial(_with_packed, True)}
        make, calls, (_, n_codes, strides, _) = partial(_factorized, layer, point), both(partial(_search, layer)), layer
        n_stages, n_dims = len(strides), DIMS
    else:
        layer = WIDE[name]
        encodes = op == "rvq_encode"
        make, calls = (
            partial(_wide if encodes else _indices, layer, point),
            both(partial(_encode, layer) if encodes else _decode),
        )
        layouts = {"ours": partial(_with_packed, False)} if encodes else {}
        _, n_stages, n_codes, n_dims, _ = layer
    dims = (point[0], _frames(layer, point), n_dims)
    sizes = {"N": dims[0] * dims[1], "Q": n_stages, "K": n_codes, "D": n_dims}
    return {"sizes": sizes, "dims": dims, "make": make, "calls": calls, "layouts": layouts}


def _with_packed(directions: bool, first: Tensor, books: Tensor, *tables: Tensor) -> list:
    """Inputs of a search, and its codebooks packed, as a model packs them once."""
    return [first, books, *tables, kernels().pack_codebooks(books, directions)]


def _frames(layer: tuple, point: Point) -> int:
    """Frames of the finest stage, whole groups of the coarsest."""
    stride = max(layer[2]) if isinstance(layer[2], tuple) else 1
    return stride * frames(point[1], layer[0] / stride)


def _books(source: Source, n_stages: int, n_codes: int, n_dims: int) -> Tensor:
    """Codebooks whose entries halve twice from stage to stage, so that a sum of entries has one answer."""
    sizes = 0.25 ** torch.arange(n_stages, device=source.device)
    return source.normal(n_stages, n_codes, n_dims, constant=True) * sizes[:, None, None]


def _indices(layer: tuple, point: Point, source: Source) -> list[Tensor]:
    _, n_stages, n_codes, n_dims, _ = layer
    indices = source.integers(n_codes, point[0], n_stages, _frames(layer, point))
    return [indices.long(), _books(source, n_stages, n_codes, n_dims)]


def _wide(layer: tuple, point: Point, source: Source) -> list[Tensor]:
    indices, books = _indices(layer, point, source)
    stages = zip(indices.unbind(1), books, strict=True)
    return [torch.stack([F.embedding(index, book) for index, book in stages]).sum(0), books]


def _factorized(layer: tuple, point: Point, source: Source) -> list[Tensor]:
    """Projections that each stage meets as one of its entries, after what the stages before it took away."""
    _, n_codes, strides, _ = layer
    n_stages = len(strides)
    books = _books(source, n_stages, n_codes, DIMS)
    tables = source.normal(n_stages, n_codes, n_stages * DIMS, scale=0.1, constant=True)
    projections = 0
    for i, stride in enumerate(strides):
        index = source.integers(n_codes, point[0], _frames(layer, point) // stride).repeat_interleave(stride, dim=1)
        later = (torch.arange(n_stages * DIMS, device=source.device) // DIMS > i) * F.embedding(index, tables[i])
        projections = projections + later + F.pad(F.embedding(index, books[i]), (i * DIMS, (n_stages - 1 - i) * DIMS))
    return [projections, books, tables]


def _encode(layer: tuple, ops, x: Tensor, books: Tensor, *packed) -> Tensor:
    return ops.rvq_encode(x, books, layer[4], *packed)


def _decode(ops, indices: Tensor, books: Tensor) -> Tensor:
    return ops.rvq_decode(indices, books)


def _search(layer: tuple, ops, projections: Tensor, books: Tensor, tables: Tensor, *packed) -> tuple[Tensor, Tensor]:
    return ops.factorized_rvq_encode(projections, books, tables, layer[2], layer[3], *packed)
