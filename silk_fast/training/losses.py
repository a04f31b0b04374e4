"""Reconstruction and adversarial losses; audio is float32 ``[B, 1, T]``."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.metrics import mel_filterbank

MEL_BANDS = {2048: 160, 1024: 80, 512: 40, 256: 20, 128: 10}  # by window length
FFT_SIZES = tuple(MEL_BANDS)
MAGNITUDE_FLOOR = 1e-4  # -80 dB re a full-scale sine: quieter is as good as silent
CONVERGENCE_WEIGHT = 0.5


class ReconstructionLoss(nn.Module):
    """Multi-resolution STFT (Yamamoto et al., 2020), multi-resolution log-mel L1 (Kumar et al., 2023), waveform L1.

    Magnitudes are scaled so that a full-scale sine has magnitude 1. At each resolution (Hann, hop a
    quarter window) the STFT loss is the mean absolute difference of log magnitudes plus half the
    spectral convergence, and the mel loss that of log magnitudes in mel bands, the fewer the shorter the
    window; resolutions are averaged.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for n_fft in FFT_SIZES:
            window = torch.hann_window(n_fft)
            self.register_buffer(f"window_{n_fft}", 2 * window / window.sum(), persistent=False)
            mel = mel_filterbank(MEL_BANDS[n_fft], n_fft, sample_rate)
            self.register_buffer(f"mel_{n_fft}", mel, persistent=False)

    def _magnitude(self, audio: Tensor, n_fft: int) -> Tensor:
        window = getattr(self, f"window_{n_fft}")
        spectrum = torch.stft(audio[:, 0], n_fft, n_fft // 4, window=window, return_complex=True)
        return spectrum.abs().clamp(min=MAGNITUDE_FLOOR)  # [B, n_fft // 2 + 1, frames]

    def forward(self, audio: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Losses ``waveform``, ``stft`` and ``mel`` of ``audio`` against ``target``, scalars."""
        stft, mel = [], []
        for n_fft in FFT_SIZES:
            ours, theirs = self._magnitude(audio, n_fft), self._magnitude(target, n_fft)
            convergence = (ours - theirs).norm() / theirs.norm()
            stft.append(F.l1_loss(ours.log(), theirs.log()) + CONVERGENCE_WEIGHT * convergence)
            mel.append(F.l1_loss(self._log_mel(ours, n_fft), self._log_mel(theirs, n_fft)))
        stft, mel = torch.stack(stft).mean(), torch.stack(mel).mean()
        return {"waveform": F.l1_loss(audio, target), "stft": stft, "mel": mel}

    def _log_mel(self, magnitude: Tensor, n_fft: int) -> Tensor:
        return (getattr(self, f"mel_{n_fft}") @ magnitude).clamp(min=MAGNITUDE_FLOOR).log()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss (Mao et al., 2017) of logits on real and on generated audio, averaged over discriminators."""
    losses = [(r - 1).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def adversarial_loss(fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of a generator whose audio got these logits, averaged over discriminators."""
    return torch.stack([(f - 1).square().mean() for f in fake]).mean()


def feature_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean L1 distance of discriminator features, each relative to the mean size of the real ones (Kumar et al., 2023).

    Args:
        real: per discriminator the feature maps of real audio; no gradient flows into them.
        fake: the same of generated audio.
    """
    terms = [
        F.l1_loss(f, r.detach()) / r.detach().abs().mean().clamp(min=1e-6)
        for maps in zip(real, fake, strict=True)
        for r, f in zip(*maps, strict=True)
    ]
    return torch.stack(terms).mean()
