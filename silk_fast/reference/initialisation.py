"""How a Silk codec starts.

With PyTorch's defaults this codec collapses at once: the FSQ entropy is 0 bits and no gradient
reaches the encoder. Three things prevent it: unit-gain weights with damped residual branches, a
first convolution loud enough to bring Snake out of its linear range, and a decoder head that
starts at the average spectrum of speech with its pulses centred in the window.
"""

import math

import torch
from torch import Tensor, nn

from silk_fast.reference.conformer import ConvModule, FeedForward, RelativeAttention
from silk_fast.reference.layers import ResidualUnit
from silk_fast.reference.network import SilkNetwork

RESIDUAL_GAIN = 0.3
BRANCH_ENDS = {ResidualUnit: "conv2", FeedForward: "down", RelativeAttention: "output", ConvModule: "down"}
INPUT_GAIN = 12.0  # speech has an rms of about 0.08
NO_VOICE, LOW_CUTOFF = -2.0, -0.9  # where harmonics begin: with no voice, and a cutoff of 3 kHz for what is one
HEAD_GAIN = 0.5
SPEECH_LOG_MAGNITUDE = -3.2  # mean of log|S| over speech, n_fft 1280
SILENCE = 1e-5  # magnitudes below count as this one


@torch.no_grad()
def initialise_(codec: SilkNetwork, seed: int | None = None) -> None:
    """Draw every weight of a freshly built codec in place.

    Args:
        codec: a :class:`~silk_fast.SilkCodec` whose weight norm is not applied yet.
        seed: of a private generator; None draws from PyTorch's global one.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for module in codec.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0.0, math.sqrt(1.0 / fan_in), generator=generator)
            if module.bias is not None:
                module.bias.zero_()
    for module in codec.modules():
        branch_end = BRANCH_ENDS.get(type(module))
        if branch_end:
            getattr(module, branch_end).weight.mul_(RESIDUAL_GAIN)
    codec.encoder.input.weight.mul_(INPUT_GAIN)
    if source := codec.decoder.source:
        source.contour.bias[source.subframes :].copy_(
            torch.tensor([NO_VOICE, LOW_CUTOFF]).repeat_interleave(source.subframes)
        )
    head, n_bins = codec.decoder.head, codec.decoder.n_bins
    assert head.bias is not None
    head.weight[:n_bins].mul_(HEAD_GAIN)
    head.bias[:n_bins].fill_(SPEECH_LOG_MAGNITUDE)
    head.bias[n_bins:].copy_(math.pi * (torch.arange(n_bins) % 2))


@torch.no_grad()
def mean_log_magnitude(audio: Tensor, n_fft: int, hop: int) -> Tensor:
    """Mean over time of ``log|STFT|`` per bin of audio ``[B, T]``; ``[n_fft // 2 + 1]``."""
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = torch.stft(audio, n_fft, hop, window=window, return_complex=True)
    return spectrum.abs().clamp(min=SILENCE).log().mean((0, 2))


@torch.no_grad()
def calibrate_(codec: SilkNetwork, audio: Tensor) -> None:
    """Fit an untrained codec to data: latent statistics, and the average spectrum of the decoder's head.

    Args:
        codec: a :class:`~silk_fast.SilkCodec`; changed in place.
        audio: ``[B, 1, T]`` speech, T a multiple of the frame.
    """
    codec.quantizer.norm.set_statistics(codec.latents(audio))
    n_bins, istft, bias = codec.decoder.n_bins, codec.decoder.istft, codec.decoder.head.bias
    assert bias is not None
    bias[:n_bins].copy_(mean_log_magnitude(audio[:, 0], istft.n_fft, istft.hop))
