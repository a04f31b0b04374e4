"""The thread that drives the model of an engine, and the lock between it and the callers."""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor

from silk_fast.errors import SilkBusyError, SilkError, SilkInputError, SilkTimeoutError
from silk_fast.runtime.halves import Half, Output, Step
from silk_fast.runtime.tracks import Answer, Track, Way, answer


class Driver:
    """Signals in, futures out. Futures are answered outside of the lock, for their callbacks may call in again.

    Args:
        halves: of the engine.
        device: of the model.
        max_queue: signals that may wait for a slot.
        max_wait: seconds that a step may be held back for others to join it.

    Attributes:
        counts: signals by how they ended, steps, and frames of these.
        seconds_busy: of steps, until their results were there.
    """

    def __init__(self, halves: dict[Way, Half], device: torch.device, max_queue: int, max_wait: float) -> None:
        self.halves, self.max_queue, self.max_wait = halves, max_queue, max_wait
        self.counts = dict.fromkeys(("n_done", "n_cancelled", "n_failed", "n_steps", "n_frames"), 0)
        self.seconds_busy = 0.0
        self.changed = threading.Condition()
        self._turns = list(halves.values())  # the half served longest ago comes first
        self._device, self._is_closed = device, False
        self._thread = threading.Thread(target=self._work, name="silk engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # or the interpreter would end under a thread that is in PyTorch

    # ------------------------------------------------------------ in the threads of callers

    def join(self, track: Track) -> None:
        """Take a signal in.

        Raises:
            SilkBusyError: too many wait already, or the engine was closed.
        """
        with self.changed:
            self._check_open()
            n_queued = sum(len(half.queue) for half in self._turns)
            if not self.halves[track.way].free and n_queued >= self.max_queue:
                raise SilkBusyError(f"{n_queued} signals wait already, of at most {self.max_queue}; try again later")
            self.halves[track.way].admit(track)
            self.changed.notify()

    def push(self, track: Track, piece: Tensor | None, is_end: bool) -> Future:
        """Take more of a signal, and perhaps its end; the future gives what that completes."""
        future: Future = Future()
        with self.changed:
            answers: list[Answer]
            if track.error is not None:  # since the caller looked
                answers = [(future, track.error)]
            else:
                answers = track.push(future, piece, is_end)
                self._leave_if_over(track)
            self.changed.notify()
        future.add_done_callback(partial(self._forget, track))
        answer(answers)
        return future

    def refused(self, error: SilkError) -> Future:
        """Count what was refused, and give the future that says so."""
        with self.changed:
            self._check_open()
            self.counts["n_failed"] += 1
        future: Future = Future()
        future.set_exception(error)
        return future

    def give_up(self, track: Track, error: SilkError) -> None:
        """Take a signal out that its caller wants no more of."""
        with self.changed:
            if not self.halves[track.way].drop(track):
                return
            self.counts["n_cancelled"] += 1
            answers = track.fail(error)
            self.changed.notify()
        answer(answers)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed, and its thread has not failed."""
        return not self._is_closed

    def close(self) -> None:
        """Give up all that is not done, and end the thread."""
        with self.changed:
            self._is_closed = True
            self.changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        atexit.unregister(self.close)

    def _check_open(self) -> None:
        if self._is_closed:
            raise SilkBusyError("the engine was closed")

    def _forget(self, track: Track, future: Future) -> None:
        """Take a signal out when one of its futures was cancelled."""
        if future.cancelled():
            self.give_up(track, SilkInputError("one of its futures was cancelled"))

    def _leave_if_over(self, track: Track) -> None:
        if track.is_over and self.halves[track.way].drop(track):
            self.counts["n_done"] += 1

    # ------------------------------------------------------------ in the thread of the engine

    def _work(self) -> None:
        """Choose a step, start it, and collect those before it that need not be on their way any longer."""
        on_its_way: deque[tuple[Step, Callable[[], list[Output]]]] = deque()
        why: Exception = SilkBusyError("the engine was closed")
        try:
            with torch.no_grad(), self._on_device():
                while True:
                    found = self._next(may_wait=not on_its_way)
                    if found:
                        half, step = found
                        with self._timed():
                            on_its_way.append((step, half.start(step)))
                    elif self._is_closed:
                        break
                    depth = half.steps.depth if found and half.steps else 0
                    while len(on_its_way) > depth:
                        self._collect(*on_its_way.popleft())
        except Exception as error:  # after which nothing would answer
            why = error
        self._fail_all(why)

    def _on_device(self) -> AbstractContextManager:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds_busy += time.perf_counter() - start

    def _next(self, may_wait: bool) -> tuple[Half, Step] | None:
        """Choose the next step; None when closed, or where nothing can be done and it may not be waited for."""
        while True:
            with self.changed:
                if self._is_closed:
                    return None
                now = time.monotonic()
                late = self._late(now)
                if not late:
                    found, wake = self._planned(now)
                    if found or not may_wait:
                        return found
                    self.changed.wait(None if wake is None else max(0.0, wake - now))
            answer(late)

    def _planned(self, now: float) -> tuple[tuple[Half, Step] | None, float | None]:
        """The next step, or else when to look again."""
        times = [track.late_at for track in self._tracks() if track.late_at is not None]
        for half in self._turns:
            tracks, n_frames, has_room = half.plan()
            if not tracks:
                continue
            until = min(track.ready_since for track in tracks) + self.max_wait
            if has_room and until > now:
                times.append(until)
                continue
            self._turns.remove(half)
            self._turns.append(half)
            self.counts["n_steps"] += 1
            self.counts["n_frames"] += sum(min(track.n_ready, n_frames) for track in tracks)
            return (half, half.taken(tracks, n_frames)), None
        return None, min(times, default=None)

    def _tracks(self) -> list[Track]:
        return [track for half in self._turns for track in (*half.live, *half.queue)]

    def _late(self, now: float) -> list[Answer]:
        """Give up signals that are late."""
        answers: list[Answer] = []
        for track in self._tracks():
            if track.late_at is not None and track.late_at <= now:
                answers += self._failed(track, SilkTimeoutError("it took longer than its time-out"))
        return answers

    def _failed(self, track: Track, error: Exception) -> list[Answer]:
        if self.halves[track.way].drop(track):
            self.counts["n_failed"] += 1
        return track.fail(error)

    def _collect(self, step: Step, result: Callable[[], list[Output]]) -> None:
        """Wait for a step, and answer those whose pieces are done."""
        with self._timed():
            outputs = result()
        answers: list[Answer] = []
        with self.changed:
            for track, output in zip(step.tracks, outputs, strict=True):
                if isinstance(output, Exception):
                    answers += self._failed(track, output)
                else:
                    answers += track.accept(output)
                    self._leave_if_over(track)
        answer(answers)

    def _fail_all(self, error: Exception) -> None:
        with self.changed:
            self._is_closed = True
            answers = [found for track in self._tracks() for found in self._failed(track, error)]
        answer(answers)
