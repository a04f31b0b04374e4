"""Which files become which: folders are searched and mirrored, nothing is overwritten unasked."""

import os
from collections.abc import Iterable

from silk_fast.errors import SilkFileError, SilkInputError


def plan_files(
    inputs: list[str], output: str | None, from_suffixes: tuple[str, ...], to_suffix: str
) -> list[tuple[str, str]]:
    """Pair each input path with its output path; folders are searched, and mirrored below the output folder.

    Args:
        inputs: files, folders or ``"-"``.
        output: file, folder or ``"-"``; None puts each output beside its input.
        from_suffixes: which files of a folder are taken, in lower case.
        to_suffix: of the outputs.

    Raises:
        SilkInputError: a folder holds nothing to take, or several inputs would become one output.
    """
    many = len(inputs) > 1 or os.path.isdir(inputs[0])
    into_folder = output is not None and output != "-" and (many or os.path.isdir(output) or output.endswith(os.sep))
    if output == "-" and many:
        raise SilkInputError("standard output takes one file, got several inputs")
    pairs = []
    for source in inputs:
        if source == "-":
            if into_folder:
                raise SilkInputError("standard input has no name: give an output file, not a folder")
            pairs.append((source, "-" if output is None else output))
        elif os.path.isdir(source):
            found = sorted(_files_below(source, from_suffixes))
            if not found:
                raise SilkInputError(f"{source}: no {'/'.join(from_suffixes)} files in this folder")
            for path in found:
                base = os.path.relpath(path, source) if into_folder else path
                pairs.append((path, _renamed(base, output if into_folder else None, to_suffix)))
        elif into_folder:
            pairs.append((source, _renamed(os.path.basename(source), output, to_suffix)))
        else:
            pairs.append((source, _renamed(source, None, to_suffix) if output is None else output))
    _refuse_collisions(pairs)
    return pairs


def _files_below(folder: str, suffixes: tuple[str, ...]) -> Iterable[str]:
    for directory, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(directory, name) for name in names if name.lower().endswith(suffixes))


def _renamed(path: str, folder: str | None, suffix: str) -> str:
    return os.path.join(folder or "", os.path.splitext(path)[0] + suffix)


def _refuse_collisions(pairs: list[tuple[str, str]]) -> None:
    sources: dict[str, str] = {}
    for source, target in pairs:
        key = os.path.realpath(target)
        if target != "-" and key in sources:
            raise SilkInputError(f"{sources[key]} and {source} would both become {target}")
        sources[key] = source


def check_target(source: str, target: str, overwrite: bool) -> None:
    """Raise SilkFileError if ``target`` is the source itself, or a file that is there and not to be overwritten."""
    if target == "-":
        return
    if os.path.exists(target):
        if source != "-" and os.path.exists(source) and os.path.samefile(source, target):
            raise SilkFileError(f"{target}: input and output are the same file")
        if not overwrite and os.path.isfile(target):
            raise SilkFileError(f"{target}: exists already, give -f to overwrite it")
