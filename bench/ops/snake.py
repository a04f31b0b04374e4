"""Snake at the shapes of Silk, DAC and Oobleck: long rows, rows of odd length, rows shorter than a program."""

from collections.abc import Callable

import torch
from silk_fast.kernels.snake import snake

from bench.cases import DTYPES, StaticCase

SHAPES = {  # (B, C, T), fused with bias and residual
    "Silk 24 kHz, 1 s": ((1, 64, 24000), False),
    "Silk 75 Hz, crop of 2 s": ((16, 512, 150), False),
    "DAC 44.1 kHz, odd T": ((1, 96, 44101), True),
    "Oobleck, 602 frames": ((2, 2048, 602), True),
}
WIDE = frozenset({"_snake_fwd_kernel", "_snake_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("snake", name, dtype, _call(shape, dtype, fused), WIDE)
        for dtype in DTYPES
        for name, (shape, fused) in SHAPES.items()
    ]


def _call(shape: tuple[int, int, int], dtype: torch.dtype, fused: bool) -> Callable[[], None]:
    def call() -> None:
        x = torch.empty(shape, dtype=dtype, requires_grad=True)
        alpha, beta, bias = torch.empty(3, shape[1], dtype=dtype)
        y = snake(x, alpha, beta, bias, x.detach()) if fused else snake(x, alpha, beta)
        y.backward(torch.empty_like(y))

    return call
