"""Processes that read for one that encodes: a device may be faster than one process decodes and resamples.

Each of N readers has every N-th recording, over all units, and blocks go through memory that the processes share, a few
of each reader ahead. They are taken in the order of the recordings, so that shards are those of a run without readers.
"""

import builtins
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pyarrow as pa

from silk_fast import errors
from silk_fast.errors import SilkError
from silk_fast.notices import warnings_to
from silk_fast.processes import obey_parent
from silk_fast.runtime.tokenize.blocks import Form, Heard, Sound, hear
from silk_fast.runtime.tokenize.plan import read_unit
from silk_fast.runtime.tokenize.sources import Input

N_AHEAD = 8  # blocks that a reader may be ahead

_Message = tuple[str, Any]  # "inputs", "sound", "block", "done", "failed", "end" or "broken", and what belongs to it
_Sent = BaseException | tuple[str, str]  # an error, or name and words of one that might not survive being sent


class ReaderLostError(SilkError):
    """A process that reads has ended before its time, or the recordings of two are not those of one unit."""


@dataclass(frozen=True)
class Work:
    """What a reader has to do.

    Args:
        plan: path.
        units: numbers, in order.
        kind, root, form: as of :func:`silk_fast.runtime.tokenize.blocks.hear`.
        n_readers: that share the recordings.
    """

    plan: str
    units: Sequence[int]
    kind: str
    root: str
    form: Form
    n_readers: int


@dataclass
class _Shared:
    """What a reader and its taker share: room for blocks, how much of it is free, and the recording not to go on with.

    Recordings are counted from 1.
    """

    room: Any
    free: Any
    unwanted: Any

    def blocks(self) -> np.ndarray:
        """View the room, float32 ``[N_AHEAD, n_values]``."""
        return np.frombuffer(self.room, np.float32).reshape(N_AHEAD, -1)


class Readers:
    """Processes that read units ahead. A context manager, which ends them; they end with this process as well.

    Where the calling program is a script, its main part needs the usual guard ``if __name__ == "__main__":``.
    """

    def __init__(self, work: Work) -> None:
        self._takers = [_Taker(work, i) for i in range(work.n_readers)]
        self._n_heard = 0

    def hear(self, warnings: list[str]) -> Iterator[Heard]:
        """Give the recordings of the next unit, as :func:`silk_fast.runtime.tokenize.blocks.hear` does.

        Args:
            warnings: gets the texts of those that there were.

        Raises:
            ReaderLostError: a reader was killed, also from what is given.
        """
        while True:
            taker = self._takers[self._n_heard % len(self._takers)]
            inputs = taker.next_inputs(warnings)
            if inputs is None:
                break
            self._n_heard += 1
            yield inputs, taker.sound()
        if any(other.next_inputs(warnings) is not None for other in self._takers if other is not taker):
            raise ReaderLostError("two readers found other recordings in a unit, expected the same; run again to go on")

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *exception: object) -> None:
        for taker in self._takers:
            taker.close()


@dataclass
class _Taker:
    """This process's end of a reader."""

    work: Work
    i_reader: int
    n_begun: int = 0
    is_over: bool = True  # the recording that was begun last
    shared: _Shared = field(init=False)

    def __post_init__(self) -> None:
        form, context = self.work.form, get_context("spawn")
        room = context.RawArray("f", N_AHEAD * form.n_samples * form.n_channels)
        self.shared = _Shared(room, context.Semaphore(N_AHEAD), context.RawValue("q", 0))
        self.connection, theirs = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_read, args=(self.work, self.i_reader, theirs, self.shared), name="silk reader", daemon=True
        )
        self.process.start()
        theirs.close()  # or the end of theirs would not be seen

    def next_inputs(self, warnings: list[str]) -> list[Input] | None:
        """Give the inputs of the next recording; None at the end of a unit."""
        kind, payload = self._receive()
        if kind == "inputs":
            self.n_begun += 1
            return payload
        warnings += payload
        return None

    @contextmanager
    def sound(self) -> Iterator[Sound]:
        """Take the recording whose inputs were given."""
        kind, payload = self._receive()
        if kind == "failed":
            raise _chained(payload)
        sha256, values, n_samples = payload
        try:
            yield Sound(sha256, values, n_samples, self._blocks())
        finally:
            self.shared.unwanted.value = self.n_begun
            while not self.is_over:
                if self._receive()[0] == "block":
                    self.shared.free.release()

    def _blocks(self) -> Iterator[np.ndarray]:
        """Copy blocks out of the room, which is free then."""
        n_channels = self.work.form.n_channels
        while True:
            kind, payload = self._receive()
            if kind == "failed":
                raise _chained(payload)
            if kind == "done":
                return
            i_block, n_samples = payload
            block = self.shared.blocks()[i_block, : n_samples * n_channels].copy()
            self.shared.free.release()
            yield block if n_channels == 1 else block.reshape(n_samples, n_channels)

    def _receive(self) -> _Message:
        self.is_over = True
        try:
            message = self.connection.recv()
        except (EOFError, OSError) as error:
            raise ReaderLostError(
                "a process that reads recordings was killed or could not begin (memory?), expected it to finish; "
                "run again to go on, perhaps with fewer --readers"
            ) from error
        if message[0] == "broken":
            raise _chained(message[1])
        self.is_over = message[0] not in ("sound", "block")
        return message

    def close(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _chained(sent: list[_Sent]) -> BaseException:
    """Give the first of errors, of which each is the cause of the one before."""
    chain = [one if isinstance(one, BaseException) else type(one[0], (Exception,), {})(one[1]) for one in sent]
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return chain[0]


# ------------------------------------------------------------ in the process of a reader


def _read(work: Work, i_reader: int, connection: Connection, shared: _Shared) -> None:
    """Read what is this reader's of every unit."""
    obey_parent()
    pa.set_cpu_count(1)
    rooms, numbers, n_begun = cycle(enumerate(shared.blocks())), cycle(range(work.n_readers)), 0
    try:
        for unit in work.units:
            warnings: list[str] = []
            with warnings_to(warnings.append):
                heard = hear(work.kind, work.root, read_unit(work.plan, unit), work.form)
                for (inputs, opening), number in zip(heard, numbers, strict=False):
                    if number != i_reader:
                        continue
                    n_begun += 1
                    connection.send(("inputs", inputs))
                    try:
                        with opening as sound:
                            connection.send(("sound", (sound.sha256, sound.values, sound.n_samples)))
                            for block in sound.blocks:
                                if shared.unwanted.value >= n_begun:
                                    break
                                shared.free.acquire()
                                i_block, room = next(rooms)
                                room[: block.size] = block.ravel()
                                connection.send(("block", (i_block, len(block))))
                        connection.send(("done", None))
                    except Exception as error:  # as whoever takes the recording handles every kind
                        connection.send(("failed", _causes(error)))
            connection.send(("end", warnings))
    except Exception as error:
        connection.send(("broken", _causes(error)))


def _causes(error: BaseException) -> list[_Sent]:
    """List an error and its causes, which would not be sent with it."""
    found: list[_Sent] = []
    cause: BaseException | None = error
    while cause is not None:
        kind, name = type(cause), type(cause).__name__
        is_known = kind in (getattr(builtins, name, None), getattr(errors, name, None))
        found.append(cause if is_known else (name, str(cause)))
        cause = cause.__cause__
    return found
