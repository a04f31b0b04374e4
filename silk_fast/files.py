"""Opening files: inputs that can seek, and outputs that appear under their name only when complete."""

import errno
import io
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from silk_fast.arguments import shown
from silk_fast.errors import SilkAudioError, SilkFileError, SilkInputError

Source = str | os.PathLike | BinaryIO
"""What is read: a path, ``"-"`` for standard input, or a binary file object, read from where it stands."""


def printable(text: str) -> str:
    """Show a name as text of one line: whatever cannot be printed, such as a byte that is not UTF-8, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def output_name(target: str | os.PathLike) -> str:
    """Name an output path as messages do.

    Raises:
        SilkInputError: not a path.
    """
    return "standard output" if target == "-" else printable(_path(target))


def input_name(source: Source) -> str:
    """Name an input as messages do.

    Raises:
        SilkInputError: neither a path nor a file object.
    """
    if isinstance(source, str) and source == "-":
        return "standard input"
    if _is_file(source):
        name = getattr(source, "name", None)
        return printable(name) if isinstance(name, str) else f"a {type(source).__name__}"
    return printable(_path(source))


def _is_file(source: Any) -> bool:
    return callable(getattr(source, "read", None))


def _path(path: Any) -> str:
    try:
        return os.fsdecode(path)
    except Exception as error:  # what is no path, or a class whose __fspath__ fails in some way
        kind = f"{type(path).__name__} {shown(path)}"
        raise SilkInputError(f"expected a path or, to read, a binary file object, got {kind}") from error


def cannot_read(name: str, error: OSError, expected: str = "audio") -> SilkAudioError:
    """Make the error that says why ``name`` cannot be read."""
    return SilkAudioError(f"{name}: {error.strerror or error}, expected a readable {expected} file")


def cannot_write(name: str, error: OSError) -> SilkFileError:
    """Make the error that says why ``name`` cannot be written."""
    return SilkFileError(f"{name}: cannot be written: {error.strerror or error}")


@contextmanager
def open_seekable(source: Source) -> Iterator[io.BufferedReader | io.BufferedRandom]:
    """Open a binary file on disk that can seek, at its start.

    Standard input (``"-"``), pipes, and file objects other than a whole file on disk are first copied to a temporary
    file. A file object is left open, at its end.

    Raises:
        OSError: the source cannot be opened or read.
        SilkInputError: neither a path nor a binary file object.
    """
    name = input_name(source)
    if isinstance(source, str) and source == "-":
        if sys.stdin is None:  # closed, as by <&-
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with _spooled(sys.stdin.buffer, name) as spool:
            yield spool
    elif _is_file(source):
        given: Any = source
        if getattr(given, "closed", False) is True:
            raise SilkInputError(f"{name}: is closed, expected an open file")
        if isinstance(given, io.IOBase) and not given.readable():
            raise SilkInputError(f"{name}: is open for writing only, expected a file to read")
        is_on_disk = isinstance(given, io.BufferedReader | io.BufferedRandom) and isinstance(given.raw, io.FileIO)
        if is_on_disk and given.seekable() and given.tell() == 0:
            try:
                yield given
            finally:
                with suppress(ValueError):  # closed by whoever owns it
                    given.seek(0, os.SEEK_END)
        else:
            with _spooled(given, name) as spool:
                yield spool
    else:
        try:
            file = open(cast(str, source), "rb")  # noqa: SIM115
        except ValueError as error:  # a NUL, or half of a surrogate pair
            raise OSError(0, f"not a path ({error})") from error
        with file:
            status = os.stat(file.fileno())
            if file.seekable() and (status.st_size or not stat.S_ISREG(status.st_mode)):  # /proc has files of no size
                yield file
            else:
                with _spooled(file, name) as spool:
                    yield spool


@contextmanager
def repeatable(source: str) -> Iterator[str | io.BufferedReader | io.BufferedRandom]:
    """Give an input that can be read more than once, if rewound: the path of a file, or a copy of anything else.

    Raises:
        OSError: the source cannot be opened or read.
    """
    if source != "-" and os.path.isfile(source):
        yield source
    else:
        with open_seekable(source) as file:
            yield file


def rewind(source: Source) -> None:
    """Go back to the start of what :func:`repeatable` gave."""
    if isinstance(source, io.IOBase):
        source.seek(0)


@contextmanager
def _spooled(file: BinaryIO, name: str) -> Iterator[io.BufferedRandom]:
    """Copy what is left of a file to an unnamed temporary one, of which the start is given."""
    with tempfile.TemporaryFile() as spool:
        while chunk := _read(file, name):
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise SilkInputError(f"{name}: reads {type(chunk).__name__}, expected a file of bytes")
            spool.write(chunk)
        if chunk is None:
            raise SilkInputError(f"{name}: has nothing to read yet, expected a file that waits for its data")
        spool.seek(0)
        spool.raw.name = name  # type: ignore[attr-defined]  # what messages call it; a FileIO takes any name
        yield spool


def _read(file: BinaryIO, name: str) -> Any:
    try:
        return file.read(2**20)
    except OSError:
        raise
    except Exception as error:  # of whatever kind the file is, such as a cut .gz
        raise SilkInputError(f"{name}: cannot be read: {type(error).__name__}: {error}") from error


def descriptor_of(target: str | os.PathLike) -> int | None:
    """Give the descriptor of this process that an output path means, as ``/dev/stdout`` does; None if it means none."""
    path = os.path.abspath(_path(target))
    for _ in range(40):  # as many links as Linux follows
        folder, name = os.path.split(path)
        try:
            folder = os.path.realpath(folder)
        except ValueError:  # not a path at all
            return None
        if re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(/task/\d+)?/fd", folder):
            return int(name) if name.isdecimal() else None
        try:
            path = os.path.normpath(os.path.join(folder, os.readlink(os.path.join(folder, name))))
        except (OSError, ValueError):
            return None
    return None


def is_stream(target: str | os.PathLike) -> bool:
    """Tell whether an output is standard output, a descriptor, a pipe or a device: written to instead of replaced."""
    return target == "-" or descriptor_of(target) is not None or _exists_otherwise(_path(target))


def _exists_otherwise(path: str) -> bool:
    """Tell whether a path is there and is neither a file nor a directory."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def files_below(folder: str, suffixes: tuple[str, ...], refuse: Callable[[str, str], None]) -> Iterator[str]:
    """Find the files in a folder, to any depth, whose names end in one of ``suffixes``, in lower case; in no order.

    Pipes and devices, which would be waited for, are left out, and links to folders not followed.

    Args:
        refuse: called with the path of each folder that cannot be read, and a line of text that says why.
    """

    def report(error: OSError) -> None:
        refuse(error.filename, f"{printable(error.filename)}: {error.strerror}, expected a readable folder")

    for directory, _, names in os.walk(folder, onerror=report):
        paths = (os.path.join(directory, name) for name in names if name.lower().endswith(suffixes))
        yield from (path for path in paths if not is_stream(path))


@contextmanager
def atomic_file(target: str | os.PathLike) -> Iterator[io.BufferedRandom]:
    """Open a binary file to write and seek in, which becomes ``target`` when the block ends without an exception.

    It is a temporary file in the target's directory, flushed to the disk and renamed, with the permissions of the
    file it replaces or, if there was none, those that ``open`` gives. What :func:`is_stream` gets a copy at the end,
    where it stands, and nothing after an exception. After an exception of any kind the temporary file is gone and the
    target as it was.

    Raises:
        SilkFileError: the target cannot be written, or a write to the file failed.
        SilkInputError: the target is not a path.
    """
    name = output_name(target)
    try:
        path = os.path.realpath(_path(target))
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise SilkFileError(f"{name}: cannot be written: not a path ({error})") from error
    if is_stream(target):
        with (
            _errors_named(name, (None, _path(target))),
            tempfile.TemporaryFile() as file,
            _open_stream(target) as stream,
        ):
            yield file
            file.flush()
            file.seek(0)
            shutil.copyfileobj(file, stream, 2**20)
        return
    if os.path.islink(path):  # which realpath did not resolve
        raise cannot_write(name, OSError(errno.ELOOP, os.strerror(errno.ELOOP)))
    if os.path.isdir(path):
        raise SilkFileError(f"{name}: is a directory, expected a file to write")
    temporary = os.path.join(os.path.dirname(path), f".silk-{secrets.token_hex(8)}.tmp")
    with _errors_named(name, (None, path, temporary)):
        try:
            with _open_new(temporary) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(path):
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError, ValueError):
                os.unlink(temporary)
            raise


def _open_stream(target: str | os.PathLike) -> BinaryIO:
    if sys.stdout is None and (target == "-" or descriptor_of(target) == 1):  # closed, as by >&-
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    descriptor = sys.stdout.fileno() if target == "-" else descriptor_of(target)
    return open(_path(target) if descriptor is None else os.dup(descriptor), "wb")


def _open_new(path: str) -> io.BufferedRandom:
    try:
        return open(path, "x+b")
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise OSError(0, f"not a path ({error})") from error


@contextmanager
def _errors_named(name: str, filenames: tuple[str | None, ...]) -> Iterator[None]:
    """Make errors that are about one of these file names the error that ``name`` cannot be written."""
    try:
        yield
    except OSError as error:
        if error.filename in filenames:
            raise cannot_write(name, error) from error
        raise
