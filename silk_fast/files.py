"""Opening files: inputs that can seek, and outputs that appear under their name only when complete."""

import io
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from silk_fast.errors import SilkFileError


def output_name(target: str | os.PathLike) -> str:
    """Name an output path as messages do."""
    return "standard output" if target == "-" else os.fspath(target)


def input_name(source: str | os.PathLike) -> str:
    """Name an input path as messages do."""
    return "standard input" if source == "-" else os.fspath(source)


def cannot_write(name: str, error: OSError) -> SilkFileError:
    """Make the error that says why ``name`` cannot be written."""
    return SilkFileError(f"{name}: cannot be written: {error.strerror or error}")


def open_seekable(source: str | os.PathLike) -> io.BufferedReader | io.BufferedRandom:
    """Open a binary file that can seek; standard input (``"-"``) and pipes are copied to a temporary file.

    Raises:
        OSError: the source cannot be opened or read.
    """
    if source == "-":
        return _spooled(sys.stdin.buffer)
    file = open(source, "rb")  # noqa: SIM115
    return file if file.seekable() else _spooled(file)


def _spooled(file: BinaryIO) -> io.BufferedRandom:
    """Copy what is left of a file to an unnamed temporary one."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(file, spool, 2**20)
    spool.flush()
    return spool


@contextmanager
def atomic_file(target: str | os.PathLike) -> Iterator[io.BufferedRandom]:
    """Open a binary file to write and seek in, which becomes ``target`` when the block ends without an exception.

    It is a temporary file in the target's directory, flushed to the disk and renamed, with the permissions of the
    file it replaces or, if there was none, those that ``open`` gives. Standard output (``"-"``), pipes and devices get
    a copy at the end. After an exception of any kind the temporary file is gone and the target as it was.

    Raises:
        SilkFileError: the target cannot be written, or a write to the file failed.
    """
    name, path = output_name(target), os.path.realpath(target)
    if target != "-" and os.path.isdir(path):
        raise SilkFileError(f"{name}: is a directory, expected a file to write")
    is_copied = target == "-" or (os.path.exists(path) and not os.path.isfile(path))
    temporary = os.path.join(os.path.dirname(path), f".silk-{secrets.token_hex(8)}.tmp")
    try:
        with tempfile.TemporaryFile() if is_copied else open(temporary, "x+b") as file:
            yield file
            file.flush()
            if is_copied:
                file.seek(0)
                is_path = target != "-"
                with open(path if is_path else sys.stdout.fileno(), "wb", closefd=is_path) as output:
                    shutil.copyfileobj(file, output, 2**20)
            else:
                os.fsync(file.fileno())
        if not is_copied:
            if os.path.exists(path):
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, path, temporary):
            raise cannot_write(name, error) from error
        raise
