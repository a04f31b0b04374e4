"""How far two recordings are apart, and the spectrograms to see it. Signals are float32 ``[T]`` at one rate."""

import math

import torch
from torch import Tensor

from silk_fast.errors import SilkInputError

N_FFT = 1024
HOP = 256
MAGNITUDE_FLOOR = 1e-5  # -100 dB re full scale


def magnitude_spectrogram(samples: Tensor, n_fft: int = N_FFT, hop: int = HOP) -> Tensor:
    """Compute ``|STFT|`` ``[n_fft // 2 + 1, frames]`` under a Hann window; a full-scale sine has magnitude 1."""
    window = torch.hann_window(n_fft, device=samples.device, dtype=samples.dtype)
    padded = torch.nn.functional.pad(samples, (0, max(0, n_fft - len(samples))))
    return torch.stft(padded, n_fft, hop, window=window, return_complex=True).abs() * (2 / window.sum())


def mel_filterbank(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Make triangles ``[n_mels, n_fft // 2 + 1]``, evenly spaced on the mel scale ``2595 log10(1 + f / 700)``."""
    top = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, n_mels + 2) / 2595) - 1)
    frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel_spectrogram(samples: Tensor, sample_rate: int, n_mels: int = 80) -> Tensor:
    """Compute the log-mel spectrogram in dB re full scale, floor -100 dB; ``[n_mels, frames]``."""
    mel = mel_filterbank(n_mels, N_FFT, sample_rate) @ magnitude_spectrogram(samples)
    return 20 * torch.log10(mel.clamp(min=MAGNITUDE_FLOOR))


def log_spectral_distance(reference: Tensor, other: Tensor) -> float:
    """Measure the log-spectral distance in dB: per frame the rms over bins of the level difference; their mean.

    Magnitudes below -100 dB re full scale count as -100 dB (Gray and Markel, 1976).

    Raises:
        SilkInputError: the signals have different lengths.
    """
    _check_same_length(reference, other)
    levels = [20 * torch.log10(magnitude_spectrogram(s).clamp(min=MAGNITUDE_FLOOR)) for s in (reference, other)]
    return (levels[0] - levels[1]).square().mean(0).sqrt().mean().item()


def log_mel_distance(reference: Tensor, other: Tensor, sample_rate: int) -> float:
    """Measure the mean absolute difference of the log-mel spectrograms, in dB.

    Raises:
        SilkInputError: the signals have different lengths.
    """
    _check_same_length(reference, other)
    first, second = (log_mel_spectrogram(s, sample_rate) for s in (reference, other))
    return (first - second).abs().mean().item()


def si_sdr(reference: Tensor, other: Tensor) -> float:
    """Measure the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019); inf for a scaled copy.

    Raises:
        SilkInputError: the signals have different lengths.
    """
    _check_same_length(reference, other)
    reference, other = reference.double(), other.double()
    energy = reference.square().sum()
    target = reference * ((reference @ other) / energy) if energy > 0 else torch.zeros_like(reference)
    return _decibel(target.square().sum(), (other - target).square().sum())


def level(samples: Tensor) -> float:
    """Measure the rms level in dB re full scale; -inf for silence."""
    return _decibel(samples.double().square().mean(), torch.tensor(1.0))


def _decibel(power: Tensor, reference: Tensor) -> float:
    if power <= 0:
        return -math.inf
    return 10 * math.log10(power / reference) if reference > 0 else math.inf


def _check_same_length(reference: Tensor, other: Tensor) -> None:
    if reference.shape != other.shape:
        raise SilkInputError(f"signals must have one length, got {tuple(reference.shape)} and {tuple(other.shape)}")
