"""Steps of Silk over slots: some of many signals advance by some frames, whatever becomes of the others.

Every signal has a slot, a row of every tensor of the state. A step takes the rows of the signals that are ready, and
leaves the others as they are; a signal that is new starts from zeros.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from silk_fast.reference.codec import CPU_CHUNK_FRAMES, CPU_DECODE_FRAMES
from silk_fast.reference.conformer import ConformerState
from silk_fast.reference.encoder import EncoderState
from silk_fast.reference.network import SilkNetwork
from silk_fast.reference.state import State

Result = Callable[[], tuple[Tensor, Tensor]]
"""Waits for a step: its outputs on the CPU, a row a signal, and for each whether it could be computed, bool ``[n]``."""


class Direction(Protocol):
    """Encoding or decoding, of any number of signals and frames."""

    most_frames: int
    """Frames of one signal that a CPU computes best at once."""

    most_rows: int | None
    """Signals that a CPU computes best at once; None for all there are."""

    def inputs(self, n_rows: int, n_frames: int) -> Tensor:
        """Zeros in the shape of what is given to a step."""

    def outputs(self, n_rows: int, n_frames: int) -> Tensor:
        """Zeros in the shape of what a step gives."""

    def initial_state(self, n_rows: int) -> State:
        """What signals remember at their start."""

    def run(self, inputs: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Compute outputs, and for each signal whether they could be computed; the state moves on."""


@dataclass
class EncodingState(State):
    encoder: EncoderState
    conformer: ConformerState


class Encoding:
    """Audio float32 ``[n, 1, frame_samples * F]`` to tokens int32 ``[n, F, K]``."""

    most_frames = CPU_CHUNK_FRAMES  # activations that fit the cache
    most_rows: int | None = 1

    def __init__(self, model: SilkNetwork) -> None:
        model.check_ready()
        self.model = model

    def inputs(self, n_rows: int, n_frames: int) -> Tensor:
        return torch.zeros(n_rows, 1, n_frames * self.model.config.frame_samples)

    def outputs(self, n_rows: int, n_frames: int) -> Tensor:
        return torch.zeros(n_rows, n_frames, self.model.config.tokens_per_frame, dtype=torch.int32)

    def initial_state(self, n_rows: int) -> EncodingState:
        model = self.model
        return EncodingState(model.encoder.initial_state(n_rows), model.conformer.initial_state(n_rows))

    def run(self, inputs: Tensor, state: State) -> tuple[Tensor, Tensor]:
        assert isinstance(state, EncodingState)
        audio = inputs.to(self.model.quantizer.norm.mean)
        return self.model.encode_rows(audio, state.encoder, state.conformer)


class Decoding:
    """Tokens int32 ``[n, F, K]`` to audio float32 ``[n, 1, frame_samples * F]``."""

    most_frames = CPU_DECODE_FRAMES  # weights that are larger than the cache
    most_rows: int | None = None

    def __init__(self, model: SilkNetwork) -> None:
        model.check_ready()
        self.model = model

    def inputs(self, n_rows: int, n_frames: int) -> Tensor:
        return torch.zeros(n_rows, n_frames, self.model.config.tokens_per_frame, dtype=torch.int32)

    def outputs(self, n_rows: int, n_frames: int) -> Tensor:
        return torch.zeros(n_rows, 1, n_frames * self.model.config.frame_samples)

    def initial_state(self, n_rows: int) -> State:
        return self.model.decoder.initial_state(n_rows)

    def run(self, inputs: Tensor, state: State) -> tuple[Tensor, Tensor]:
        audio = self.model.decode_frames(inputs.to(self.model.device), state)  # type: ignore[arg-type]
        return audio, torch.ones(len(inputs), dtype=torch.bool, device=audio.device)


class Steps(Protocol):
    """What an engine does with the signals of one direction."""

    depth: int
    """Steps that may be on their way while the next is prepared."""

    most: int
    """Signals that a step may have."""

    multiple: int
    """Frames that a signal takes at a time, but at its end."""

    n_first: int
    """Frames that it takes at first, at least, but at its end."""

    pads: bool
    """Whether its last frames are to have zeros behind them."""

    def plan(self, n_ready: Sequence[int]) -> tuple[int, int]:
        """Choose how many of the signals, the first, with so many frames ready, advance, and by how many frames."""

    def start(self, slots: Sequence[int], is_new: Sequence[bool], inputs: Tensor) -> Result:
        """Advance the signals of some slots, in ascending order, those that are new from zeros."""


class EagerSteps:
    """Steps that are computed at once, on the rows themselves where they lie side by side, else on copies.

    Args:
        direction: of all signals.
        n_slots: signals that may be on their way.
        n_frames: of every step; None for as many as suit a CPU.
        fixed: compute for all slots always, so that the shape is one.
    """

    depth, n_first, pads = 0, 1, True

    def __init__(self, direction: Direction, n_slots: int, n_frames: int | None = None, fixed: bool = False) -> None:
        self.direction, self.n_slots, self.n_frames, self.fixed = direction, n_slots, n_frames, fixed
        self.multiple, self.most = n_frames or 1, direction.most_rows or n_slots
        with torch.inference_mode(False):
            self.state = direction.initial_state(n_slots + 1)  # the last row is nobody's
        self._views: dict[tuple[int, int], State] = {}

    def plan(self, n_ready: Sequence[int]) -> tuple[int, int]:
        n_rows = min(len(n_ready), self.most)
        if self.n_frames:
            return n_rows, self.n_frames
        n_most = self.direction.most_frames // n_rows**2  # one frame each of many is faster than several of them
        return n_rows, max(1, min(*n_ready[:n_rows], n_most))

    def start(self, slots: Sequence[int], is_new: Sequence[bool], inputs: Tensor) -> Result:
        n_rows, slots = len(slots), list(slots)
        self.state.reset_rows([slot for slot, new in zip(slots, is_new, strict=True) if new])
        if self.fixed and not self.direction.most_rows:
            slots += [self.n_slots] * (self.n_slots - n_rows)
            inputs = torch.cat([inputs, inputs.new_zeros(self.n_slots - n_rows, *inputs.shape[1:])])
        first, end = slots[0], slots[0] + len(slots)
        if slots == list(range(first, end)):
            outputs, is_fine = self.direction.run(inputs, self._rows(first, end))
        else:
            state = self.direction.initial_state(len(slots))
            for mine, all_rows in zip(state.leaves(), self.state.leaves(), strict=True):
                torch.index_select(all_rows, 0, torch.tensor(slots, device=all_rows.device), out=mine)
            outputs, is_fine = self.direction.run(inputs, state)
            for mine, all_rows in zip(state.leaves(), self.state.leaves(), strict=True):
                all_rows[slots] = mine
        return lambda: (outputs[:n_rows].cpu(), is_fine[:n_rows].cpu())

    def _rows(self, start: int, stop: int) -> State:
        if (start, stop) not in self._views:
            self._views[start, stop] = self.state.rows(start, stop)
        return self._views[start, stop]
