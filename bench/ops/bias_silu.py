"""Bias + SiLU: the feed-forward blocks of Silk's Conformer, 4 * 128 channels."""

import torch

from bench.cases import DTYPES, StaticCase

SHAPE = (2, 1500, 512)  # wider inputs are cut into the same tiles
KERNELS = frozenset({"_bias_silu_fwd_kernel", "_bias_silu_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [_case(dtype) for dtype in DTYPES]


def _case(dtype: torch.dtype) -> StaticCase:
    def run() -> None:
        from silk_fast.kernels.bias_silu import bias_silu

        x = torch.empty(SHAPE, dtype=dtype, requires_grad=True)
        bias = torch.empty(SHAPE[-1], dtype=dtype, requires_grad=True)
        bias_silu(x, bias).backward(torch.empty(SHAPE, dtype=dtype))

    return StaticCase("bias_silu", "silk", dtype, run, wide=KERNELS)
