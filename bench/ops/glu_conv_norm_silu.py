"""GLU, depthwise convolution, LayerNorm, SiLU: Silk's Conformer (128 channels, 15 taps), Wav2Vec2-BERT (1024, 31)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

SHAPES = {"silk": (2, 1500, 128, 15), "wav2vec2_bert": (2, 1500, 1024, 31)}  # batch, frames, channels, taps
LAYERS = {"Silk": (128, 15, 2.5), "Wav2Vec2-BERT": (1024, 31, 50)}  # channels, taps, frames per second
STREAMS = {"Silk stream": LAYERS["Silk"]}  # with the frames before as context
WIDE = frozenset({"_glu_conv_norm_silu_fwd_kernel", "_glu_conv_norm_silu_bwd_kernel", "_glu_conv_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    forms = [("silk", False), ("silk", True), ("wav2vec2_bert", False)]
    return [_case(name, dtype, has_context) for name, has_context in forms for dtype in DTYPES]


def _case(name: str, dtype: torch.dtype, has_context: bool) -> StaticCase:
    n_batch, n_time, n_channels, n_taps = SHAPES[name]

    def run() -> None:
        from silk_fast.kernels import glu_conv_norm_silu

        def leaf(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, requires_grad=True)

        context = leaf(n_batch, n_taps - 1, 2 * n_channels) if has_context else None
        vectors = (leaf(n_channels) for _ in range(3))
        y = glu_conv_norm_silu(
            leaf(n_batch, n_time, 2 * n_channels), leaf(n_channels, n_taps), *vectors, context=context
        )
        y.backward(torch.empty_like(y))

    return StaticCase("glu_conv_norm_silu", f"{name} with context" if has_context else name, dtype, run, WIDE)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    main = ("Silk", *STREAMS)
    return all_cases("glu_conv_norm_silu", _describe, LAYERS, points, dtypes, main, STREAMS)


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    is_stream = layer in STREAMS
    n_channels, n_taps, rate = (LAYERS | STREAMS)[layer]
    dims = (point[0], frames(point[1], rate), 2 * n_channels)
    n_before = n_taps - 1 if is_stream else 0

    def make(source: Source) -> list[Tensor | None]:
        weight = source.normal(n_channels, n_taps, scale=n_taps**-0.5)
        vectors = [source.normal(n_channels), source.positive(n_channels), source.normal(n_channels)]
        context = source.normal(dims[0], n_before, dims[2]) if is_stream else None
        return [source.normal(*dims), weight, *vectors, context]

    def call(ops, x, weight, bias, norm_weight, norm_bias, context):
        return ops.glu_conv_norm_silu(x, weight, bias, norm_weight, norm_bias, context=context)

    sizes = {"B": dims[0], "T": dims[1], "C": n_channels, "K": n_taps, "context": n_before}
    return {"sizes": sizes, "dims": dims, "make": make, "calls": both(call)}
