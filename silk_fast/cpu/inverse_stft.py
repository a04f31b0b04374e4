"""Inverse STFT of log-magnitude and phase: ``inverse_stft.c`` before and after the inverse DFT, which is PyTorch's."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from silk_fast.cpu.checks import FLOATS, address, check_dtype, check_shape, is_half, parameters, threads
from silk_fast.cpu.library import load

ALIGNMENTS = ("center", "same", "causal")
NORMALIZATIONS = ("none", "constant", "window")


@lru_cache(maxsize=16)
def _twiddles(half: int) -> Tensor:
    """Cosine and sine of ``pi * k / half``, float32 ``[2, half]``."""
    angles = torch.arange(half, dtype=torch.float64, device="cpu") * (math.pi / half)
    return torch.stack([angles.cos(), angles.sin()]).float()


def polar_spectrum(log_magnitude: Tensor, phase: Tensor) -> Tensor:
    """Compute the spectrum ``exp(min(m, log 100)) * exp(i p) / n_fft``, packed for an inverse DFT of half the length.

    ``ifft(view_as_complex(polar_spectrum(m, p)), norm="forward")`` holds the even samples of a frame in its real
    parts, the odd ones in its imaginary parts. The imaginary parts of DC and Nyquist are ignored.

    Args:
        log_magnitude, phase: ``[B, N, h + 1]``, natural logarithm and radians, any strides, not empty.

    Returns:
        float32 ``[B, N, h, 2]``, real and imaginary parts.
    """
    check_dtype("log_magnitude", log_magnitude)
    shape = log_magnitude.shape
    if len(shape) != 3 or shape[2] < 2 or not log_magnitude.numel():
        raise ValueError(f"log_magnitude must be [B, N, n_fft / 2 + 1] and not empty, got {list(shape)}")
    if phase.dtype != log_magnitude.dtype:
        raise TypeError(f"phase must be {log_magnitude.dtype} as log_magnitude, got {phase.dtype}")
    check_dtype("phase", phase)
    check_shape("phase", phase, shape)
    n_batch, n_frames, half = shape[0], shape[1], shape[2] - 1
    twiddles = _twiddles(half)
    z = log_magnitude.new_empty((n_batch, n_frames, half, 2), dtype=torch.float32)
    load().silk_polar_spectrum(
        *(log_magnitude.data_ptr(), phase.data_ptr(), twiddles.data_ptr(), z.data_ptr()),
        *(*log_magnitude.stride(), *phase.stride(), n_batch, n_frames, half),
        *(is_half(log_magnitude), threads(z.numel())),
    )
    return z


def overlap_add(
    frames: Tensor,
    window: Tensor,
    hop: int,
    first: int,
    n_out: int,
    normalization: str = "none",
    overlap: Tensor | None = None,
) -> Tensor:
    """Window, overlap-add and normalise frames; return samples ``first .. first + n_out`` of the sum.

    Args:
        frames: float32 ``[B, N, n_fft]``, not empty; frame f adds at samples ``f * hop .. f * hop + n_fft``.
        window: ``[n_fft]``.
        hop: samples between frames; divides n_fft.
        first: first sample returned.
        n_out: number of samples returned; ``first + n_out <= (N - 1) * hop + n_fft``.
        normalization: ``"none"``; ``"constant"`` divides by ``sum(window^2) / hop``; ``"window"`` by the
            overlap-added squared window.
        overlap: ``[B, n_fft - hop]`` or None, what earlier frames add to the first samples; only with ``first = 0``
            and not with ``"window"``, whose envelope would lack those frames.

    Returns:
        float32 ``[B, n_out]``.
    """
    if frames.dtype is not torch.float32:
        raise TypeError(f"frames must be float32, got {frames.dtype}")
    check_dtype("frames", frames)
    if frames.ndim != 3 or not frames.numel():
        raise ValueError(f"frames must be [B, N, n_fft] and not empty, got {list(frames.shape)}")
    n_batch, n_frames, n_fft = frames.shape
    _check_hop(hop, n_fft)
    window = parameters("window", window, n_fft)
    n_total = (n_frames - 1) * hop + n_fft
    if first < 0 or n_out < 0 or first + n_out > n_total:
        raise ValueError(f"first and n_out must lie within {n_total} samples, got {first}, {n_out}")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {NORMALIZATIONS}, got {normalization!r}")
    if overlap is not None:
        overlap = parameters("overlap", overlap, n_batch, n_fft - hop)
        if first or normalization == "window":
            raise ValueError(f"overlap goes with first = 0, not {first}, and without 'window', got {normalization!r}")
    frames, y = frames.contiguous(), frames.new_empty((n_batch, n_out))
    load().silk_overlap_add(
        *(frames.data_ptr(), window.data_ptr(), address(overlap), y.data_ptr(), n_batch, n_frames, n_fft, hop),
        *(first, n_out, NORMALIZATIONS.index(normalization), threads(frames.numel())),
    )
    return y


def polar_overlap_add(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """Invert the DFT of ``exp(min(m, log 100)) * exp(i p)``, window and overlap-add; do not yet normalise.

    Args:
        log_magnitude, phase: ``[B, N, n_fft // 2 + 1]``, as in :func:`polar_spectrum`.
        window: ``[n_fft]``, n_fft even.
        hop: samples between frames; divides n_fft.

    Returns:
        float32 ``[B, (N - 1) * hop + n_fft]``; frame f adds at samples ``f * hop ..``.
    """
    frames = _frames(log_magnitude, phase, window, hop)
    return overlap_add(frames, window, hop, 0, (frames.shape[1] - 1) * hop + frames.shape[2])


def polar_istft(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, alignment: str = "causal") -> Tensor:
    """Invert the STFT given by log-magnitude and phase, in one of the reference's three alignments.

    Args:
        log_magnitude, phase, window, hop: as in :func:`polar_overlap_add`.
        alignment: ``"center"``, ``"same"`` or ``"causal"``.

    Returns:
        float32 ``[B, (N - 1) * hop]`` for ``center``, else ``[B, N * hop]``; ``same`` gives one sample more where
        ``n_fft - hop`` is odd.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"alignment must be center, same or causal, got {alignment!r}")
    frames = _frames(log_magnitude, phase, window, hop)
    _, n_frames, n_fft = frames.shape
    if alignment == "causal":
        return overlap_add(frames, window, hop, 0, n_frames * hop, "constant")
    cut = n_fft // 2 if alignment == "center" else (n_fft - hop) // 2
    return overlap_add(frames, window, hop, cut, (n_frames - 1) * hop + n_fft - 2 * cut, "window")


def polar_istft_stream(
    log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, overlap: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Invert one chunk of a causal STFT: chunks one after the other give the samples of the whole.

    Args:
        log_magnitude, phase, window, hop: as in :func:`polar_overlap_add`.
        overlap: ``[B, n_fft - hop]``, what the previous chunk returned; zeros, or None, at the start.

    Returns:
        (audio ``[B, N * hop]``, overlap ``[B, n_fft - hop]`` for the next chunk), float32, views of one buffer.
    """
    frames = _frames(log_magnitude, phase, window, hop, overlap)
    n_out = frames.shape[1] * hop
    total = overlap_add(frames, window, hop, 0, n_out + frames.shape[2] - hop, "constant", overlap)
    return total[:, :n_out], total[:, n_out:]


def _frames(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, overlap: Tensor | None = None) -> Tensor:
    """Check the arguments; return the inverse real DFT of each frame, ``[B, N, n_fft]``."""
    n_fft = window.shape[0] if window.ndim == 1 else 0
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"window must be [n_fft], n_fft even, got {list(window.shape)}")
    _check_hop(hop, n_fft)
    if log_magnitude.ndim != 3 or log_magnitude.shape[2] != n_fft // 2 + 1:
        raise ValueError(f"log_magnitude must be [B, N, {n_fft // 2 + 1}], got {list(log_magnitude.shape)}")
    check_dtype("window", window, FLOATS)
    if overlap is not None:
        check_dtype("overlap", overlap, FLOATS)
        check_shape("overlap", overlap, (len(log_magnitude), n_fft - hop))
    spectrum = torch.view_as_complex(polar_spectrum(log_magnitude, phase))
    return torch.view_as_real(torch.fft.ifft(spectrum, norm="forward")).flatten(-2)


def _check_hop(hop: int, n_fft: int) -> None:
    if hop < 1 or n_fft % hop:
        raise ValueError(f"hop must divide n_fft = {n_fft}, got {hop}")
