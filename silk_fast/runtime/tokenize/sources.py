"""Where recordings come from: what a source is, and how the bytes of a recording become a file to read.

A source lists its inputs in a stable order, in little memory; workers open them by what the list says, in any process.
"""

import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import pyarrow as pa

from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import cannot_read, printable

BYTES_PER_SECOND = 32_000  # taken of audio whose header tells nothing: 16 kHz in 16 bits
OWN_COLUMNS = ("id", "tokens", "samples", "source_sha256")  # of the shards
_CHUNK = 2**20


class Refused(SilkInputError):
    """An input that is not taken.

    Args:
        kind: a word that says why, for those who count.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Input:
    """An input of a plan.

    Args:
        id: unique in the plan, unless ``kind`` says that it is not.
        path: of the file that holds it, relative to the root of its source.
        offset: in a tar archive the first of its bytes, in a Parquet file its row.
        size: bytes, where they are known.
        start, end: seconds of the recording that are wanted; None for all.
        seconds: how long it is expected to be.
        kind, reason: why it is refused; empty where it is not.
        values: of the columns that are passed through.
    """

    id: str
    path: str
    offset: int = 0
    size: int = 0
    start: float | None = None
    end: float | None = None
    seconds: float = 0.0
    kind: str = ""
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """A recording that is open.

    Args:
        file: on disk, at its start.
        sha256: of its bytes, in hexadecimal.
        values: of columns that the plan has not.
    """

    file: io.BufferedReader | io.BufferedRandom
    sha256: str
    values: dict[str, Any] = field(default_factory=dict)


Opened = tuple[list[Input], AbstractContextManager[Recording]]
"""Inputs that share a recording, and what opens it: raises SilkAudioError if that cannot be done."""


class Source(Protocol):
    """Inputs in a stable order.

    Attributes:
        kind: ``"files"``, ``"tar"`` or ``"parquet"``, a key of ``blocks.READERS``.
        root: folder to which the paths of inputs are relative.
        columns: that are passed through.
    """

    kind: str
    root: str
    columns: list[pa.Field]

    def inputs(self) -> Iterator[Input]:
        """List the inputs."""

    def measure(self, one: Input) -> tuple[int, float]:
        """Tell the bytes of an input, and its seconds as its header has them; from any thread."""


def refused(id: str, path: str, kind: str, reason: str) -> Input:
    """Make an input that is refused, whose names may be no text."""
    return Input(printable(id), printable(path), kind=kind, reason=reason)


def is_text(name: str) -> bool:
    """Tell whether a name is text, and not bytes that are not UTF-8 or a NUL."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


def id_of(path: str) -> str:
    """Make the id of a recording from its path: without the suffix."""
    return os.path.splitext(path)[0].removeprefix("./")


def check_columns(columns: Iterable[str], where: str) -> None:
    """Raise SilkInputError if a column that is passed through has the name of one that the shards have."""
    if taken := sorted(set(columns) & set(OWN_COLUMNS)):
        raise SilkInputError(
            f"{where}: column {taken[0]!r} would be passed through, but shards have their own; rename it"
        )


def seconds_of(file: Any, n_bytes: int) -> float:
    """Tell the seconds that the header of a recording announces, or what ``n_bytes`` let expect.

    Args:
        file: path or binary file object.
    """
    import soundfile

    try:
        info = soundfile.info(file)
        return info.frames / info.samplerate if 0 < info.frames < 2**62 else n_bytes / BYTES_PER_SECOND
    except (soundfile.SoundFileError, OSError, ValueError, ZeroDivisionError):  # workers will say what is wrong
        return n_bytes / BYTES_PER_SECOND


def measure_file(path: str) -> tuple[int, float]:
    """Tell the bytes and the seconds of a file; zeros where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0.0
    return (status.st_size, seconds_of(path, status.st_size)) if stat.S_ISREG(status.st_mode) else (0, 0.0)


def read_files(root: str, inputs: Sequence[Input]) -> Iterator[Opened]:
    """Open files, each once for inputs that follow one another."""
    for path, group in groupby(inputs, lambda one: one.path):
        some = list(group)
        yield some, _opened(os.path.join(root, path), some[0].id)


@contextmanager
def _opened(path: str, name: str) -> Iterator[Recording]:
    name = printable(name)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SilkAudioError(f"{name}: is no regular file, expected audio")
        file = open(path, "rb")  # noqa: SIM115
    except ValueError as error:  # a NUL
        raise SilkAudioError(f"{name}: no path, {error}") from error
    except OSError as error:
        raise cannot_read(name, error) from error
    with file:
        digest = hashlib.sha256()
        try:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        except OSError as error:
            raise cannot_read(name, error) from error
        file.seek(0)
        file.raw.name = name  # type: ignore[attr-defined]  # what messages call it
        yield Recording(file, digest.hexdigest())


@contextmanager
def spooled(chunks: Iterable[bytes], name: str, values: dict[str, Any] | None = None) -> Iterator[Recording]:
    """Copy a recording to an unnamed temporary file."""
    with tempfile.TemporaryFile() as spool:
        digest = hashlib.sha256()
        for chunk in chunks:
            spool.write(chunk)
            digest.update(chunk)
        spool.seek(0)
        spool.raw.name = printable(name)  # type: ignore[attr-defined]
        yield Recording(spool, digest.hexdigest(), values or {})


@contextmanager
def failing(name: str, reason: str) -> Iterator[Recording]:
    """Stand for a recording that cannot be had."""
    raise SilkAudioError(f"{printable(name)}: {reason}")
    yield


Reader = Callable[[str, Sequence[Input]], Iterator[Opened]]
