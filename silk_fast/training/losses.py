"""Reconstruction and adversarial losses; audio is float32 ``[B, 1, T]``."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from silk_fast.metrics import mel_filterbank
from silk_fast.reference.harmonics import LOWEST, Voice
from silk_fast.training.compiling import compiled

MEL_BANDS = {2048: 160, 1024: 80, 512: 40, 256: 20, 128: 10}  # by window length
FFT_SIZES = tuple(MEL_BANDS)
MAGNITUDE_FLOOR = 1e-4  # -80 dB re a full-scale sine: quieter is as good as silent
CONVERGENCE_WEIGHT = 0.5


class STFT(torch.autograd.Function):
    """Spectra ``[B, N, n_fft // 2 + 1, 2]``, real and imaginary, of signals ``[B, T]``: ``torch.stft``, centred.

    A quarter of a window is the hop. The gradient takes one inverse transform of real signals and four additions of
    whole frames, where that of ``torch.stft`` takes a complex transform and a scatter of samples.
    """

    @staticmethod
    def forward(ctx, signal: Tensor, window: Tensor) -> Tensor:
        n_fft = window.shape[0]
        padded = F.pad(signal[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
        ctx.save_for_backward(window)
        ctx.n_samples = signal.shape[1]
        return torch.view_as_real(torch.fft.rfft(padded.unfold(-1, n_fft, n_fft // 4) * window))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (window,), n_samples = ctx.saved_tensors, ctx.n_samples
        half, hop = window.shape[0] // 2, window.shape[0] // 4
        weights = window.new_full((half + 1, 1), 0.5)  # the inverse transform counts each bin twice but these two
        weights[0] = weights[half] = 1.0
        frames = torch.fft.irfft(torch.view_as_complex(gradient * weights), 2 * half, norm="forward") * window
        quarters = frames.unflatten(-1, (4, hop))
        n_frames = quarters.shape[1]
        padded = quarters.new_zeros(len(quarters), n_samples + 2 * half)
        rows = padded[:, : (n_frames + 3) * hop].unflatten(-1, (n_frames + 3, hop))
        for i in range(4):
            rows[:, i : i + n_frames] += quarters[:, :, i]
        before, inner, after = padded.split([half, n_samples, half], dim=1)
        inner[:, 1 : half + 1] += before.flip(-1)
        inner[:, n_samples - 1 - half : n_samples - 1] += after.flip(-1)
        return inner, None


def band_limited(audio: Tensor, bandwidth: Tensor, sample_rate: int) -> Tensor:
    """Take out of every signal what lies above a frequency: what a recording does not hold is not asked of a codec.

    Args:
        audio: ``[B, 1, T]``.
        bandwidth: ``[B]``, Hz.
        sample_rate: Hz.
    """
    n_samples = audio.shape[-1]
    frequencies = torch.arange(n_samples // 2 + 1, device=audio.device) * (sample_rate / n_samples)
    inside = frequencies <= bandwidth[:, None, None]
    return torch.fft.irfft(torch.fft.rfft(audio) * inside, n_samples)


class ReconstructionLoss(nn.Module):
    """Multi-resolution STFT (Yamamoto et al., 2020), multi-resolution log-mel L1 (Kumar et al., 2023), waveform L1.

    Magnitudes are scaled so that a full-scale sine has magnitude 1. At each resolution (Hann, hop a
    quarter window) the STFT loss is the mean absolute difference of log magnitudes plus half the
    spectral convergence, and the mel loss that of log magnitudes in mel bands, the fewer the shorter the
    window; resolutions are averaged.

    Args:
        sample_rate: Hz.
        compile: run what follows the transforms through ``torch.compile``.
        with_phase: also compare how phases change (:func:`phase_distance`).
    """

    def __init__(self, sample_rate: int, compile: bool = False, with_phase: bool = False) -> None:
        super().__init__()
        self._distances = compiled(spectral_distances) if compile else spectral_distances
        self._phase_distance = compiled(phase_distance) if compile else phase_distance
        self._with_phase = with_phase
        for n_fft in FFT_SIZES:
            window = torch.hann_window(n_fft)
            self.register_buffer(f"window_{n_fft}", 2 * window / window.sum(), persistent=False)
            mel = mel_filterbank(MEL_BANDS[n_fft], n_fft, sample_rate)
            self.register_buffer(f"mel_{n_fft}", mel, persistent=False)

    def forward(self, audio: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the losses ``waveform``, ``stft``, ``mel``, and maybe ``phase``, against ``target``, scalars."""
        distances, phases = [], []
        for n_fft in FFT_SIZES:
            window, mel = getattr(self, f"window_{n_fft}"), getattr(self, f"mel_{n_fft}")
            ours, theirs = (STFT.apply(signal[:, 0], window) for signal in (audio, target))
            distances.append(torch.stack(self._distances(ours, theirs, mel)))
            if self._with_phase:
                phases.append(self._phase_distance(ours, theirs))
        stft, mel = torch.stack(distances).mean(0)
        more = {"phase": torch.stack(phases).mean()} if phases else {}
        return {"waveform": F.l1_loss(audio, target), "stft": stft, "mel": mel, **more}


def spectral_distances(ours: Tensor, theirs: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the STFT and mel loss of spectra ``[B, N, K, 2]`` at one resolution; ``mel`` is ``[bands, K]``."""
    ours, theirs = (x.square().sum(-1).clamp(min=MAGNITUDE_FLOOR**2).sqrt() for x in (ours, theirs))
    convergence = (ours - theirs).norm() / theirs.norm()
    stft = F.l1_loss(ours.log(), theirs.log()) + CONVERGENCE_WEIGHT * convergence
    ours, theirs = ((x @ mel.T).clamp(min=MAGNITUDE_FLOOR).log() for x in (ours, theirs))
    return stft, F.l1_loss(ours, theirs)


def phase_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Compare the phase steps of spectra ``[B, N, K, 2]``: from frame to frame, and from bin to bin.

    The one is instantaneous frequency, the other group delay (Ai & Ling, 2023); neither asks where a signal begins. Of
    each step the distance is 1 less the cosine of its error, 0 to 2, weighted with the magnitudes of ``theirs``,
    which have no gradient.
    """
    distances = []
    for dim in (1, 2):
        (x, y), (u, v) = (_steps(spectra, dim) for spectra in (ours, theirs))
        floor = MAGNITUDE_FLOOR**4
        ours_2, theirs_2 = x.square() + y.square(), u.square() + v.square()
        distance = 1 - (x * u + y * v) / (ours_2.clamp(min=floor) * theirs_2.clamp(min=floor)).sqrt()
        weight = theirs_2.pow(0.25) * (theirs_2 > floor)  # the geometric mean of two magnitudes
        distances.append((distance * weight).sum() / weight.sum().clamp(min=MAGNITUDE_FLOOR))
    return torch.stack(distances).mean()


def _steps(spectra: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Multiply every element by the conjugate of the one before it: real and imaginary part."""
    n = spectra.shape[dim] - 1
    a, b = spectra.narrow(dim, 1, n), spectra.narrow(dim, 0, n)
    return (a * b).sum(-1), a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]


def voice_losses(voice: Voice, pitch: Tensor) -> dict[str, Tensor]:
    """Compare what was read from codes with a pitch ``[B, N]`` in Hz that is 0 where there is no voice.

    ``pitch`` is the mean error in octaves where there is one, ``voicing`` the cross entropy in nats.
    """
    voiced = pitch > 0
    error = (voice.log_pitch - (pitch.clamp(min=LOWEST) / LOWEST).log2()).abs()
    return {
        "pitch": ((error * voiced).sum() / voiced.sum().clamp(min=1)).float(),
        "voicing": F.binary_cross_entropy_with_logits(voice.voicing.float(), voiced.float()),
    }


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Average the least-squares loss (Mao et al., 2017) of logits on real and on made audio over discriminators."""
    losses = [(r - 1).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def adversarial_loss(fake: Sequence[Tensor]) -> Tensor:
    """Average the least-squares loss of a generator whose audio got these logits over discriminators."""
    return torch.stack([(f - 1).square().mean() for f in fake]).mean()


def feature_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Average the L1 distance of discriminator features, relative to the size of the real ones (Kumar et al., 2023).

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
