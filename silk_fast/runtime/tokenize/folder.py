"""A folder of recordings, to any depth, in the order of names; links to folders once, and never in a circle."""

import os
from collections.abc import Iterator

import pyarrow as pa

from silk_fast.audio import SUFFIXES
from silk_fast.runtime.tokenize.sources import Input, id_of, is_text, measure_file, refused

_Identity = tuple[int, int]  # device and number of a folder


class Folder:
    """The audio files below a folder: a :class:`~silk_fast.runtime.tokenize.sources.Source`.

    Args:
        root: the folder.
        leave_out: a folder that is not looked into.
    """

    kind = "files"

    def __init__(self, root: str, leave_out: str) -> None:
        self.root, self.leave_out = root, leave_out
        self.columns: list[pa.Field] = []

    def inputs(self) -> Iterator[Input]:
        """List the files, those of a folder before those of the folders in it."""
        for path, reason in walk(self.root, SUFFIXES, self.leave_out):
            if not is_text(path):
                yield refused(path, path, "name", reason or "its name is not UTF-8, expected text that shards can hold")
            elif reason:
                yield refused(path, path, "folder", reason)
            else:
                yield Input(id_of(path), path)

    def measure(self, one: Input) -> tuple[int, float]:
        return measure_file(os.path.join(self.root, one.path))


def walk(root: str, suffixes: tuple[str, ...], leave_out: str) -> Iterator[tuple[str, str]]:
    """Find files by their suffixes, in lower case, in a stable order.

    A folder is read once, under its own name if it has one below ``root``; links are followed after all else.

    Yields:
        Path relative to ``root``, and an empty text; or why a folder is not read.
    """
    seen = {*_above(root), *_identity(leave_out)}
    links: list[str] = []
    stack = [""]
    while stack or links:
        folder = stack.pop() if stack else links.pop(0)
        path = os.path.join(root, folder)
        if folder and (found := _identity(path)) & seen:
            if not found <= _identity(leave_out):
                yield folder, "leads to a folder that is read already, or that holds the source"
            continue
        seen |= _identity(path)
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield folder or ".", f"{error.strerror}, expected a readable folder"
            continue
        folders: list[str] = []
        for entry in entries:
            name = os.path.join(folder, entry.name)
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(name)
            elif entry.name.lower().endswith(suffixes) and (entry.is_file() or entry.is_symlink()):
                yield name, ""
        stack.extend(reversed(folders))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, of links alone
        return False


def _identity(path: str) -> set[_Identity]:
    """Identify a folder; empty if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return set()
    return {(status.st_dev, status.st_ino)}


def _above(path: str) -> set[_Identity]:
    """Identify the folders that hold a folder."""
    found, path = set(), os.path.realpath(path)
    while (above := os.path.dirname(path)) != path:
        path = above
        found |= _identity(path)
    return found
