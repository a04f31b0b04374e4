"""GLU, depthwise convolution, LayerNorm, SiLU: Silk's Conformer (128 channels, 15 taps), Wav2Vec2-BERT (1024, 31)."""

import torch

from bench.cases import DTYPES, StaticCase

SHAPES = {"silk": (2, 1500, 128, 15), "wav2vec2_bert": (2, 1500, 1024, 31)}  # batch, frames, channels, taps


def static_cases() -> list[StaticCase]:
    return [_case("silk", dtype) for dtype in DTYPES] + [_case("wav2vec2_bert", torch.float16)]


def _case(name: str, dtype: torch.dtype) -> StaticCase:
    n_batch, n_time, n_channels, n_taps = SHAPES[name]

    def run() -> None:
        from silk_fast.kernels.glu_conv_norm_silu import glu_conv_norm_silu

        x = torch.empty(n_batch, n_time, 2 * n_channels, dtype=dtype, requires_grad=True)
        weight = torch.empty(n_channels, n_taps, dtype=dtype, requires_grad=True)
        parameters = (torch.empty(n_channels, dtype=dtype, requires_grad=True) for _ in range(3))
        y = glu_conv_norm_silu(x, weight, *parameters)
        y.backward(torch.empty_like(y))

    return StaticCase("glu_conv_norm_silu", name, dtype, run)
