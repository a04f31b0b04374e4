"""Residual sum and LayerNorm: Silk's Conformer (128 channels) and Wav2Vec2-BERT (1024)."""

import torch

from bench.cases import DTYPES, StaticCase

SHAPES = {"silk": (2, 1500, 128), "wav2vec2_bert": (2, 1500, 1024)}
KERNELS = frozenset({"_add_layer_norm_fwd_kernel", "_add_layer_norm_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    return [_case(name, shape, dtype) for name, shape in SHAPES.items() for dtype in DTYPES]


def _case(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> StaticCase:
    def run() -> None:
        from silk_fast.kernels.add_layer_norm import add_layer_norm

        x, residual = (torch.empty(shape, dtype=dtype, requires_grad=True) for _ in range(2))
        weight, bias = (torch.empty(shape[-1], dtype=dtype, requires_grad=True) for _ in range(2))
        outputs = add_layer_norm(x, residual, 0.5, weight, bias)
        torch.autograd.backward(outputs, [torch.empty(shape, dtype=dtype)] * 2)

    return StaticCase("add_layer_norm", name, dtype, run, wide=KERNELS)
