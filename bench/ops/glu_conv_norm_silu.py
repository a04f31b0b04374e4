"""GLU, depthwise convolution, LayerNorm, SiLU: Silk's Conformer (128 channels, 15 taps), Wav2Vec2-BERT (1024, 31)."""

from collections.abc import Sequence

import torch

from bench.cases import DTYPES, Point, StaticCase, TimingCase, all_cases, both, frames, timing_case

SHAPES = {"silk": (2, 1500, 128, 15), "wav2vec2_bert": (2, 1500, 1024, 31)}  # batch, frames, channels, taps
LAYERS = {"Silk": (128, 15, 2.5), "Wav2Vec2-BERT": (1024, 31, 50)}  # channels, taps, frames per second
WIDE = frozenset({"_glu_conv_norm_silu_fwd_kernel", "_glu_conv_norm_silu_bwd_kernel", "_glu_conv_bwd_kernel"})


def static_cases() -> list[StaticCase]:
    """A frame of Silk is one warp, 4 channels a thread: 16 bytes in float32, 8 in the others."""
    cases = [_case("silk", dtype, wide=WIDE if dtype == torch.float32 else frozenset()) for dtype in DTYPES]
    return [*cases, _case("silk", torch.float16, has_context=True), _case("wav2vec2_bert", torch.float16)]


def _case(name: str, dtype: torch.dtype, has_context: bool = False, wide: frozenset[str] = frozenset()) -> StaticCase:
    n_batch, n_time, n_channels, n_taps = SHAPES[name]

    def run() -> None:
        from silk_fast.kernels.glu_conv_norm_silu import glu_conv_norm_silu

        def leaf(*shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, requires_grad=True)

        context = leaf(n_batch, n_taps - 1, 2 * n_channels) if has_context else None
        vectors = (leaf(n_channels) for _ in range(3))
        y = glu_conv_norm_silu(
            leaf(n_batch, n_time, 2 * n_channels), leaf(n_channels, n_taps), *vectors, context=context
        )
        y.backward(torch.empty_like(y))

    return StaticCase("glu_conv_norm_silu", f"{name} with context" if has_context else name, dtype, run, wide)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases(_timing_case, LAYERS, points, dtypes)


def _timing_case(layer: str, point: Point, dtype: torch.dtype, direction: str) -> TimingCase:
    n_channels, n_taps, rate = LAYERS[layer]
    shape = (point[0], frames(point[1], rate), 2 * n_channels)

    def make(source):
        weight = source.normal(n_channels, n_taps, scale=n_taps**-0.5)
        vectors = [source.normal(n_channels), source.positive(n_channels), source.normal(n_channels)]
        return [source.normal(*shape), weight, *vectors]

    return timing_case(
        "glu_conv_norm_silu",
        layer,
        point,
        dtype,
        direction,
        {"B": shape[0], "T": shape[1], "C": n_channels, "K": n_taps},
        shape,
        make,
        both(lambda ops, *inputs: ops.glu_conv_norm_silu(*inputs)),
        is_main=layer == "Silk",
    )
