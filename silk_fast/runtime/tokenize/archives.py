"""WebDataset archives: members that share a name up to its first dot are one recording and what belongs to it."""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, BinaryIO

import pyarrow as pa

from silk_fast.audio import SUFFIXES
from silk_fast.errors import SilkAudioError
from silk_fast.files import printable
from silk_fast.runtime.tokenize.sources import (
    BYTES_PER_SECOND,
    Input,
    Opened,
    failing,
    is_text,
    refused,
    seconds_of,
    spooled,
)

TARS = (".tar", ".tar.gz", ".tgz")
TEXTS = ("json", "txt", "cls")
"""What belongs to a recording and is passed through, as text; other members are not."""

_MOST_TEXT = 2**20  # bytes
_CHUNK = 2**20
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error)


class Archives:
    """The recordings in tar archives: a :class:`~silk_fast.runtime.tokenize.sources.Source`.

    Its columns are those of :data:`TEXTS` that come with any of them.

    Args:
        root: folder of the archives.
        paths: of them, relative to it.
    """

    kind = "tar"

    def __init__(self, root: str, paths: Sequence[str]) -> None:
        self.root, self.paths = root, paths
        names = {name for path in paths for one in self._samples(path, read=False) for name in one.values}
        self.columns = [pa.field(name, pa.string()) for name in TEXTS if name in names]

    def inputs(self) -> Iterator[Input]:
        """List the recordings, archive by archive."""
        for path in self.paths:
            yield from self._samples(path, read=True)

    def measure(self, one: Input) -> tuple[int, float]:
        if not one.path.lower().endswith(".tar"):
            return one.size, one.size / BYTES_PER_SECOND
        try:
            with open(os.path.join(self.root, one.path), "rb") as file:
                return one.size, seconds_of(_Window(file, one.offset, one.size), one.size)
        except OSError:
            return one.size, one.size / BYTES_PER_SECOND

    def _samples(self, path: str, read: bool) -> Iterator[Input]:
        """List the recordings of an archive, with the texts that belong to them or, unread, None for each."""
        sample, damage = _Sample("", path), ""
        try:
            with tarfile.open(os.path.join(self.root, path), "r:*", encoding="utf-8", errors="surrogateescape") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or it would remember them all
                    key, suffix = _split(member.name)
                    if member.isdir() or not key:
                        continue
                    if key != sample.key:
                        yield from sample.inputs()
                        sample = _Sample(key, path)
                    sample.add(tar, member, suffix, read)
        except _DAMAGE as error:
            damage = f"damaged or cut short ({error}), expected a tar archive"
        yield from sample.inputs()
        if damage:
            yield refused(path, path, "archive", damage)


class _Sample:
    """Members of an archive that share a name."""

    def __init__(self, key: str, path: str) -> None:
        self.key, self.path, self.why = key, path, ""
        self.places: list[tuple[int, int]] = []  # of its recordings: first byte, bytes
        self.texts: dict[str, str | None] = {}

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, read: bool) -> None:
        is_plain = member.isreg() and not member.issparse()
        if f".{suffix}".endswith(SUFFIXES):
            self.places.append((member.offset_data, member.size))
            self.why = self.why if is_plain else "a link in an archive, expected a file"
        elif suffix in TEXTS and is_plain:
            self.texts[suffix] = None
            if read and member.size <= _MOST_TEXT:
                file = tar.extractfile(member)
                assert file is not None  # as of a plain file
                try:
                    self.texts[suffix] = file.read().decode()
                except UnicodeDecodeError:
                    self.why = f"its .{suffix} is not UTF-8"
            elif read:
                self.why = f"its .{suffix} has {member.size} bytes, expected at most {_MOST_TEXT}"

    def inputs(self) -> Iterator[Input]:
        for offset, size in self.places:
            if not is_text(self.key):
                yield refused(self.key, self.path, "name", "its name is not UTF-8, expected text that shards can hold")
            elif self.why:
                yield refused(self.key, self.path, "archive", self.why)
            else:
                yield Input(self.key, self.path, offset, size, values=self.texts)


def _split(name: str) -> tuple[str, str]:
    """Split the name of a member into that of its sample, empty where it is hidden, and its suffix in lower case."""
    folder, _, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}/{stem}".removeprefix("./").lstrip("/") if stem else "", suffix.lower()


def read_archives(root: str, inputs: Sequence[Input]) -> Iterator[Opened]:
    """Copy recordings out of archives, each of which is opened once."""
    for path, group in groupby(inputs, lambda one: one.path):
        whole = os.path.join(root, path)
        try:
            file: BinaryIO = open(whole, "rb") if path.lower().endswith(".tar") else gzip.open(whole)  # type: ignore[assignment]  # noqa: SIM115
        except OSError as error:
            yield from (([one], failing(one.id, f"{error.strerror}, expected a readable archive")) for one in group)
            continue
        with file:
            yield from (([one], spooled(_bytes_of(file, one), one.id)) for one in group)


def _bytes_of(file: BinaryIO, one: Input) -> Iterator[bytes]:
    """Read a recording piece by piece; raises SilkAudioError if it is not there as a whole."""
    n_left = one.size
    try:
        file.seek(one.offset)
        while n_left and (chunk := file.read(min(n_left, _CHUNK))):
            yield chunk
            n_left -= len(chunk)
    except _DAMAGE as error:
        raise SilkAudioError(f"{printable(one.id)}: damaged or cut short in its archive ({error})") from error
    if n_left:
        raise SilkAudioError(f"{printable(one.id)}: cut short in its archive, {n_left} of {one.size} bytes are missing")


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
