"""Convolutional encoder: audio ``[B, 1, T]`` to latent frames ``[B, F, 128]``, T = 9600 F."""

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.reference.layers import CausalConv1d, ResidualUnit, Snake
from silk_fast.reference.state import ContextState, State


@dataclass
class EncoderStageState(State):
    units: list[ContextState]
    down: ContextState


@dataclass
class EncoderState(State):
    input: ContextState
    stages: list[EncoderStageState]
    output: ContextState


class EncoderStage(nn.Module):
    """Residual units, Snake, and a convolution of kernel 2s and stride s: ``[B, C, T]`` to ``[B, C', T / s]``."""

    def __init__(self, channels: int, out_channels: int, stride: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.units = nn.ModuleList(ResidualUnit(channels, d) for d in dilations)
        self.snake = Snake(channels)
        self.down = CausalConv1d(channels, out_channels, 2 * stride, stride)

    def initial_state(self, batch_size: int) -> EncoderStageState:
        units = [cast(ResidualUnit, unit).initial_state(batch_size) for unit in self.units]
        return EncoderStageState(units, self.down.initial_state(batch_size))

    def forward(self, x: Tensor, state: EncoderStageState | None = None) -> Tensor:
        for i, unit in enumerate(self.units):
            x = unit(x, state and state.units[i])
        return self.down(self.snake(x), state and state.down)


class Encoder(nn.Module):
    """Strided convolutions 24 kHz -> 3 kHz -> 375 Hz -> 75 Hz -> 2.5 Hz."""

    def __init__(self, config: SilkConfig) -> None:
        super().__init__()
        channels = config.encoder_channels
        strides = (*config.encoder_strides, config.subframes)
        self.input = CausalConv1d(1, channels[0], 7)
        self.stages = nn.ModuleList(
            EncoderStage(c, c_next, stride, config.dilations)
            for (c, c_next), stride in zip(pairwise(channels), strides, strict=True)
        )
        self.snake = Snake(channels[-1])
        self.output = CausalConv1d(channels[-1], config.latent_dim, 3)

    def initial_state(self, batch_size: int) -> EncoderState:
        return EncoderState(
            self.input.initial_state(batch_size),
            [cast(EncoderStage, stage).initial_state(batch_size) for stage in self.stages],
            self.output.initial_state(batch_size),
        )

    def forward(self, audio: Tensor, state: EncoderState | None = None) -> Tensor:
        return self.latents(self.features(audio, len(self.stages), state), len(self.stages), state).to(audio.dtype)

    def features(self, audio: Tensor, n_stages: int, state: EncoderState | None = None) -> Tensor:
        """What the first stages make of audio: ``[B, C, T / 8]``, ``/ 64``, ``/ 320``, ``/ 9600``."""
        x = self.input(audio, state and state.input)  # [B, c0, T]
        for i, stage in enumerate(self.stages[:n_stages]):
            x = stage(x, state and state.stages[i])
        return x

    def latents(self, features: Tensor, n_stages: int, state: EncoderState | None = None) -> Tensor:
        """Latent frames ``[B, F, 128]`` of what :meth:`features` gives for ``n_stages``."""
        x = features
        for i, stage in enumerate(self.stages[n_stages:], n_stages):
            x = stage(x, state and state.stages[i])
        return self.output(self.snake(x), state and state.output).transpose(1, 2)
