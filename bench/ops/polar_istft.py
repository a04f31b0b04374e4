"""Inverse STFT from log-magnitude and phase: polar form, packed inverse DFT, windowed overlap-add."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames, timing_case
from silk_fast.reference.ops import LOG_MAGNITUDE_LIMIT

POLAR = frozenset({"_polar_spectrum_fwd_kernel", "_polar_spectrum_bwd_kernel"})
OVERLAP_ADD = frozenset({"_overlap_add_fwd_kernel", "_overlap_add_bwd_kernel"})

LAYERS = {  # n_fft, hop, frames per second, alignment
    "Silk": (1280, 320, 75, "causal"),
    "Silk's sizes, centred": (1280, 320, 75, "center"),
    "X-Codec 2": (1280, 320, 50, "same"),
    "NeuCodec": (1920, 480, 50, "same"),
}
MAIN = ("Silk", "Silk's sizes, centred")


def _case(dtype: torch.dtype, n_frames: int, alignment: str, n_fft: int = 1280, hop: int = 320) -> StaticCase:
    """The head's output is a convolution's, ``[B, n_fft + 2, T]`` transposed: time is contiguous."""

    def run() -> None:
        from silk_fast.kernels.polar_istft import polar_istft

        head = torch.empty(1, n_fft + 2, n_frames, dtype=dtype, requires_grad=True)
        log_magnitude, phase = head.transpose(1, 2).split(n_fft // 2 + 1, dim=-1)
        polar_istft(log_magnitude, phase, torch.hann_window(n_fft), hop, alignment).sum().backward()

    # Rows of a number of frames that is not a multiple of 16 are read 2 or 4 bytes at a time, coalesced.
    wide = OVERLAP_ADD if n_frames % 16 else OVERLAP_ADD | POLAR
    return StaticCase("polar_istft", f"{alignment} {n_fft}/{hop} N={n_frames}", dtype, run, wide=wide)


def static_cases() -> list[StaticCase]:
    silk = [_case(dtype, n_frames, "causal") for dtype in DTYPES for n_frames in (30, 64)]  # 30: one latent frame
    return [*silk, _case(torch.float32, 50, "same", n_fft=1920, hop=480)]  # NeuCodec; X-Codec 2 compiles to the same


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases(_timing_case, LAYERS, points, dtypes)


def _timing_case(layer: str, point: Point, dtype: torch.dtype, direction: str) -> TimingCase:
    n_fft, hop, rate, alignment = LAYERS[layer]
    n_bins = n_fft // 2 + 1
    n_frames = max(2, frames(point[1], rate))  # the window envelope of one centred frame has zeros
    window = torch.hann_window(n_fft)

    def make(source: Source) -> list[Tensor]:
        """Heads as a convolution leaves them, ``[B, n_bins, N]`` transposed: time is contiguous."""
        shape = (point[0], n_bins, n_frames)
        log_magnitude, phase = (source.normal(*shape, scale=scale, constant=True) for scale in (0.5, 2.0))
        heads = [head.transpose(1, 2).requires_grad_(source.with_gradients) for head in (log_magnitude, phase)]
        return [*heads, window.to(source.device)]

    calls = both(lambda ops, *inputs: ops.polar_istft(*inputs, hop, alignment))
    calls["eager"] = _in_float32(calls["eager"])
    if alignment == "center":
        calls["torch.istft"] = _in_float32(lambda *inputs: library_istft(*inputs, hop))
    return timing_case(
        "polar_istft",
        layer,
        point,
        dtype,
        direction,
        {"B": point[0], "N": n_frames, "n_fft": n_fft, "hop": hop},
        (point[0], n_frames, n_bins),
        make,
        calls,
        uncapturable=frozenset({"torch.istft"}),  # it checks the envelope on the host
        is_main=layer in MAIN,
    )


def _in_float32(call: Callable) -> Callable:
    """``call`` of half precision in float32: it has no transforms of every length, so a user would do that, too."""

    def widened(log_magnitude: Tensor, phase: Tensor, window: Tensor) -> Tensor:
        dtype = torch.promote_types(log_magnitude.dtype, torch.float32)
        return call(log_magnitude.to(dtype), phase.to(dtype), window)

    return widened


def library_istft(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """The inverse STFT by ``torch.istft``, ``[B, (N - 1) * hop]``."""
    spectrum = torch.polar(log_magnitude.clamp(max=LOG_MAGNITUDE_LIMIT).exp(), phase)
    return torch.istft(spectrum.transpose(1, 2), window.shape[0], hop, window=window)
