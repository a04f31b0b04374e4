"""Pitch of a voice from codes ``[B, F, 128]``, and its harmonics in the spectra that the decoder makes.

A convolution sees a few frames of 75 Hz and cannot count the periods of a voice, so phases that it makes do not
continue from frame to frame: harmonics melt into noise, and a voice into a whisper. Here a small network reads the
pitch from the codes, an accumulator counts its periods, and every bin takes the phase of the harmonic next to it, up to
a frequency above which speech is noise (harmonic plus noise model: Stylianou, 2001). That is 1 kHz at least: were it
free, spectral losses would take it to 0, for they punish a harmonic in the wrong place more than none.

The count goes on for as long as a signal does, so a pitch that differs in its last bit, as that of another order of
sums or another chunk length would, is another phase after a minute. Therefore the pitch is computed in float64 whatever
else is, and periods are counted in integers.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.reference import ops
from silk_fast.reference.module import OpsModule
from silk_fast.reference.state import State

LOWEST, HIGHEST = 50.0, 550.0  # pitch, Hz
WIDTH = 256  # channels of the network
N_FRAMES = 3  # latent frames that it sees: two past ones and the present
LOWEST_CUTOFF, HIGHEST_CUTOFF = 1_000.0, 8_000.0  # Hz


@dataclass
class HarmonicState(State):
    """Past codes ``[B, 2, D]``; ``[B, 2]`` of the accumulator: phase, and half the last step, in 2^-32 turns."""

    context: Tensor
    turns: Tensor


@dataclass(frozen=True)
class Voice:
    """What the network reads from codes, for each of N sub-frames, float64 ``[B, N]``.

    Args:
        log_pitch: octaves above the lowest pitch.
        voicing: logit of there being a voice.
        cutoff: Hz, above which speech is noise.
    """

    log_pitch: Tensor
    voicing: Tensor
    cutoff: Tensor

    @property
    def pitch(self) -> Tensor:
        """Hz."""
        return LOWEST * self.log_pitch.exp2()


class HarmonicSource(OpsModule):
    """Makes harmonics, of the pitch that codes hold, in log-magnitudes and phases ``[B, N, n_fft // 2 + 1]``."""

    def __init__(self, config: SilkConfig) -> None:
        super().__init__()
        self.subframes, self.dim = config.subframes, config.latent_dim
        self.hop, self.n_fft, self.sample_rate = config.hop_samples, config.n_fft, config.sample_rate
        self.hidden = nn.Linear(N_FRAMES * self.dim, WIDTH)
        self.contour = nn.Linear(WIDTH, 3 * self.subframes)

    def initial_state(self, batch_size: int) -> HarmonicState:
        like = self.hidden.weight
        return HarmonicState(
            like.new_zeros(batch_size, N_FRAMES - 1, self.dim, dtype=torch.float64),
            like.new_zeros(batch_size, 2, dtype=torch.int64),
        )

    def voice(self, codes: Tensor, state: HarmonicState | None = None) -> Voice:
        """Read the voice from codes ``[B, F, D]``, in float64."""
        with torch.autocast(codes.device.type, enabled=False):
            codes = codes.double()
            before = codes.new_zeros(len(codes), N_FRAMES - 1, self.dim) if state is None else state.context
            extended = torch.cat([before, codes], 1)
            if state is not None:
                state.context.copy_(extended[:, extended.shape[1] - N_FRAMES + 1 :])
            windows = extended.unfold(1, N_FRAMES, 1).flatten(2)  # [B, F, 3 D]
            hidden = F.silu(F.linear(windows, self.hidden.weight.double(), self.hidden.bias.double()))
            contour = F.linear(hidden, self.contour.weight.double(), self.contour.bias.double())
        log_pitch, voicing, cutoff = contour.unflatten(-1, (3, self.subframes)).transpose(1, 2).flatten(2).unbind(1)
        octaves, above = math.log2(HIGHEST / LOWEST), HIGHEST_CUTOFF - LOWEST_CUTOFF
        return Voice(octaves * torch.sigmoid(log_pitch), voicing, LOWEST_CUTOFF + above * torch.sigmoid(cutoff))

    def forward(
        self, log_magnitude: Tensor, phase: Tensor, voice: Voice, state: HarmonicState | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give log-magnitudes and phases with the harmonics of a voice, differentiable but in pitch and voicing."""
        pitch = voice.pitch.detach()
        before = pitch.new_zeros(len(pitch), 2, dtype=torch.int64) if state is None else state.turns
        turns, after = ops.count_turns(pitch, before, self.hop, self.sample_rate)
        if state is not None:
            state.turns.copy_(after)
        bin_width = self.sample_rate / self.n_fft
        cutoff = voice.cutoff.masked_fill(voice.voicing.detach() <= 0, -math.inf)
        return self.ops.add_harmonics(log_magnitude, phase, pitch / bin_width, cutoff, turns, bin_width)
