"""The runner: measures jobs in order within a limit of time, and makes a row of whatever happens."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from silk_fast.benchmark.costs import Ceilings, Cost
from silk_fast.benchmark.rows import OK, Row
from silk_fast.benchmark.timing import FEW, Measurement, release

COMPILED = ("compile", "compile-max", "flex_attention")
COMPILE_SECONDS = {"compile": 15.0, "compile-max": 30.0, "flex_attention": 10.0}
"""What is left at least where compiling is begun, until one of its kind was timed."""


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share.

    Args:
        device: where they run.
        ceilings: measured on this machine, by the number of threads (None on a GPU) and the name of the dtype.
        seconds: how long to repeat a call.
        bound_bytes: cases that need more memory are left out.
        wrong: by op, dtype and direction, status of our rows, where ours is not known to be right.
        with_memory: whether to find peak memory on a CPU too, which takes a process each; on a GPU it costs nothing.
    """

    device: torch.device
    ceilings: Mapping[tuple[int | None, str], Ceilings] = field(default_factory=dict)
    seconds: float = 1.0
    bound_bytes: float = math.inf
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

    def measure(self, bench: Bench, expected_seconds: float) -> Measurement:
        """Time it; a call known to take long is repeated less. Raises whatever the provider raises."""

    def peak_memory(self) -> int | None:
        """Bytes that a process takes that does it once on the CPU; None where that says nothing."""


# ---------------------------------------------------------------- one job


def run_job(job: Job, bench: Bench, limit_seconds: float = math.inf, expected_seconds: float = 0.0) -> Row:
    """Measure a job; a provider that is absent, fails or takes too long gives a row that says so.

    float32 is IEEE float32, without TF32, for every provider.

    Args:
        limit_seconds: for building, calling and measuring it.
        expected_seconds: of one call, where that is known.
    """
    if reason := job.absence(bench):
        return job.row(status=reason)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(job.threads or threads)
        with time_limit(limit_seconds), ieee_float32():
            found = job.measure(bench, expected_seconds)
        if bench.with_memory and bench.device.type == "cpu":
            found = replace(found, peak_bytes=job.peak_memory())
    except (Exception, TimeLimit) as error:  # providers may fail in any way, and a failure is a result
        return job.row(status=failure(error))
    finally:
        torch.set_num_threads(threads)
        if job.provider in COMPILED:
            torch.compiler.reset()
        release(bench.device)
    return row_with(job, bench, found)


def triton_absence() -> str | None:
    """Why our kernels are absent, as the status of a row; None if triton can be imported."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"absent: {error}"
    return None


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
        return f"skipped: time budget, {error}"
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
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


# ---------------------------------------------------------------- many jobs


class Runner:
    """Measures jobs in order, within a limit of time for all together.

    Args:
        bench: what they share.
        add: takes rows as they come, and returns them as they were written.
        seconds: for everything.
        start: of the time that counts, by ``time.monotonic``; now if None.
        limit: seconds after which a job is stopped; never later than the limit for everything.
        started: is told of every job before it runs.
    """

    def __init__(
        self,
        bench: Bench,
        add: Callable[[Iterable[Row]], Sequence[Row]],
        seconds: float,
        start: float | None = None,
        limit: Callable[[Job], float] = lambda job: math.inf,
        started: Callable[[Job], object] = lambda job: None,
    ) -> None:
        self.bench, self.add, self.seconds, self.limit, self.started = bench, add, seconds, limit, started
        self.start = time.monotonic() if start is None else start
        self.rows: dict[tuple, Row] = {}
        self._known: dict[tuple, Row] = {}
        self._compiling: dict[tuple, float] = {}

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.seconds - self.spent

    def run(self, jobs: Iterable[Job], share: float = 1.0, left_out: list[Job] | None = None) -> None:
        """Measure what there is time for.

        Args:
            share: of the time that is left, for these jobs.
            left_out: receives the jobs that there was no time for; if None, they are rows that say so.
        """
        end = self.spent + share * self.left
        for job in jobs:
            absent, expected = job.absence(self.bench), self._expected_seconds(job)
            if absent or self._suffices(end - self.spent, job, expected):
                self.started(job)
                self._add(self._measured(job, end, expected))
            elif left_out is None:
                self.leave_out([job])
            else:
                left_out.append(job)

    def repeat(self, jobs: Iterable[Job]) -> None:
        """Measure again what has a figure, and mark it as confirmed or contradicted."""
        for job in jobs:
            first, expected = self.rows.get(job.row().key), self._expected_seconds(job)
            if first and first.status == OK and self._suffices(self.left, job, expected):
                row = self._measured(job, self.seconds, expected)
                if not row.is_left_out:
                    self._add(first.confirmed_by(row) if row.status == OK else row)

    def leave_out(self, jobs: Iterable[Job]) -> None:
        """Add rows that say that there was no time."""
        guesses = [(job, self._expected_seconds(job)) for job in jobs]
        texts = [(job, f", about {seconds:.2g} s a call" if seconds else "") for job, seconds in guesses]
        self._add(*(job.row(status=f"skipped: time budget{text}") for job, text in texts))

    def _add(self, *rows: Row) -> None:
        self.rows.update((row.key, row) for row in self.add(rows))

    def _measured(self, job: Job, end: float, expected_seconds: float) -> Row:
        start = self.spent
        row = run_job(job, self.bench, min(end - start, self.limit(job)), expected_seconds)
        if row.status == OK:
            self._known[_kind(row)] = row
            self._compiling[row.section, row.provider] = self.spent - start
        return row

    def _suffices(self, seconds: float, job: Job, expected_seconds: float) -> bool:
        """Whether so much time is enough to begin a job."""
        needed = (FEW + 2) * expected_seconds
        if job.provider in COMPILED:
            needed += self._compiling.get((job.row().section, job.provider), COMPILE_SECONDS[job.provider])
        return 0 < seconds >= needed

    def _expected_seconds(self, job: Job) -> float:
        """Of one call of the codec, in proportion to the audio of one that was measured; 0 if there is none."""
        row = job.row()
        known = self._known.get(_kind(row)) if row.section == "codec" else None
        if known is None or known.call is None or not (row.seconds and known.seconds):
            return 0.0
        return known.call.p50 / 1e3 * row.seconds / known.seconds


def _kind(row: Row) -> tuple:
    """What rows share whose times are in proportion."""
    return row.section, row.op, row.model, row.provider, row.dtype, row.threads
