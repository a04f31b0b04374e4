"""Inverse STFT from log-magnitude and phase: polar form, packed inverse DFT, windowed overlap-add."""

import torch
from silk_fast.kernels.polar_istft import polar_istft

from bench.cases import DTYPES, StaticCase

POLAR = frozenset({"_polar_spectrum_fwd_kernel", "_polar_spectrum_bwd_kernel"})
OVERLAP_ADD = frozenset({"_overlap_add_fwd_kernel", "_overlap_add_bwd_kernel"})


def _case(dtype: torch.dtype, n_frames: int, alignment: str, n_fft: int = 1280, hop: int = 320) -> StaticCase:
    """The head's output is a convolution's, ``[B, n_fft + 2, T]`` transposed: time is contiguous."""

    def run() -> None:
        head = torch.empty(1, n_fft + 2, n_frames, dtype=dtype, requires_grad=True)
        log_magnitude, phase = head.transpose(1, 2).split(n_fft // 2 + 1, dim=-1)
        polar_istft(log_magnitude, phase, torch.hann_window(n_fft), hop, alignment).sum().backward()

    # Rows of a number of frames that is not a multiple of 16 are read 2 or 4 bytes at a time, coalesced.
    wide = OVERLAP_ADD if n_frames % 16 else OVERLAP_ADD | POLAR
    return StaticCase("polar_istft", f"{alignment} {n_fft}/{hop} N={n_frames}", dtype, run, wide=wide)


def static_cases() -> list[StaticCase]:
    silk = [_case(dtype, n_frames, "causal") for dtype in DTYPES for n_frames in (30, 64)]  # 30: one latent frame
    return [*silk, _case(torch.float32, 50, "same", n_fft=1920, hop=480)]  # NeuCodec; X-Codec 2 compiles to the same
