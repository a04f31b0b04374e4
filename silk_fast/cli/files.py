"""Which files become which: folders are searched and mirrored, nothing is overwritten unasked."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from silk_fast.errors import SilkFileError, SilkInputError
from silk_fast.files import cannot_write, descriptor_of, files_below, is_stream


@dataclass(frozen=True)
class Plan:
    """Which input becomes which output.

    Args:
        pairs: input and output paths.
        refused: an input path, and why it becomes nothing.
    """

    pairs: list[tuple[str, str]]
    refused: list[tuple[str, str]] = field(default_factory=list)


def plan_files(inputs: list[str], output: str | None, from_suffixes: tuple[str, ...], to_suffix: str) -> Plan:
    """Pair each input path with its output path; folders are searched, and mirrored below the output folder.

    Args:
        inputs: files, folders or ``"-"``.
        output: file, folder, ``"-"``, or a pipe or device; None puts each output beside its input.
        from_suffixes: which files of a folder are taken, in lower case.
        to_suffix: of the outputs.

    Returns:
        The pairs, without inputs of which several would become one output and folders that cannot be read.

    Raises:
        SilkInputError: a folder holds nothing to take, or nothing is left.
    """
    if output == "":
        raise SilkInputError("the output has no name, expected a file, a folder or -")
    refused: list[tuple[str, str]] = []
    many = len(inputs) > 1 or os.path.isdir(inputs[0])
    streams = output is not None and is_stream(output)
    into_folder = output is not None and not streams and (many or os.path.isdir(output) or output.endswith(os.sep))
    if streams and many:
        name = "standard output" if is_standard_output(output) else output
        raise SilkInputError(f"{name} takes one file, got several inputs")
    pairs = []
    for source in inputs:
        if source == "-":
            if into_folder:
                raise SilkInputError("standard input has no name: give an output file, not a folder")
            pairs.append((source, "-" if output is None else output))
        elif os.path.isdir(source):
            found = sorted(files_below(source, from_suffixes, lambda path, why: refused.append((path, why))))
            if not found and not refused:
                raise SilkInputError(f"{source}: no {'/'.join(from_suffixes)} files in this folder")
            for path in found:
                base = os.path.relpath(path, source) if into_folder else path
                pairs.append((path, _renamed(base, output if into_folder else None, to_suffix)))
        elif output is None and _renamed(source, None, to_suffix) == source:
            raise SilkInputError(f"{source}: is named as a {to_suffix} file already, expected another or -o OUTPUT")
        elif into_folder:
            pairs.append((source, _renamed(os.path.basename(source), output, to_suffix)))
        else:
            pairs.append((source, _renamed(source, None, to_suffix) if output is None else output))
    return _without_collisions(pairs, refused)


def _renamed(path: str, folder: str | None, suffix: str) -> str:
    return os.path.join(folder or "", os.path.splitext(path)[0] + suffix)


def _without_collisions(pairs: list[tuple[str, str]], refused: list[tuple[str, str]]) -> Plan:
    """Leave out what would become one file, beside what is ``refused`` already; raise if nothing is left."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for source, target in pairs:
        groups.setdefault(target if target == "-" else os.path.realpath(target), []).append((source, target))
    plan = Plan([group[0] for group in groups.values() if len(group) == 1], refused)
    for group in groups.values():
        if len(group) > 1:
            names = " and ".join(source for source, _ in group)
            all_of = "both" if len(group) == 2 else "all"
            why = f"{names} would {all_of} become {group[0][1]}: convert one at a time, each with its own -o"
            plan.refused.extend((source, why) for source, _ in group)
    if not plan.pairs:
        raise SilkInputError(plan.refused[0][1])
    return plan


@contextmanager
def made_folder(path: str) -> Iterator[None]:
    """Make a folder and those above it, and take away what was made if the block ends in an exception.

    Raises:
        SilkFileError: it cannot be made.
    """
    missing: list[str] = []
    above = os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    try:
        os.makedirs(path or ".", exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SilkFileError(f"{above}: is no folder, expected one to write into") from error
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):  # holds what others have put there
            for folder in missing:
                os.rmdir(folder)
        raise


def is_standard_output(target: str | None) -> bool:
    """Tell whether an output path means standard output: ``"-"``, ``/dev/stdout`` and the like."""
    return target is not None and (target == "-" or descriptor_of(target) == 1)


def check_suffix(target: str, suffixes: Iterable[str], what: str, advice: str) -> None:
    """Raise SilkInputError if the name of an output file tells of something else than will be in it.

    Args:
        target: path. A pipe, a device and a name without a suffix tell of nothing.
        suffixes: that tell of ``what``, in lower case.
        what: will be written, such as ``"tokens"``.
        advice: how to ask for it all the same.
    """
    suffix = os.path.splitext(target)[1].lower()
    if suffix and suffix not in suffixes and not is_stream(target):
        raise SilkInputError(f"{target}: {what} under '{suffix}', expected {' or '.join(suffixes)}{advice}")


def check_target(sources: Iterable[str], target: str, overwrite: bool) -> None:
    """Raise SilkFileError if ``target`` is one of the sources, or a file that is there and not to be overwritten."""
    if target == "-" or not os.path.exists(target):
        return
    for source in sources:
        if source != "-" and os.path.exists(source) and not is_stream(source) and os.path.samefile(source, target):
            raise SilkFileError(f"{target}: input and output are the same file")
    if not overwrite and os.path.isfile(target) and not is_stream(target):
        raise SilkFileError(f"{target}: exists already, give -f to overwrite it")
