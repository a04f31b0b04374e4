"""Inverse STFT from log-magnitude and phase: polar form, packed inverse DFT, windowed overlap-add."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames
from silk_fast.reference.ops import LOG_MAGNITUDE_LIMIT

KERNELS = frozenset(
    f"_{name}_{direction}_kernel" for name in ("polar_spectrum", "overlap_add") for direction in ("fwd", "bwd")
)

LAYERS = {  # n_fft, hop, frames per second, alignment
    "Silk": (1280, 320, 75, "causal"),
    "Silk's sizes, centred": (1280, 320, 75, "center"),
    "X-Codec 2": (1280, 320, 50, "same"),
    "NeuCodec": (1920, 480, 50, "same"),
}
STREAMS = {"Silk stream": LAYERS["Silk"]}
MAIN = ("Silk", "Silk's sizes, centred", *STREAMS)


def _case(dtype: torch.dtype, n_frames: int, form: str, n_fft: int = 1280, hop: int = 320) -> StaticCase:
    """``form``: an alignment, ``stream`` or ``none`` (not normalised).

    The head's output is a convolution's, ``[B, n_fft + 2, T]`` transposed: time is contiguous.
    """

    def run() -> None:
        from silk_fast.kernels import polar_istft, polar_istft_stream, polar_overlap_add

        head = torch.empty(1, n_fft + 2, n_frames, dtype=dtype, requires_grad=True)
        arguments = *head.transpose(1, 2).split(n_fft // 2 + 1, dim=-1), torch.hann_window(n_fft), hop
        if form == "stream":
            audio, _ = polar_istft_stream(*arguments, torch.empty(1, n_fft - hop))
        elif form == "none":
            audio = polar_overlap_add(*arguments)
        else:
            audio = polar_istft(*arguments, form)
        audio.sum().backward()

    return StaticCase("polar_istft", f"{form} {n_fft}/{hop} N={n_frames}", dtype, run, KERNELS)


def static_cases() -> list[StaticCase]:
    """N = 30 is one latent frame. Only the polar form sees the dtype of the head: the frames are float32."""
    return [
        *(_case(dtype, n_frames, "causal") for dtype in DTYPES for n_frames in (30, 64)),
        *(_case(torch.float32, 30, form) for form in ("stream", "none", "center")),
        _case(torch.float32, 50, "same", n_fft=1920, hop=480),  # NeuCodec; X-Codec 2 compiles to the same
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return [
        *all_cases("polar_istft", _describe, LAYERS, points, dtypes, MAIN),
        *all_cases("polar_istft_stream", _describe, (), points, dtypes, MAIN, STREAMS),
    ]


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    is_stream = layer in STREAMS
    n_fft, hop, rate, alignment = (LAYERS | STREAMS)[layer]
    n_bins = n_fft // 2 + 1
    n_frames = max(2, frames(point[1], rate))  # the window envelope of one centred frame has zeros
    window = torch.hann_window(n_fft)

    def make(source: Source) -> list[Tensor]:
        """Heads as a convolution leaves them, ``[B, n_bins, N]`` transposed: time is contiguous."""
        shape = (point[0], n_bins, n_frames)
        log_magnitude, phase = (source.normal(*shape, scale=scale, constant=True) for scale in (0.5, 2.0))
        heads = [head.transpose(1, 2).requires_grad_(source.with_gradients) for head in (log_magnitude, phase)]
        overlaps = [source.normal(point[0], n_fft - hop).float()] if is_stream else []
        return [*heads, window.to(source.device), *overlaps]

    if is_stream:
        calls = both(lambda ops, m, p, window, overlap: ops.polar_istft_stream(m, p, window, hop, overlap))
    else:
        calls = both(lambda ops, *inputs: ops.polar_istft(*inputs, hop, alignment))
    calls["eager"] = _in_float32(calls["eager"])
    if alignment == "center":
        calls["torch.istft"] = _in_float32(lambda *inputs: library_istft(*inputs, hop))
    return {
        "sizes": {"B": point[0], "N": n_frames, "n_fft": n_fft, "hop": hop},
        "dims": (point[0], n_frames, n_bins),
        "make": make,
        "calls": calls,
        "uncapturable": frozenset({"torch.istft"}),  # it checks the envelope on the host
    }


def _in_float32(call: Callable) -> Callable:
    """``call`` of half precision in float32: it has no transforms of every length, so a user would do that, too."""

    def widened(log_magnitude: Tensor, phase: Tensor, *others: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        dtype = torch.promote_types(log_magnitude.dtype, torch.float32)
        return call(log_magnitude.to(dtype), phase.to(dtype), *others)

    return widened


def library_istft(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """The inverse STFT by ``torch.istft``, ``[B, (N - 1) * hop]``."""
    spectrum = torch.polar(log_magnitude.clamp(max=LOG_MAGNITUDE_LIMIT).exp(), phase)
    return torch.istft(spectrum.transpose(1, 2), window.shape[0], hop, window=window)
