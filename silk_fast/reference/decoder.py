"""Convolutional decoder: codes ``[B, F, 128]`` to audio ``[B, 1, 9600 F]``."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.reference.harmonics import HarmonicSource, HarmonicState, Voice
from silk_fast.reference.layers import CausalConv1d, ResidualUnit, Snake
from silk_fast.reference.module import OpsModule
from silk_fast.reference.state import ContextState, State


@dataclass
class OverlapState(State):
    """What earlier frames add to the next samples: ``[B, n_fft - hop]``."""

    overlap: Tensor


@dataclass
class DecoderState(State):
    input: ContextState
    units: list[ContextState]
    head: ContextState
    istft: OverlapState
    source: HarmonicState | None = None


class InverseSTFT(OpsModule):
    """Causal inverse STFT with a periodic Hann window: ``[B, N, n_fft / 2 + 1]`` twice to ``[B, N * hop]``."""

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        # A copy, for on the meta device hann_window itself imports the compiler: a second, and 200 MB.
        window = torch.empty(n_fft).copy_(torch.hann_window(n_fft, device="cpu"))
        self.register_buffer("window", window, persistent=False)

    def initial_state(self, batch_size: int) -> OverlapState:
        return OverlapState(self.window.new_zeros(batch_size, self.n_fft - self.hop))

    def forward(self, log_magnitude: Tensor, phase: Tensor, state: OverlapState | None = None) -> Tensor:
        if state is None:
            return self.ops.polar_istft(log_magnitude, phase, self.window, self.hop)
        audio, overlap = self.ops.polar_istft_stream(log_magnitude, phase, self.window, self.hop, state.overlap)
        state.overlap.copy_(overlap)
        return audio


class Unpatchify(nn.Module):
    """One latent frame to ``subframes`` sub-frames: ``[B, F, D]`` to ``[B, C, subframes * F]``.

    ``Linear(snake(conv7(codes))) + Linear(codes)``; only the first has a bias, the second would repeat it.
    """

    def __init__(self, dim: int, width: int, channels: int, subframes: int) -> None:
        super().__init__()
        self.subframes = subframes
        self.conv = CausalConv1d(dim, width, 7)
        self.snake = Snake(width)
        self.expand = nn.Linear(width, subframes * channels)
        self.skip = nn.Linear(dim, subframes * channels, bias=False)

    def initial_state(self, batch_size: int) -> ContextState:
        return self.conv.initial_state(batch_size)

    def forward(self, codes: Tensor, state: ContextState | None = None) -> Tensor:
        hidden = self.snake(self.conv(codes.transpose(1, 2), state)).transpose(1, 2)  # [B, F, w]
        frames = self.expand(hidden.to(codes.dtype)) + self.skip(codes)  # [B, F, 30 C]
        return frames.unflatten(-1, (self.subframes, -1)).flatten(1, 2).transpose(1, 2)  # [B, C, 30 F]


class Decoder(nn.Module):
    """Unpatchify 2.5 Hz -> 75 Hz, residual units, spectral head, maybe harmonics, inverse STFT."""

    def __init__(self, config: SilkConfig) -> None:
        super().__init__()
        channels = config.decoder_channels
        self.n_bins = config.n_fft // 2 + 1
        self.input = Unpatchify(config.latent_dim, config.decoder_width, channels, config.subframes)
        self.units = nn.ModuleList(ResidualUnit(channels, d) for d in config.decoder_dilations)
        self.snake = Snake(channels)
        self.head = CausalConv1d(channels, 2 * self.n_bins, 3)
        self.istft = InverseSTFT(config.n_fft, config.hop_samples)
        self.source = HarmonicSource(config) if config.phases == "harmonic" else None

    def initial_state(self, batch_size: int) -> DecoderState:
        return DecoderState(
            self.input.initial_state(batch_size),
            [cast(ResidualUnit, unit).initial_state(batch_size) for unit in self.units],
            self.head.initial_state(batch_size),
            self.istft.initial_state(batch_size),
            None if self.source is None else self.source.initial_state(batch_size),
        )

    def forward(self, codes: Tensor, state: DecoderState | None = None) -> Tensor:
        return self.synthesise(codes, self.voice(codes, state), state)

    def voice(self, codes: Tensor, state: DecoderState | None = None) -> Voice | None:
        """Read the voice from codes, if the decoder makes harmonics."""
        return None if self.source is None else self.source.voice(codes, None if state is None else state.source)

    def synthesise(self, codes: Tensor, voice: Voice | None, state: DecoderState | None = None) -> Tensor:
        """Make audio of codes and what was read from them."""
        x = self.input(codes, state and state.input)  # [B, C, 30 F]
        for i, unit in enumerate(self.units):
            x = unit(x, state and state.units[i])
        spectrum = self.head(self.snake(x), state and state.head).transpose(1, 2)  # [B, 30 F, 1282]
        log_magnitude, phase = spectrum.float().split(self.n_bins, dim=-1)
        if self.source is not None and voice is not None:
            log_magnitude, phase = self.source(log_magnitude, phase, voice, state and state.source)
        return self.istft(log_magnitude, phase, state and state.istft)[:, None]  # [B, 1, 9600 F]
