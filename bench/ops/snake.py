"""Snake at the shapes of Silk's encoder and decoder, of DAC and of Oobleck."""

import torch
from silk_fast.kernels.snake import snake

from bench.cases import DTYPES, StaticCase

SHAPES = {  # B, C, T
    "Silk 24 kHz, 1 s": (1, 64, 24000),
    "Silk 75 Hz, crop of 2 s": (16, 512, 150),
    "Silk 75 Hz, 3 frames": (1, 512, 90),
    "DAC 44.1 kHz, odd T": (1, 96, 44101),
    "Oobleck 600 samples": (2, 128, 602),
}


def static_cases() -> list[StaticCase]:
    return [
        StaticCase("snake", name, dtype, _call(*shape, dtype, fused), _wide(shape[-1]))
        for dtype in DTYPES
        for name, shape in SHAPES.items()
        for fused in (False, True)
    ]


def _wide(n_time: int) -> frozenset[str]:
    """Below 256 the backward kernel tiles rows, and its width depends on T; the forward kernel's does not."""
    return frozenset({"_snake_fwd_kernel", "_snake_bwd_kernel"})


def _call(n_batch, n_channels, n_time, dtype, fused):
    def call() -> None:
        x = torch.zeros(n_batch, n_channels, n_time, dtype=dtype, requires_grad=True)
        alpha, beta, bias = torch.ones(3, n_channels, dtype=dtype)
        y = snake(x, alpha, beta, bias, x.detach()) if fused else snake(x, alpha, beta)
        y.backward(torch.zeros_like(y))

    return call
