"""Encoding or decoding in an engine: its slots, the signals that have or want them, and the steps that these make."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from silk_fast.codecs.cuts import Chained
from silk_fast.errors import SilkInputError
from silk_fast.runtime.chains import ChainSteps
from silk_fast.runtime.codec import Codec, OfLibrary, Silk
from silk_fast.runtime.graphs import Cuda, GraphSteps
from silk_fast.runtime.steps import Decoding, Direction, EagerSteps, Encoding, Steps
from silk_fast.runtime.tracks import Track, Way

Output = Tensor | Exception


@dataclass(frozen=True)
class Step:
    """Signals that advance together, whether they are new, and their next frames; all that they have of a batch."""

    tracks: list[Track]
    is_new: list[bool]
    inputs: list[Tensor]
    is_batch: bool


class Half:
    """One direction of a codec.

    Args:
        codec: whose signals they are.
        way: the direction.
        n_slots: signals that may be on their way.
        n_frames: of every step; None for what suits the device.
        deterministic: steps of one shape.

    Attributes:
        steps: of signals that advance bit by bit; None of a codec that is not causal.
        has_batches: whether whole signals of one length go together, without steps.
        most: signals that a batch may have.
        free: slots that no signal has.
        live: signals that have one; the one served longest ago comes first.
        queue: signals that want one.
    """

    def __init__(self, codec: Codec, way: Way, n_slots: int, n_frames: int | None, deterministic: bool) -> None:
        self.codec, self.way = codec, way
        self.steps: Steps | None = None
        self.has_batches = not isinstance(codec, Silk)
        self.most = 1 if deterministic else n_slots
        if isinstance(codec, OfLibrary) and isinstance(codec.cuts, Chained):
            self.steps = ChainSteps(codec, codec.cuts, way == "encode")
        if isinstance(codec, Silk):
            direction: Direction = Encoding(codec.model) if way == "encode" else Decoding(codec.model)
            if codec.device.type == "cuda":
                self.steps = GraphSteps(direction, n_slots, n_frames or 1, Cuda(codec.device), deterministic)
            else:
                n_frames = n_frames or (1 if deterministic else None)
                self.steps = EagerSteps(direction, n_slots, n_frames, deterministic)
        self.free = list(range(n_slots - 1, -1, -1))
        self.live: list[Track] = []
        self.queue: deque[Track] = deque()

    @property
    def why_eager(self) -> dict[str, str]:
        """Steps that should be CUDA graphs and are not, and why."""
        found = self.steps.why_eager if isinstance(self.steps, GraphSteps) else {}
        return {f"{self.way} {name}": why for name, why in found.items()}

    def track(self, timeout: float | None, is_whole: bool) -> Track:
        """Make a signal, which :meth:`admit` takes in.

        Raises:
            SilkInputError: it is not whole, and the codec not causal.
        """
        if is_whole and self.has_batches:
            return Track(self.codec, self.way, timeout, is_whole=True)
        steps = self.steps
        if steps is None:
            raise SilkInputError(f"{self.codec.name} cannot be streamed, for it is not causal; submit whole signals")
        return Track(*(self.codec, self.way, timeout), multiple=steps.multiple, n_first=steps.n_first, pads=steps.pads)

    def admit(self, track: Track | None = None) -> None:
        """Take a signal in, if any, and give free slots to those who wait."""
        if track:
            self.queue.append(track)
        while self.free and self.queue:
            first = self.queue.popleft()
            first.slot = self.free.pop()
            self.live.append(first)

    def drop(self, track: Track) -> bool:
        """Take a signal out, and its slot back; tells whether it was in."""
        if track in self.queue:
            self.queue.remove(track)
        elif track in self.live:
            self.live.remove(track)
            assert track.slot is not None
            self.free.append(track.slot)
        else:
            return False
        self.admit()
        return True

    def plan(self) -> tuple[list[Track], int, bool]:
        """Choose signals that could advance together, by how many frames, and whether others could join them."""
        ready = [track for track in self.live if track.n_ready]
        if not ready:
            return [], 0, False
        first = ready[0]
        if first.is_whole or not self.steps:
            alike = [track for track in ready if track.is_whole and track.n_held == first.n_held]
            return alike[: self.most], first.n_ready, len(alike) < self.most
        ready = [track for track in ready if not track.is_whole]
        n_tracks, n_frames = self.steps.plan([track.n_ready for track in ready])
        return ready[:n_tracks], n_frames, n_tracks < self.steps.most

    def taken(self, tracks: list[Track], n_frames: int) -> Step:
        """Take the next frames of signals, whose turn is over then."""
        for track in tracks:
            self.live.remove(track)
            self.live.append(track)
        tracks = sorted(tracks, key=lambda track: track.slot or 0)
        is_new = [track.is_new for track in tracks]
        return Step(tracks, is_new, [track.take(n_frames) for track in tracks], tracks[0].is_whole)

    def start(self, step: Step) -> Callable[[], list[Output]]:
        """Start a step; what is given waits for it, and gives an output or an error for each signal."""
        if step.is_batch or not self.steps:
            return lambda: self._batch(step.inputs)
        slots = [track.slot for track in step.tracks if track.slot is not None]
        try:
            result = self.steps.start(slots, step.is_new, torch.stack(step.inputs))
        except Exception as error:  # such as no memory; who is on their way in other steps is not concerned
            errors: list[Output] = [error for _ in slots]
            return lambda: errors

        def outputs() -> list[Output]:
            rows, is_fine = result()
            wrong = SilkInputError("latents are not finite; expected audio in [-1, 1], and weights to match")
            return [row if fine else wrong for row, fine in zip(rows, is_fine.tolist(), strict=True)]

        return outputs

    def _batch(self, items: list[Tensor]) -> list[Output]:
        """Encode or decode whole signals of one length; alone, where together they fail."""
        call = self.codec.encode if self.way == "encode" else self.codec.decode
        try:
            return list(call(torch.stack(items)))
        except Exception as error:
            return [error] if len(items) == 1 else [self._batch([item])[0] for item in items]
