"""The runner: measures jobs in order until a deadline, and makes a row of whatever happens."""

import gc
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from silk_fast.benchmark.costs import Ceilings, Cost
from silk_fast.benchmark.rows import OK, Row
from silk_fast.benchmark.timing import FEW, Measurement, measure

COMPILED = ("compile", "compile-max", "flex_attention")
COMPILE_SECONDS, COMPILE_LIMIT = 15.0, 120.0  # what is left at least where compiling begins; what it may take
NO_TIME = "skipped: time budget"


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share.

    Args:
        device: where they run.
        ceilings: measured on this machine, by the number of threads (None on a GPU) and the name of the dtype.
        seconds: how long to repeat a call.
        wrong: by op, dtype and direction, status of our rows, where ours is not known to be right.
        with_memory: whether to find peak memory on a CPU too, which takes a process each; on a GPU it costs nothing.
    """

    device: torch.device
    ceilings: Mapping[tuple[int | None, str], Ceilings] = field(default_factory=dict)
    seconds: float = 1.0
    wrong: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    with_memory: bool = False


class Job(Protocol):
    """One case and the provider that computes it: a figure to be found."""

    @property
    def provider(self) -> str: ...

    @property
    def threads(self) -> int | None:
        """Of a CPU; None on a GPU."""

    @property
    def costs(self) -> Sequence[Cost]:
        """By formula, of its steps one after another."""

    def row(self, **values) -> Row:
        """The row of this job with ``values`` filled in."""

    def absence(self, bench: Bench) -> str | None:
        """Why it cannot be measured, known beforehand, as the status of its row; None if it can."""

    def ready(self, device: torch.device) -> tuple[Callable[..., object], Callable[[], object] | None]:
        """What is to be timed, and what prepares its argument, if it has one. Raises whatever the provider raises."""

    def peak_memory(self) -> int | None:
        """Bytes that a process takes that does it once on the CPU; None where that says nothing."""


def run_jobs(
    jobs: Sequence[Job],
    bench: Bench,
    add: Callable[..., object],
    end: float = math.inf,
    started: Callable[[Job], object] = lambda job: None,
) -> None:
    """Measure jobs in order.

    Args:
        add: takes rows as they come.
        end: by ``time.monotonic``; what there is no time for is a row that says so.
        started: is told of every job before it runs.
    """
    speeds: dict[tuple, float] = {}  # of the codec: seconds of a call for each second of audio
    for i, job in enumerate(jobs):
        left, row = end - time.monotonic(), job.row()
        if left <= 0:
            add(*(late.row(status=late.absence(bench) or NO_TIME) for late in jobs[i:]))
            return
        kind = (row.section, row.op, row.provider, row.dtype, row.threads)
        expected = speeds.get(kind, 0.0) * (row.seconds or 0.0)
        needed = COMPILE_SECONDS if job.provider in COMPILED else (FEW + 1) * expected
        if needed > left:
            add(job.row(status=job.absence(bench) or f"{NO_TIME}, needs about {needed:.2g} s"))
            continue
        started(job)
        row = run_job(job, bench, left)
        if row.section == "codec" and row.status == OK:
            speeds[kind] = 1 / row.realtime
        add(row)


def run_job(job: Job, bench: Bench, left_seconds: float = math.inf) -> Row:
    """Measure a job; a provider that is absent, fails or takes too long gives a row that says so.

    float32 is IEEE float32, without TF32, for every provider; our attention multiplies three times in TF32 for it.
    """
    if reason := job.absence(bench):
        return job.row(status=reason)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(job.threads or threads)
        with time_limit(min(left_seconds, COMPILE_LIMIT if job.provider in COMPILED else math.inf)), ieee_float32():
            found = _measure(job, bench)
        if bench.with_memory and bench.device.type == "cpu":
            found = replace(found, peak_bytes=job.peak_memory())
    except (Exception, TimeLimit) as error:  # providers may fail in any way, and a failure is a result
        return job.row(status=failure(error))
    finally:
        torch.set_num_threads(threads)
        if job.provider in COMPILED:
            with suppress(Exception):  # of a compiler that was stopped half-way
                torch.compiler.reset()
        if bench.device.type == "cuda":
            gc.collect()  # what the job held would count as memory of the next
            with suppress(RuntimeError):  # of a device that is lost: the rows that follow say so
                torch.cuda.empty_cache()
    return row_with(job, bench, found)


def _measure(job: Job, bench: Bench) -> Measurement:
    call, prepare = job.ready(bench.device)
    return measure(call, bench.device, bench.seconds, prepare)


def row_with(job: Job, bench: Bench, found: Measurement) -> Row:
    """The row of a job that was measured: times, and their share of the ceiling where that is known."""
    row = job.row(**vars(found))
    ceilings = bench.ceilings.get((row.threads, row.dtype))
    if ceilings is None:
        return row
    seconds, ceiling = ceilings.floor(job.costs)
    return replace(row, share=1e3 * seconds / row.timing.p50, ceiling=ceiling)


def failure(error: BaseException) -> str:
    """Status of a row whose provider raised: ``"failed: OutOfMemoryError: ..."``, on one line of modest length."""
    if isinstance(error, TimeLimit):
        return f"{NO_TIME}, {error}"
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:300]


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Let float32 mean float32: no TF32 in products or convolutions."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


class TimeLimit(BaseException):
    """Work took too long. No ``Exception``, so that no library takes it for a failure of its own and goes on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeLimit` inside the block once it has run for ``seconds``.

    It is raised between two steps of Python, so a call into compiled code ends first. Without a finite limit, outside
    the main thread and on systems without such alarms nothing is limited.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not (math.isfinite(seconds) and in_main and hasattr(signal, "setitimer")):
        yield
        return

    def stop(signal_number: int, frame: object) -> None:
        raise TimeLimit(f"stopped after {seconds:.0f} s")

    handler = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
