"""A whole run: source to plan, plan to shards, and what became of it."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from silk_fast.arguments import shown
from silk_fast.errors import SilkFileError, SilkInputError
from silk_fast.files import cannot_write, printable
from silk_fast.runtime.codec import Codec, open_codec
from silk_fast.runtime.tokenize.find import open_source
from silk_fast.runtime.tokenize.local import run_here, run_local
from silk_fast.runtime.tokenize.plan import Plan, Settings, settle_plan
from silk_fast.runtime.tokenize.ray_pool import run_ray
from silk_fast.runtime.tokenize.shards import SUFFIXES, Problem, merge, part_path, problems_in
from silk_fast.runtime.tokenize.units import Job, UnitReport, versions_of

VERSION = 1  # of what the same settings make of the same inputs
LOCK = ".lock"
MOST_UNIT_HOURS, MOST_HOURS = 100.0, 1000.0
N_PROBLEMS = 10  # that a summary tells of
ENGINES = ("local", "ray")

Progress = Callable[[float, float], None]  # seconds done so far, seconds in all


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Args:
        out: folder of the shards.
        n_units: of the plan.
        n_resumed: of them that were done when it began.
        n_done, n_failed: inputs with and without tokens.
        n_frames: rows of tokens that this run made.
        seconds: of audio of which it made them.
        problems: the first few inputs without tokens.
        merged: path of the one file of all shards, if it was asked for.
    """

    out: str
    n_units: int
    n_resumed: int
    n_done: int
    n_failed: int
    n_frames: int
    seconds: float
    problems: list[Problem]
    merged: str | None


def tokenize(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    codec: str = "silk",
    weights: str | None = None,
    device: str = "cpu",
    accelerate: bool | None = None,
    options: Mapping[str, Any] | None = None,
    unit_hours: float = 1.0,
    max_hours: float = 24.0,
    workers: int | None = None,
    readers: int | None = None,
    to: str = "parquet",
    merged: bool = False,
    engine: str = "local",
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Summary:
    """Make a folder of shards of tokens of all recordings of a source, or go on with one.

    Args:
        source: folder, JSONL or CSV manifest, WebDataset archive, or Parquet file with audio: docs/tokenize.md.
        out: folder, made if absent.
        codec, weights, device, accelerate, options: as of :func:`silk_fast.runtime.codec.open_codec`.
        unit_hours: of audio in a unit, and so in a shard.
        max_hours: of one recording; longer ones are refused.
        workers: processes; None for one a core, or one a GPU or where there are ``readers``.
        readers: processes that read for the one that encodes; None for none on a CPU, and elsewhere one a core but one.
        to: ``"parquet"`` or ``"webdataset"``.
        merged: write one Parquet file of all shards as well, once they are there.
        engine: ``"local"``, or ``"ray"`` for the machines of a Ray cluster, to which ``source`` and ``out`` are common.
        progress: called with the seconds done and to do.
        notice: called with one line of text.

    Returns:
        What the run came to; inputs that have no tokens are in ``errors-*.parquet``.

    Raises:
        SilkInputError: an argument is impossible, the source cannot be read, or ``out`` is another run's.
        SilkModelError: the codec cannot be loaded.
        SilkFileError: something cannot be written, or another process works on ``out``. Run again to go on.
    """
    source, out = os.path.abspath(source), os.path.abspath(out)  # workers may be elsewhere
    weights = os.path.abspath(weights) if weights is not None and os.path.isdir(weights) else weights
    _check(source, out, unit_hours, max_hours, workers, readers, to, merged, engine)
    inputs = open_source(source, out)
    if engine == "ray" and not device.startswith("cpu"):
        raise SilkInputError(f"the engine ray works on CPUs so far, got device {device}")
    model = open_codec(codec, weights, device=device, accelerate=accelerate, options=options)
    settings: Settings = {
        "version": VERSION,
        "source": inputs.kind,
        "codec": codec,
        "weights_sha256": model.weights_sha256,
        "sample_rate": model.sample_rate,
        "n_channels": model.n_channels,
        "frame_samples": model.frame_samples,
        "tokens_per_frame": model.tokens_per_frame,
        "options": dict(options or {}),
        "device": model.device.type,
        "accelerate": accelerate,
        "unit_hours": unit_hours,
        "max_hours": max_hours,
        "to": to,
        "versions": versions_of(model),
    }
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise cannot_write(printable(out), error) from error
    with _locked(out):
        _remove_unfinished(out)
        plan = settle_plan(out, inputs, settings, unit_hours)
        job = Job(out, inputs.root, plan.path, settings, codec, weights, device, accelerate, dict(options or {}))
        n_units = len(plan.seconds)
        todo = [unit for unit in range(n_units) if not os.path.exists(part_path(out, unit, to))]
        n_frames, seconds = 0, 0.0
        for report in _reports(job, model, plan, todo, workers, readers, engine, progress):
            n_frames, seconds = n_frames + report.n_frames, seconds + report.seconds
            if notice:
                for text in report.warnings:
                    notice(f"part {report.unit}: {text}")
        problems = problems_in(out, n_units)
        first = list(islice(problems, N_PROBLEMS))
        n_failed = len(first) + sum(1 for _ in problems)
        path = merge(out, n_units) if merged else None
    n_done = plan.n_inputs - n_failed
    return Summary(out, n_units, n_units - len(todo), n_done, n_failed, n_frames, seconds, first, path)


def _check(
    source: str,
    out: str,
    unit_hours: float,
    max_hours: float,
    workers: int | None,
    readers: int | None,
    to: str,
    merged: bool,
    engine: str,
) -> None:
    """Raise SilkInputError for an argument that is impossible."""
    for name, value, most in (("unit_hours", unit_hours, MOST_UNIT_HOURS), ("max_hours", max_hours, MOST_HOURS)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise SilkInputError(f"{name} must be a number > 0 and <= {most:g}, got {shown(value)}")
    for name, count, least in (("workers", workers, 1), ("readers", readers, 0)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < least):
            raise SilkInputError(f"{name} must be an integer >= {least}, got {shown(count)}")
    if readers and (engine != "local" or workers not in (None, 1)):
        raise SilkInputError(f"readers feed one worker of the engine local, got {shown(workers)} of {shown(engine)}")
    for name, text, known in (("to", to, tuple(SUFFIXES)), ("engine", engine, ENGINES)):
        if text not in known:
            raise SilkInputError(f"{name} must be one of {', '.join(known)}, got {shown(text)}")
    if merged and to != "parquet":
        raise SilkInputError(f"only shards of Parquet can be merged, not those of {to}")
    if os.path.exists(out) and os.path.exists(source) and os.path.samefile(source, out):
        raise SilkInputError(f"{out}: source and output are the same folder")


def _reports(
    job: Job,
    codec: Codec,
    plan: Plan,
    todo: list[int],
    workers: int | None,
    readers: int | None,
    engine: str,
    progress: Progress | None,
) -> Iterator[UnitReport]:
    """Make the units that are to do, and tell of the progress."""
    n_total = sum(plan.seconds)
    n_done, n_live = n_total - sum(plan.seconds[unit] for unit in todo), 0.0

    def tell(seconds: float) -> None:
        nonlocal n_live
        n_live += seconds
        if progress:
            progress(min(n_done + n_live, n_total), n_total)

    tell(0.0)
    is_cpu = codec.device.type == "cpu"
    n_workers = min(workers or (_n_cores() if is_cpu and not readers else 1), len(todo))
    if readers is None:
        readers = 0 if is_cpu else max(1, _n_cores() - 1)
    if not todo:
        return
    if engine == "ray":
        for report in run_ray(job, todo, workers):
            tell(plan.seconds[report.unit])
            yield report
    elif n_workers == 1:
        yield from run_here(job, codec, todo, readers, tell)
    else:
        yield from run_local(job, todo, n_workers, tell)


def _n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _locked(out: str) -> Iterator[None]:
    """Hold the lock of a folder, which the system frees however the process ends.

    Raises:
        SilkFileError: another process holds it, or it cannot be made.
    """
    path = os.path.join(out, LOCK)
    try:
        file = open(path, "ab")  # noqa: SIM115
    except OSError as error:
        raise cannot_write(printable(path), error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SilkFileError(
                f"{printable(out)}: another process makes tokens there, expected to be alone"
            ) from error
        except OSError as error:
            raise cannot_write(printable(path), error) from error
        yield


def _remove_unfinished(out: str) -> None:
    """Remove what a killed run has left of files that it was about to write."""
    for name in os.listdir(out):
        if name.startswith(".silk-") and name.endswith(".tmp"):
            with suppress(OSError):
                os.unlink(os.path.join(out, name))
