"""Harmonics in the spectra of Silk's decoder: whole clips, and one latent frame of a stream."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import DTYPES, Point, Source, StaticCase, TimingCase, all_cases, both, frames

N_FFT, RATE, FRAMES = 1280, 24_000, 75  # FRAMES a second
KERNELS = frozenset({"_add_harmonics_fwd_kernel"})


def static_cases() -> list[StaticCase]:
    """N = 30 is one latent frame."""
    return [
        StaticCase("add_harmonics", f"N={n_frames}", dtype, partial(_inputs, 1, n_frames), _call, KERNELS)
        for dtype in DTYPES
        for n_frames in (30, 64)
    ]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("add_harmonics", _describe, ["Silk"], points, dtypes, ("Silk",))


def _inputs(n_batch: int, n_frames: int, source: Source) -> list[Tensor]:
    """A head as a convolution leaves it, ``[B, 2 * n_bins, N]`` transposed, and a voice of 50 to 550 Hz."""
    n_bins = N_FFT // 2 + 1
    head = torch.cat([source.normal(n_batch, n_bins, n_frames, constant=True) for _ in range(2)], 1)
    halves = [half.detach().requires_grad_(source.with_gradients) for half in head.mT.split(n_bins, dim=-1)]
    one = torch.ones(n_batch, n_frames, dtype=torch.float64, device=source.device)
    steps = one.cumsum(1) / n_frames  # 0 to 1
    pitch = 50 + 500 * steps
    cutoff = (8_000 * steps).requires_grad_(source.with_gradients)
    return [*halves, pitch * N_FFT / RATE, cutoff, (steps * 2**31).long()]


def _call(ops, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    return ops.add_harmonics(*inputs, RATE / N_FFT)


def _describe(_: str, point: Point, *__: object) -> dict:
    n_frames = frames(point[1], FRAMES)
    return {
        "sizes": {"B": point[0], "N": n_frames, "K": N_FFT // 2 + 1},
        "dims": (point[0], n_frames, N_FFT // 2 + 1),
        "make": partial(_inputs, point[0], n_frames),
        "calls": both(_call),
    }
