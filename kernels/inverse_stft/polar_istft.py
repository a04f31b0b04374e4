"""The public functions: polar form to packed spectrum, complex inverse DFT by cuFFT, windowed overlap-add."""

import torch
from torch import Tensor

from .._launch import check_operand
from .overlap_add import overlap_add
from .polar_spectrum import polar_spectrum

ALIGNMENTS = ("center", "same", "causal")


def polar_overlap_add(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int) -> Tensor:
    """Invert the DFT of ``exp(min(m, log 100)) * exp(i p)``, window and overlap-add; do not yet normalise.

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
    """Invert the STFT given by log-magnitude and phase, in one of three alignments.

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
    """Invert one chunk of a causal STFT: chunks one after the other give the samples of the whole.

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
    """Check the arguments; return the inverse real DFT of each frame, ``[B, N, n_fft]``."""
    n_fft = window.shape[0] if window.ndim == 1 else 0
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"window must be [n_fft], n_fft even, got {list(window.shape)}")
    if hop < 1 or n_fft % hop:
        raise ValueError(f"hop must divide n_fft = {n_fft}, got {hop}")
    if log_magnitude.ndim != 3 or log_magnitude.shape[2] != n_fft // 2 + 1:
        raise ValueError(f"log_magnitude must be [B, N, {n_fft // 2 + 1}], got {list(log_magnitude.shape)}")
    check_operand("window", window, (n_fft,), log_magnitude, "log_magnitude")
    if overlap is not None:
        check_operand("overlap", overlap, (len(log_magnitude), n_fft - hop), log_magnitude, "log_magnitude")
    if window.requires_grad:
        raise ValueError("window must not require a gradient, as none is computed; detach it")
    spectrum = torch.view_as_complex(polar_spectrum(log_magnitude, phase))
    return torch.view_as_real(torch.fft.ifft(spectrum, norm="forward")).flatten(-2)
