"""Bias + SiLU: the feed-forward blocks of Silk's Conformer, 4 * 128 channels."""

from collections.abc import Sequence

import torch

from bench.cases import DTYPES, Point, StaticCase, TimingCase, all_cases, both, frames

SHAPE = (2, 1500, 512)  # wider inputs are cut into the same tiles
LAYERS = {"Silk": (512, 2.5), "Wav2Vec2-BERT": (4096, 50)}  # channels, frames per second
KERNELS = frozenset({"_bias_silu_fwd_kernel", "_bias_silu_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [_case(dtype) for dtype in DTYPES]


def _case(dtype: torch.dtype) -> StaticCase:
    def run() -> None:
        from silk_fast.kernels import bias_silu

        x = torch.empty(SHAPE, dtype=dtype, requires_grad=True)
        bias = torch.empty(SHAPE[-1], dtype=dtype, requires_grad=True)
        bias_silu(x, bias).backward(torch.empty(SHAPE, dtype=dtype))

    return StaticCase("bias_silu", "silk", dtype, run, wide=KERNELS)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("bias_silu", _describe, LAYERS, points, dtypes, main=("Silk",))


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    n_channels, rate = LAYERS[layer]
    dims = (point[0], frames(point[1], rate), n_channels)
    return {
        "sizes": {"N": dims[0] * dims[1], "C": n_channels},
        "dims": dims,
        "make": lambda source: [source.normal(*dims), source.normal(n_channels)],
        "calls": both(lambda ops, x, bias: ops.bias_silu(x, bias)),
    }
