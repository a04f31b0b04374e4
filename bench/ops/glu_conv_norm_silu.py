"""GLU, depthwise convolution, LayerNorm, SiLU: Silk's Conformer (128 channels, 15 taps), Wav2Vec2-BERT (1024, 31)."""

import torch

from bench.cases import DTYPES, StaticCase

SHAPES = {"silk": (2, 1500, 128, 15), "wav2vec2_bert": (2, 1500, 1024, 31)}  # batch, frames, channels, taps
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
