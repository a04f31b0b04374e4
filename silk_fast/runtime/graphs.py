"""Steps of Silk on a GPU: one CUDA graph for a direction and a number of signals, over buffers that stay in place.

Nothing here has run on a card yet: the tests run it on a CPU, with a device that pretends.

A step copies which slots it is about, and their inputs, from pinned memory; gathers their rows of the state, zeroed
where a signal is new; computes; puts the rows back; and copies the outputs to pinned memory. Nothing waits for the GPU
but the reading of outputs, while the next step, which uses the other pinned memory, is on its way already.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from silk_fast.notices import warn
from silk_fast.reference.state import State
from silk_fast.runtime.steps import Direction, Result

SIZES = (1, 4, 16, 64)


class Device(Protocol):
    """Where graphs run."""

    device: torch.device

    def pinned(self, like: Tensor) -> Tensor:
        """Make a tensor on the CPU that can be copied from and to without waiting."""

    def captured(self, step: Callable[[], None]) -> Callable[[], None]:
        """Run a step to warm up, and capture it: what is given does it again.

        Raises:
            RuntimeError: it does what cannot be captured.
        """

    def marked(self) -> Callable[[], None]:
        """Mark where the device is to be: what is given waits until it is there."""


class Cuda:
    """A CUDA GPU, in the calling thread's current stream."""

    N_WARM_UPS = 3

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def pinned(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def captured(self, step: Callable[[], None]) -> Callable[[], None]:
        with torch.cuda.device(self.device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(self.N_WARM_UPS):
                    step()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU meanwhile
                step()
        return graph.replay

    def marked(self) -> Callable[[], None]:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return event.synchronize


class Lane:
    """Steps of up to ``size`` signals by ``n_frames`` frames: buffers, and what runs over them.

    Attributes:
        why_eager: why the step is not a graph; empty where it is.
    """

    def __init__(self, direction: Direction, all_rows: State, size: int, n_frames: int, device: Device) -> None:
        self._direction, self._all_rows, self._device = direction, all_rows, device
        self._nobody = next(all_rows.leaves()).shape[0] - 1
        given = torch.full((size,), self._nobody), torch.ones(size, dtype=torch.bool), direction.inputs(size, n_frames)
        taken = direction.outputs(size, n_frames), torch.ones(size, dtype=torch.bool)
        self._given, self._taken = ([x.to(device.device) for x in some] for some in (given, taken))
        self._host = [tuple([device.pinned(x) for x in some] for some in (given, taken)) for _ in range(2)]
        with torch.inference_mode(False):
            self._state = direction.initial_state(size)
        self.why_eager = ""
        try:
            self._replay = device.captured(self._step)
        except RuntimeError as error:
            self._replay, self.why_eager = self._step, str(error).strip().split("\n")[0]

    def _step(self) -> None:
        slots, is_new, inputs = self._given
        for mine, all_rows in zip(self._state.leaves(), self._all_rows.leaves(), strict=True):
            torch.index_select(all_rows, 0, slots, out=mine)
            mine.masked_fill_(is_new.view(-1, *[1] * (mine.ndim - 1)), 0)
        for buffer, result in zip(self._taken, self._direction.run(inputs, self._state), strict=True):
            buffer.copy_(result)
        for mine, all_rows in zip(self._state.leaves(), self._all_rows.leaves(), strict=True):
            all_rows.index_copy_(0, slots, mine)

    def start(self, slots: Sequence[int], is_new: Sequence[bool], inputs: Tensor) -> Result:
        """As of :class:`silk_fast.runtime.steps.Steps`; the result of the step before the last was waited for."""
        n_rows = len(slots)
        given, taken = self._host[0]
        self._host.reverse()
        given[0].fill_(self._nobody)[:n_rows] = torch.tensor(slots)
        given[1][:n_rows] = torch.tensor(is_new)
        given[2].zero_()[:n_rows] = inputs
        for buffer, pinned in zip(self._given, given, strict=True):
            buffer.copy_(pinned, non_blocking=True)
        self._replay()
        for pinned, buffer in zip(taken, self._taken, strict=True):
            pinned.copy_(buffer, non_blocking=True)
        wait = self._device.marked()

        def result() -> tuple[Tensor, Tensor]:
            wait()
            outputs, is_fine = (pinned[:n_rows].clone() for pinned in taken)
            return outputs, is_fine

        return result


class GraphSteps:
    """Steps of the smallest of ``SIZES`` that holds the signals that are ready; where ``fixed``, of the largest.

    Attributes:
        why_eager: by the name of a step, such as ``"4 x 1 frames"``, why it is not a graph; those that are, are absent.
    """

    depth, n_first, pads = 1, 1, True

    def __init__(self, direction: Direction, n_slots: int, n_frames: int, device: Device, fixed: bool = False) -> None:
        self.direction, self.most, self.multiple, self.device = direction, n_slots, n_frames, device
        self.sizes = [size for size in SIZES if size < n_slots] + [next(s for s in (*SIZES, n_slots) if s >= n_slots)]
        self.sizes = self.sizes[-1:] if fixed else self.sizes
        with torch.inference_mode(False):
            self.state = direction.initial_state(n_slots + 1)  # the last row is nobody's
        self.why_eager: dict[str, str] = {}
        self._lanes: dict[int, Lane] = {}

    def plan(self, n_ready: Sequence[int]) -> tuple[int, int]:
        return min(len(n_ready), self.most), self.multiple

    def start(self, slots: Sequence[int], is_new: Sequence[bool], inputs: Tensor) -> Result:
        size = next(size for size in self.sizes if size >= len(slots))
        if size not in self._lanes:
            self._lanes[size] = lane = Lane(self.direction, self.state, size, self.multiple, self.device)
            if lane.why_eager:
                name = f"{size} x {self.multiple} frames"
                self.why_eager[name] = lane.why_eager
                warn(f"steps of {name} run eagerly, for no CUDA graph can be made of them: {lane.why_eager}")
        return self._lanes[size].start(slots, is_new, inputs)
