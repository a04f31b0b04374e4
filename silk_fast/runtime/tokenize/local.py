"""Units by processes of this machine, each of one thread on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from multiprocessing import get_context
from typing import Any

import pyarrow as pa
import torch

from silk_fast.errors import SilkError
from silk_fast.processes import obey_parent
from silk_fast.runtime.codec import Codec
from silk_fast.runtime.tokenize.encoding import Encoder, form_of
from silk_fast.runtime.tokenize.readers import Readers, Work
from silk_fast.runtime.tokenize.units import Job, UnitReport, tokenize_unit

_TICK = 0.2  # seconds between looks at the progress


def run_here(
    job: Job, codec: Codec, units: Sequence[int], n_readers: int, tell: Callable[[float], None]
) -> Iterator[UnitReport]:
    """Make units one after the other in this process, with one thread.

    Args:
        n_readers: processes that read for it; 0 to read here.

    Raises:
        SilkError: a reader was killed.
    """
    encoder = Encoder(codec)
    with _single_thread(), _readers(job, codec, units, n_readers) as readers:
        for unit in units:
            yield tokenize_unit(job, encoder, unit, tell, readers)


def _readers(job: Job, codec: Codec, units: Sequence[int], n: int) -> AbstractContextManager[Readers | None]:
    work = Work(job.plan, units, job.settings["source"], job.root, form_of(codec), n)
    return Readers(work) if n else nullcontext()


def run_local(job: Job, units: Sequence[int], workers: int, tell: Callable[[float], None]) -> Iterator[UnitReport]:
    """Make units with so many processes, and yield each when it is done.

    Where the calling program is a script, its main part needs the usual guard ``if __name__ == "__main__":``.

    Args:
        tell: called with the seconds that were read since the last call.

    Raises:
        SilkError: a process was killed.
    """
    context = get_context("spawn")
    n_read, stop = context.Value("d", 0.0), context.Event()
    pool = ProcessPoolExecutor(workers, context, _begin, (job, n_read, stop))
    todo = iter(units)
    pending: set[Future[UnitReport]] = {pool.submit(_make, unit) for unit in islice(todo, 2 * workers)}
    n_told = 0.0
    try:
        while pending:
            done, pending = wait(pending, _TICK, FIRST_COMPLETED)
            tell(n_read.value - n_told)
            n_told = n_read.value
            for future in done:
                yield future.result()
                pending |= {pool.submit(_make, unit) for unit in islice(todo, 1)}
    except BrokenProcessPool as error:
        raise SilkError(
            "a process that makes tokens was killed or could not begin (memory?), expected it to finish; "
            "run again to go on, perhaps with fewer --workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _single_thread() -> Iterator[None]:
    before = torch.get_num_threads(), pa.cpu_count()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        pa.set_cpu_count(before[1])


# ------------------------------------------------------------ in the process of a worker

_worker: tuple[Job, Encoder, Callable[[float], None]]


def _begin(job: Job, n_read: Any, stop: Any) -> None:
    """Make this process a worker."""
    global _worker
    obey_parent()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)

    def tell(seconds: float) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with n_read.get_lock():
            n_read.value += seconds

    _worker = job, Encoder(job.open_codec()), tell


def _make(unit: int) -> UnitReport:
    job, encoder, tell = _worker
    return tokenize_unit(job, encoder, unit, tell)
