"""FSQ at Silk's 128 dimensions of 8 levels, X-Codec 2's 8 of 4 levels, and mixed levels."""

from collections.abc import Callable

import torch
from silk_fast.kernels.fsq import fsq_pack, fsq_quantize, fsq_unpack

from bench.cases import DTYPES, StaticCase

CASES = {  # shape, levels, group size, dim, dtypes
    "Silk, 32 x 25 frames": ((32, 25, 128), [8] * 128, 7, -1, DTYPES),
    "Silk, [B, D, F]": ((32, 128, 32), [8] * 128, 7, 1, DTYPES),
    "X-Codec 2, 10 s": ((4, 500, 8), [4] * 8, 8, -1, DTYPES),
    "mixed levels": ((4, 500, 8), [8, 5, 5, 5] * 2, 4, -1, DTYPES[:1]),
}
WIDE = frozenset({"_fsq_quantize_fwd_kernel", "_fsq_quantize_bwd_kernel"})  # a row of 19 tokens is not 16-byte aligned


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("fsq", name, dtype, _call(*arguments, dtype), WIDE)
        for name, (*arguments, dtypes) in CASES.items()
        for dtype in dtypes
    ]


def _call(shape: tuple, levels: list[int], group_size: int, dim: int, dtype: torch.dtype) -> Callable[[], None]:
    def call() -> None:
        z = torch.empty(shape, dtype=dtype, requires_grad=True)
        fsq_unpack(fsq_pack(z.detach(), levels, group_size, dim), levels, group_size, dim)
        codes = fsq_quantize(z, levels, dim)
        codes.backward(torch.empty_like(codes))

    return call
