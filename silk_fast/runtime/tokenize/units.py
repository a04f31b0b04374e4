"""One unit, from its inputs to its shard: what every worker does, of whatever engine."""

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import torch

from silk_fast.errors import SilkAudioError, SilkError, SilkModelError
from silk_fast.files import printable
from silk_fast.notices import warnings_to
from silk_fast.runtime.codec import Codec, open_codec
from silk_fast.runtime.tokenize.blocks import Sound, hear
from silk_fast.runtime.tokenize.encoding import Encoded, Encoder, encode_parts, form_of
from silk_fast.runtime.tokenize.plan import Settings, columns_of, read_unit
from silk_fast.runtime.tokenize.readers import ReaderLostError, Readers
from silk_fast.runtime.tokenize.shards import Done, Problem, write_unit
from silk_fast.runtime.tokenize.sources import Input, Refused

_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs to know.

    Args:
        out: folder of the plan and the shards.
        root: folder to which the paths of inputs are relative.
        plan: path.
        settings: of the plan.
        codec: name.
        weights, device, accelerate, options: as of :func:`silk_fast.runtime.codec.open_codec`.
    """

    out: str
    root: str
    plan: str
    settings: Settings
    codec: str
    weights: str | None
    device: str
    accelerate: bool | None
    options: dict[str, Any] = field(default_factory=dict)

    def open_codec(self) -> Codec:
        """Load the codec that the settings tell of.

        Raises:
            SilkModelError: its weights, or versions of what tokens depend on, are others here.
        """
        codec = open_codec(
            self.codec, self.weights, device=self.device, accelerate=self.accelerate, options=self.options
        )
        found = {"weights_sha256": codec.weights_sha256, "versions": versions_of(codec)}
        for name, value in found.items():
            if value != self.settings[name]:
                raise SilkModelError(f"{name} here is {value}, expected {self.settings[name]} of the plan")
        return codec


def versions_of(codec: Codec) -> dict[str, str]:
    """List the versions on which shards depend: of the codec, of what reads recordings, and of what writes Parquet."""
    import soundfile
    import soxr

    readers = {"libsndfile": soundfile.__libsndfile_version__, "soxr": soxr.__version__}
    return {**codec.versions, **readers, "pyarrow": pa.__version__}


@dataclass(frozen=True)
class UnitReport:
    """What a unit became.

    Args:
        unit: its number.
        n_done: inputs with tokens.
        n_failed: inputs without.
        n_frames: rows of tokens.
        seconds: of audio that have tokens.
        warnings: what was hardly meant, each once.
    """

    unit: int
    n_done: int
    n_failed: int
    n_frames: int
    seconds: float
    warnings: list[str]


def tokenize_unit(
    job: Job, encoder: Encoder, unit: int, tell: Callable[[float], None], readers: Readers | None = None
) -> UnitReport:
    """Make a unit of a job, whose shard is the same whoever makes it and however often.

    Args:
        tell: called with the seconds that were read since the last call.
        readers: that read; their next unit is this one. None to read here.

    Raises:
        SilkFileError: the shard cannot be written.
        OSError, MemoryError, SilkAudioError, ReaderLostError: the machine has not what it takes, which is no fault of
            an input.
    """
    inputs = read_unit(job.plan, unit)
    done: dict[str, Done] = {}
    failed: dict[str, Problem] = {}
    warnings: list[str] = []
    with warnings_to(warnings.append):
        here = hear(job.settings["source"], job.root, inputs, form_of(encoder.codec))
        for some, opening in readers.hear(warnings) if readers else here:
            for result in _encoded(job, encoder, some, opening, tell):
                if isinstance(result, Done):
                    done[result.id] = result
                else:
                    failed[result.id] = result
    problems = [Problem(one.id, one.kind, one.reason) if one.kind else failed.get(one.id) for one in inputs]
    rows = [done[one.id] for one in inputs if not one.kind and one.id in done]
    found = [problem for problem in problems if problem]
    write_unit(job.out, unit, job.settings, columns_of(job.plan), rows, found)
    n_frames = sum(len(row.encoded.tokens) for row in rows)
    seconds = sum(row.encoded.n_samples for row in rows) / encoder.codec.sample_rate
    return UnitReport(unit, len(rows), len(found), n_frames, seconds, list(dict.fromkeys(warnings)))


def _encoded(
    job: Job, encoder: Encoder, some: list[Input], opening: AbstractContextManager[Sound], tell: Callable[[float], None]
) -> Iterator[Done | Problem]:
    """Encode the inputs that share a recording; a failure is that of the inputs, unless it is the machine's."""
    left = {one.id: one for one in some}
    try:
        with opening as sound:
            for one, result in encode_parts(encoder, sound, some, 3600 * job.settings["max_hours"], tell):
                if not isinstance(result, Encoded):
                    _raise_if_of_the_machine(result)
                    yield _problem(one, some[0], result)
                else:
                    yield Done(one.id, result, sound.sha256, {**one.values, **sound.values})
                del left[one.id]
    except Exception as error:  # of every kind: recordings come from anywhere, and one must not end a run
        _raise_if_of_the_machine(error)
        yield from (_problem(one, some[0], error) for one in left.values())


def _problem(one: Input, first: Input, error: Exception) -> Problem:
    """Say why an input has no tokens, without the name that its recording has in messages, which is ``first``'s."""
    reason = str(error).removeprefix(f"{printable(first.id)}: ")
    if isinstance(error, Refused):
        return Problem(one.id, error.kind, reason)
    if isinstance(error, SilkAudioError):
        return Problem(one.id, "missing" if isinstance(error.__cause__, FileNotFoundError) else "audio", reason)
    if isinstance(error, SilkError):
        return Problem(one.id, "input", reason)
    return Problem(one.id, "unexpected", printable(f"{type(error).__name__}: {reason}"))


def _raise_if_of_the_machine(error: BaseException) -> None:
    """Raise an error that tells of the machine and not of an input: no memory, a full disk, a lost reader."""
    cause: BaseException | None = error
    while cause:
        is_full = isinstance(cause, OSError) and cause.errno in _OF_THE_MACHINE
        if is_full or isinstance(cause, MemoryError | torch.OutOfMemoryError | ReaderLostError):
            raise error
        cause = cause.__cause__
