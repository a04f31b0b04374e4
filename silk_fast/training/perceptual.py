"""Perceptual loss: how far two recordings are apart for WavLM (Chen et al., 2022), through ``transformers``."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.errors import SilkModelError

WAVLM_RATE = 16_000
HALF_TAPS = 24  # input samples on each side of the resampling filter
PASS_BAND = 0.94  # of the new Nyquist frequency


class Resampler(nn.Module):
    """Differentiable windowed-sinc resampling of ``[B, 1, T]`` to 16 kHz: one strided convolution, one channel a phase.

    Args:
        sample_rate: Hz, of the input.
    """

    filters: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        common = math.gcd(sample_rate, WAVLM_RATE)
        self.stride, self.phases = sample_rate // common, WAVLM_RATE // common
        offsets = torch.arange(self.phases) * (self.stride / self.phases)  # of each output, in input samples
        taps = torch.arange(-HALF_TAPS, HALF_TAPS + self.stride)
        distance = taps - offsets[:, None]
        bandwidth = PASS_BAND * min(1.0, WAVLM_RATE / sample_rate)
        window = torch.cos(distance.clamp(-HALF_TAPS, HALF_TAPS) * (math.pi / 2 / HALF_TAPS)).square()
        self.register_buffer("filters", (bandwidth * torch.sinc(bandwidth * distance) * window)[:, None])

    def forward(self, audio: Tensor) -> Tensor:
        """Resample ``[B, 1, T]`` to ``[B, T']`` with T' = T * 16000 / sample_rate, up to whole groups of phases."""
        right = -audio.shape[-1] % self.stride + HALF_TAPS
        padded = F.pad(audio, (HALF_TAPS, right))
        return F.conv1d(padded, self.filters, stride=self.stride).transpose(1, 2).flatten(1)


class WavLMLoss(nn.Module):
    """Mean L1 distance of the hidden states of all layers, relative to the size of the target's.

    Args:
        name: directory or hub id of a WavLM model, as ``transformers`` loads it; its weights stay as they are.
        sample_rate: Hz, of the audio.

    Raises:
        SilkModelError: ``transformers`` is missing, or the model cannot be loaded.
    """

    def __init__(self, name: str, sample_rate: int) -> None:
        super().__init__()
        try:
            from transformers import WavLMModel
        except ImportError as error:
            raise SilkModelError("the WavLM loss needs transformers: pip install transformers") from error
        try:
            self.wavlm = WavLMModel.from_pretrained(name).requires_grad_(False).eval()
        except Exception as error:  # transformers raises many kinds
            raise SilkModelError(f"cannot load WavLM from {name!r}: {error}") from error
        self.resample = Resampler(sample_rate)

    def forward(self, audio: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of ``audio`` ``[B, 1, T]`` from ``target``; a scalar, differentiable in ``audio``."""
        with torch.no_grad():
            theirs = self.resample(target)
            scale = theirs.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-4)
            wanted = self.wavlm(theirs / scale, output_hidden_states=True).hidden_states
        ours = self.wavlm(self.resample(audio) / scale, output_hidden_states=True).hidden_states
        terms = [F.l1_loss(o, w) / w.abs().mean().clamp(min=1e-6) for o, w in zip(ours, wanted, strict=True)]
        return torch.stack(terms).mean()
