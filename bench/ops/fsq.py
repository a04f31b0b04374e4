"""FSQ at Silk's 128 dimensions of 8 levels, X-Codec 2's 8 of 4 levels, and mixed levels."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames
from silk_fast.reference.ops import FSQ_EPSILON

CASES = {  # shape, levels, group size, dim, dtypes
    "Silk, 32 x 25 frames": ((32, 25, 128), [8] * 128, 7, -1, DTYPES),
    "Silk, [B, D, F]": ((32, 128, 32), [8] * 128, 7, 1, DTYPES),
    "X-Codec 2, 10 s": ((4, 500, 8), [4] * 8, 8, -1, DTYPES),
    "mixed levels": ((4, 500, 8), [8, 5, 5, 5] * 2, 4, -1, DTYPES[:1]),
}
WIDE = frozenset(f"_fsq_{name}_kernel" for name in ("pack", "unpack", "quantize_fwd", "quantize_bwd"))

LAYERS = {  # levels, group size, frames per second
    "Silk": ([8] * 128, 7, 2.5),
    "X-Codec 2": ([4] * 8, 8, 50),
}


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("fsq", name, dtype, partial(_latents, shape), partial(_all_three, *options), WIDE)
        for name, (shape, *options, dtypes) in CASES.items()
        for dtype in dtypes
    ]


def _latents(shape: tuple[int, ...], source: Source) -> list[Tensor]:
    return [source.normal(*shape)]


def _all_three(levels: list[int], group_size: int, dim: int, ops, z: Tensor) -> Tensor:
    ops.fsq_unpack(ops.fsq_pack(z.detach(), levels, group_size, dim), levels, group_size, dim)
    return ops.fsq_quantize(z, levels, dim)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    """Tokens are integers: unpacking has one dtype, and only quantising a backward pass."""

    def cases(op: str, dtypes: Sequence[torch.dtype], *directions: str) -> list[TimingCase]:
        return all_cases(op, partial(_describe, op), [*LAYERS], points, dtypes, ("Silk",), directions)

    return [
        *cases("fsq_pack", dtypes, "forward"),
        *cases("fsq_unpack", [dtype for dtype in dtypes if dtype == torch.float32], "forward"),
        *cases("fsq_quantize", dtypes, "forward", "backward"),
    ]


def latents(source: Source, *shape: int, n_levels: int) -> Tensor:
    """Latents of every digit alike, 0.1 or more from a rounding boundary, so that each digit has one answer."""
    digits = source.integers(n_levels, *shape)
    off = torch.rand(shape, generator=source.generator, device=source.device, dtype=torch.float64) * 0.8 - 0.4
    bounded = (digits - n_levels // 2 + off).clamp(-n_levels // 2, n_levels // 2 - 1)
    half, offset = (n_levels - 1) * (1 + FSQ_EPSILON) / 2, 0.5
    z = torch.atanh((bounded + offset) / half) - math.atanh(offset / half)
    return z.to(source.dtype).requires_grad_(source.with_gradients)


def _describe(op: str, layer: str, point: Point, *_: object) -> dict:
    levels, group_size, rate = LAYERS[layer]
    dims = (point[0], frames(point[1], rate), len(levels))

    def make(source: Source) -> list[Tensor]:
        if op == "fsq_unpack":
            return [source.integers(64, *dims[:2], -(-dims[2] // group_size))]
        return [latents(source, *dims, n_levels=levels[0])]

    options = (levels,) if op == "fsq_quantize" else (levels, group_size)
    calls = both(lambda ops, x: getattr(ops, op)(x, *options))
    sizes = {"N": dims[0] * dims[1], "D": dims[2], "group_size": group_size}
    return {"sizes": sizes, "dims": dims, "make": make, "calls": calls}
