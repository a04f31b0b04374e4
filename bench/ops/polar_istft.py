"""Inverse STFT from log-magnitude and phase: polar form, packed inverse DFT, windowed overlap-add."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames
from silk_fast.reference.ops import LOG_MAGNITUDE_LIMIT

KERNELS = frozenset(
    f"_{name}_{direction}_kernel" for name in ("polar_spectrum", "overlap_add") for direction in ("fwd", "bwd")
)

LAYERS = {  # n_fft, hop, frames per second, form
    "Silk": (1280, 320, 75, "causal"),
    "Silk's sizes, centred": (1280, 320, 75, "center"),
    "X-Codec 2": (1280, 320, 50, "same"),
    "NeuCodec": (1920, 480, 50, "same"),
    "Silk stream": (1280, 320, 75, "stream"),
}
MAIN = ("Silk", "Silk's sizes, centred")


def static_cases() -> list[StaticCase]:
    """N = 30 is one latent frame. Only the polar form sees the dtype of the head: the frames are float32."""
    return [
        *(_static_case(dtype, n_frames, "causal") for dtype in DTYPES for n_frames in (30, 64)),
        *(_static_case(torch.float32, 30, form) for form in ("stream", "none", "center")),
        _static_case(torch.float32, 50, "same", n_fft=1920, hop=480),  # NeuCodec; X-Codec 2 compiles to the same
    ]


def _static_case(dtype: torch.dtype, n_frames: int, form: str, n_fft: int = 1280, hop: int = 320) -> StaticCase:
    shape = f"{form} {n_fft}/{hop} N={n_frames}"
    make = partial(_inputs, (1, n_frames, n_fft, hop), form)
    return StaticCase("polar_istft", shape, dtype, make, partial(_call, form, hop), KERNELS)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    *whole, stream = LAYERS
    return [
        *all_cases("polar_istft", _describe, whole, points, dtypes, MAIN),
        *all_cases("polar_istft_stream", _describe, [stream], points, dtypes),
    ]


def _inputs(sizes: tuple[int, int, int, int], form: str, source: Source) -> list[Tensor]:
    """A head as a convolution leaves it, ``[B, 2 * n_bins, N]`` transposed: time is contiguous."""
    n_batch, n_frames, n_fft, hop = sizes
    shape = (n_batch, n_fft // 2 + 1, n_frames)
    head = torch.cat([source.normal(*shape, scale=scale, constant=True) for scale in (0.5, 2.0)], 1)
    halves = head.transpose(1, 2).split(n_fft // 2 + 1, dim=-1)
    overlaps = [source.normal(n_batch, n_fft - hop, constant=True).float()] if form == "stream" else []
    window = torch.hann_window(n_fft, device=source.device)
    return [*(half.detach().requires_grad_(source.with_gradients) for half in halves), window, *overlaps]


def _call(form: str, hop: int, ops, log_magnitude: Tensor, phase: Tensor, window: Tensor, *overlaps: Tensor):
    """``form``: an alignment, ``stream`` or ``none`` (not normalised)."""
    if form == "stream":
        return ops.polar_istft_stream(log_magnitude, phase, window, hop, *overlaps)
    if form == "none":
        return ops.polar_overlap_add(log_magnitude, phase, window, hop)
    return ops.polar_istft(log_magnitude, phase, window, hop, form)


def _describe(layer: str, point: Point, *_: object) -> dict:
    n_fft, hop, rate, form = LAYERS[layer]
    n_frames = max(2, frames(point[1], rate))  # the window envelope of one centred frame has zeros
    calls = both(partial(_call, form, hop))
    calls["eager"] = _in_float32(calls["eager"])
    if form == "center":
        calls["torch.istft"] = _in_float32(lambda *inputs: library_istft(*inputs, hop))
    return {
        "sizes": {"B": point[0], "N": n_frames, "n_fft": n_fft, "hop": hop},
        "dims": (point[0], n_frames, n_fft // 2 + 1),
        "make": partial(_inputs, (point[0], n_frames, n_fft, hop), form),
        "calls": calls,
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
