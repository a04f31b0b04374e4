"""One engine for many callers: signals of any lengths share a codec, and none changes what another becomes.

Silk has slots: a signal gets one as soon as one is free, advances from frame to frame beside those in the others, and
leaves it at its end. Every other codec gets batches of whole signals of one length, and streams of a causal one advance
one at a time. Nothing is ever padded but the end of a signal, to its last frame.
"""

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from silk_fast.acceleration.forms import FollowsPolicy
from silk_fast.arguments import shown, whole_number
from silk_fast.errors import SilkBusyError, SilkInputError
from silk_fast.runtime.codec import Codec
from silk_fast.runtime.driver import Driver
from silk_fast.runtime.halves import Half
from silk_fast.runtime.tracks import Track, Way, checked_item

WAYS: tuple[Way, Way] = ("encode", "decode")


@dataclass(frozen=True)
class Stats:
    """What an engine does, and has done since it was made.

    Args:
        n_slots: for each of encoding and decoding.
        n_busy: slots that signals have.
        n_queued: signals that wait for a slot.
        n_done, n_cancelled, n_failed: signals that ended well, by their caller, and otherwise (also by time-outs).
        n_steps: calls of the model.
        n_frames: that signals advanced in these.
        seconds_busy: of the calls, until their results were there.
        why_eager: steps that should be CUDA graphs and are not, and why.
    """

    n_slots: int
    n_busy: int
    n_queued: int
    n_done: int
    n_cancelled: int
    n_failed: int
    n_steps: int
    n_frames: int
    seconds_busy: float
    why_eager: dict[str, str]


class Engine:
    """A codec at work for many callers at once, of any threads, through :func:`asyncio.wrap_future` also of asyncio.

    One thread of the engine's own drives the model. What is given to it may be on any device, and is not to be changed
    before it is answered; what comes back is on the CPU. Callbacks of futures run in that thread, and must not wait for
    another. A context manager, which closes it.

    What is asked is checked at once; what is wrong with it is told by its own future. To cancel a future takes its
    signal out, a stream with all its pieces.

    Args:
        codec: as :func:`silk_fast.runtime.codec.open_codec` gives it; nobody else may use it meanwhile.
        n_slots: signals that are encoded, and as many that are decoded, at once.
        step_frames: of every step of a codec with slots; None for 1, but on a CPU as many as suit it.
        max_queue: signals, and pieces of a stream, that may wait.
        max_wait: seconds that a step may be held back for others to join it.
        deterministic: IEEE float32, and steps of one shape, whoever else is there: of one frame, unless ``step_frames``
            says otherwise, and of ``n_slots`` signals, but of one where a CPU encodes and for codecs without slots. On
            a GPU the codec must have been opened so.

    Raises:
        SilkInputError: an argument is none of these.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        n_slots: int = 8,
        step_frames: int | None = None,
        max_queue: int = 64,
        max_wait: float = 0.0,
        deterministic: bool = False,
    ) -> None:
        self.codec = codec
        self.n_slots = whole_number("n_slots", n_slots, 1, 2**16)
        self.max_queue = whole_number("max_queue", max_queue, 0)
        n_frames = None if step_frames is None else whole_number("step_frames", step_frames, 1)
        max_wait = _seconds("max_wait", max_wait)
        if not isinstance(deterministic, bool):
            raise SilkInputError(f"deterministic must be True or False, got {shown(deterministic)}")
        if deterministic:
            _check_deterministic(codec)
        halves = {way: Half(codec, way, self.n_slots, n_frames, deterministic) for way in WAYS}
        self._driver = Driver(halves, codec.device, self.max_queue, max_wait)

    def encode(self, audio: Tensor) -> Tensor:
        """Encode float ``[C, T]`` to int32 ``[F, K]``; waits for it.

        Raises:
            SilkInputError: another shape or dtype, no samples, or some that are not finite.
            SilkBusyError: the queue is full, or the engine was closed.
        """
        return self.submit("encode", audio).result()

    def decode(self, tokens: Tensor) -> Tensor:
        """Decode int ``[F, K]`` to float32 ``[C, F * frame_samples]``; waits for it.

        Raises:
            SilkInputError: another shape or dtype, or a token that there is not.
            SilkBusyError: the queue is full, or the engine was closed.
        """
        return self.submit("decode", tokens).result()

    def submit(self, direction: Way, item: Tensor, *, timeout: float | None = None) -> Future:
        """Ask for a whole signal; its future gives what :meth:`encode` or :meth:`decode` does.

        Args:
            direction: ``"encode"`` or ``"decode"``.
            item: as of these.
            timeout: seconds, after which its future raises SilkTimeoutError.

        Raises:
            SilkInputError: no such direction, or a time-out that is no positive number.
            SilkBusyError: the queue is full, or the engine was closed.
        """
        track = self._track(direction, timeout, is_whole=True)
        try:
            item = checked_item(self.codec, direction, item)
        except SilkInputError as error:
            return self._driver.refused(error)
        self._driver.join(track)
        return self._driver.push(track, item, is_end=True)

    def stream(self, direction: Way, *, timeout: float | None = None) -> "Session":
        """Open a signal that comes piece by piece.

        Args:
            direction: ``"encode"`` or ``"decode"``.
            timeout: seconds since its last piece came, after which the session is over, and what waits of it raises
                SilkTimeoutError.

        Raises:
            SilkInputError: no such direction, a time-out that is no positive number, or a codec that is not causal.
            SilkBusyError: the queue is full, or the engine was closed.
        """
        track = self._track(direction, timeout, is_whole=False)
        self._driver.join(track)
        return Session(self, self._driver, track)

    @property
    def is_open(self) -> bool:
        """Whether it takes signals: it was not closed, and its thread has not failed."""
        return self._driver.is_open

    def stats(self) -> Stats:
        """Count what is going on, and what has been done."""
        with self._driver.changed:
            halves = self._driver.halves.values()
            return Stats(
                n_slots=self.n_slots,
                n_busy=sum(len(half.live) for half in halves),
                n_queued=sum(len(half.queue) for half in halves),
                **self._driver.counts,
                seconds_busy=self._driver.seconds_busy,
                why_eager={name: why for half in halves for name, why in half.why_eager.items()},
            )

    def close(self) -> None:
        """Give up all that is not done, whose futures raise SilkBusyError; more than once is allowed."""
        self._driver.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _track(self, direction: Way, timeout: float | None, is_whole: bool) -> Track:
        if direction not in WAYS:
            raise SilkInputError(f"direction must be 'encode' or 'decode', got {shown(direction)}")
        if timeout is not None and _seconds("timeout", timeout) == 0:
            raise SilkInputError("timeout must be more than 0 seconds, or None, got 0")
        return self._driver.halves[direction].track(timeout, is_whole)


class Session:
    """A signal that comes piece by piece, made by :meth:`Engine.stream`.

    Pieces are of any length, also none. A refused one is no part of the signal, which goes on without it; but where
    latents turn out not to be finite, of absurdly loud audio, the session is over. A context manager: leaving it
    without :meth:`finish` closes it.
    """

    def __init__(self, engine: Engine, driver: Driver, track: Track) -> None:
        self._engine, self._driver, self._track = engine, driver, track

    def push(self, piece: Tensor) -> Future:
        """Take more of the signal; the future gives the frames, or their samples, that it completes.

        Args:
            piece: float ``[C, n]`` to encode, int ``[n, K]`` to decode.

        Raises:
            SilkInputError: the session is over; the message says why.
            SilkBusyError: as many of its pieces wait as the queue holds.
        """
        self._check_open()
        try:
            piece = checked_item(self._engine.codec, self._track.way, piece, may_be_empty=True)
        except SilkInputError as error:
            future: Future = Future()
            future.set_exception(error)
            return future
        if self._track.n_waiting >= max(1, self._engine.max_queue):
            raise SilkBusyError(f"{self._track.n_waiting} pieces wait already; push more when they are done")
        return self._driver.push(self._track, piece, is_end=False)

    def finish(self) -> Future:
        """End the signal; the future gives what is left of it, and when it does the slot is free.

        Raises:
            SilkInputError: the session is over.
        """
        self._check_open()
        return self._driver.push(self._track, None, is_end=True)

    def close(self) -> None:
        """Free the slot; what waits is given up. More than once is allowed."""
        self._driver.give_up(self._track, SilkInputError("the session was closed"))

    def _check_open(self) -> None:
        if self._track.error is not None:
            raise SilkInputError(f"the session is over: {self._track.error}") from self._track.error
        if self._track.is_ended:
            raise SilkInputError("the session is over: finish was called")

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._track.is_ended:
            self.close()


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise SilkInputError(f"{name} must be a number of seconds >= 0, got {shown(value)}")
    return float(value)


def _check_deterministic(codec: Codec) -> None:
    """Raise SilkInputError if the convolutions of the codec may be other than IEEE float32."""
    model = getattr(codec, "model", None)
    if codec.device.type == "cpu" or not isinstance(model, nn.Module):
        return
    forms = [module for module in model.modules() if isinstance(module, FollowsPolicy)]
    if not forms or not all(form.policy.deterministic for form in forms):
        raise SilkInputError("deterministic needs a codec that was opened with accelerate=True and deterministic=True")
