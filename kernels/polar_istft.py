"""Inverse STFT of ``exp(min(m, log 100)) * exp(i p)``  (Vocos, Siuzdak, 2023), in three alignments.

Three launches, all memory-bound: polar form to packed spectrum (``polar_spectrum.py``), complex inverse DFT of
half the length (cuFFT), windowed overlap-add with its envelope (``overlap_add.py``). A Silk frame (n_fft 1280,
hop 320) moves 10 + 10 + 7 = 27 KB. The other way, one product with the DFT matrix that folds window and
overlap-add in, moves 6 KB a frame but costs 3.3 MFLOP, in float32 if the error is to stay below 1e-5.
Predicted at peak rates, product / this:

    RTX 3090 (35.6 TFLOP/s, 936 GB/s)    8 x 10 s: 0.55 / 0.17 ms    64 x 10 s: 4.4 / 1.4 ms
    H200     (67 TFLOP/s, 4.8 TB/s)      8 x 10 s: 0.29 / 0.03 ms    64 x 10 s: 2.3 / 0.27 ms

At 1 x 400 ms both are a few microseconds: the product reads a matrix of 6.6 MB, this launches three times.
"""

import torch
from torch import Tensor

from .overlap_add import overlap_add
from .polar_spectrum import polar_spectrum

ALIGNMENTS = ("center", "same", "causal")


def polar_overlap_add(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """Inverse DFT of ``exp(min(m, log 100)) * exp(i p)``, windowed and overlap-added; not yet normalised.

    The imaginary parts of DC and Nyquist are ignored. Frame f adds at samples ``f * hop ..``.

    Args:
        log_magnitude, phase: ``[B, N, n_fft // 2 + 1]``, natural logarithm and radians, any strides; float32,
            float16 or bfloat16, computed in float32 (float64 in float64).
        window: ``[n_fft]``, n_fft even; any floating dtype; no gradient flows to it.
        hop: samples between frames; divides n_fft.

    Returns:
        float32 (float64) ``[B, (N - 1) * hop + n_fft]``.

    Raises:
        ValueError: a shape, a device or ``hop`` is wrong, or ``window`` requires a gradient.
        TypeError: a dtype is not one of those above.
    """
    frames = _frames(log_magnitude, phase, window, hop)
    return overlap_add(frames, window, hop, 0, (frames.shape[1] - 1) * hop + frames.shape[2])


def polar_istft(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, alignment: str = "causal") -> Tensor:
    """Inverse STFT from log-magnitude and phase, in one of three alignments.

    ``center`` is ``torch.istft``: ``n_fft / 2`` samples are cut at each end. ``same`` cuts ``(n_fft - hop) // 2``
    at each end. Both divide by the window envelope. ``causal`` returns the first ``N * hop`` samples and divides
    by the constant envelope ``sum(window^2) / hop``, so that nothing depends on later frames.

    Args:
        log_magnitude, phase, window, hop: as in :func:`polar_overlap_add`.
        alignment: ``"center"``, ``"same"`` or ``"causal"``.

    Returns:
        float32 (float64) ``[B, (N - 1) * hop]`` for ``center``, else ``[B, N * hop]``; ``same`` gives one sample
        more where ``n_fft - hop`` is odd.

    Raises:
        ValueError, TypeError: as :func:`polar_overlap_add`, or an unknown alignment.
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
    """One chunk of the causal inverse STFT: chunks one after the other give the samples of the whole.

    Args:
        log_magnitude, phase, window, hop: as in :func:`polar_overlap_add`.
        overlap: ``[B, n_fft - hop]``, what the previous chunk returned; zeros, or None, at the start.

    Returns:
        (audio ``[B, N * hop]``, overlap ``[B, n_fft - hop]`` for the next chunk), float32 (float64), views of one
        buffer.

    Raises:
        ValueError, TypeError: as :func:`polar_overlap_add`, or ``overlap`` is of another shape or device.
    """
    frames = _frames(log_magnitude, phase, window, hop, overlap)
    n_out = frames.shape[1] * hop
    total = overlap_add(frames, window, hop, 0, n_out + frames.shape[2] - hop, "constant", overlap)
    return total[:, :n_out], total[:, n_out:]


def _frames(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, overlap: Tensor | None = None) -> Tensor:
    """Checks the arguments; the inverse real DFT of each frame, ``[B, N, n_fft]``."""
    n_fft = window.shape[0] if window.ndim == 1 else 0
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"window must be [n_fft], n_fft even, got {tuple(window.shape)}")
    if hop < 1 or n_fft % hop:
        raise ValueError(f"hop must divide n_fft = {n_fft}, got {hop}")
    if log_magnitude.ndim != 3 or log_magnitude.shape[2] != n_fft // 2 + 1:
        raise ValueError(f"log_magnitude must be [B, N, {n_fft // 2 + 1}], got {tuple(log_magnitude.shape)}")
    if overlap is not None and overlap.shape != (len(log_magnitude), n_fft - hop):
        raise ValueError(f"overlap must be [{len(log_magnitude)}, {n_fft - hop}], got {tuple(overlap.shape)}")
    if window.requires_grad:
        raise ValueError("window must not require a gradient, as none is computed; detach it")
    for name, tensor in {"window": window, "overlap": window if overlap is None else overlap}.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must have a floating dtype, got {tensor.dtype}")
        if tensor.device != log_magnitude.device:
            raise ValueError(f"{name} must be on {log_magnitude.device}, got {tensor.device}")
    spectrum = torch.view_as_complex(polar_spectrum(log_magnitude, phase))
    return torch.view_as_real(torch.fft.ifft(spectrum, norm="forward")).flatten(-2)
