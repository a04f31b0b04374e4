"""End to end on this machine's CPU: reference, accelerated and torch.compile, on 1 and 2 threads. ``make bench``"""

from dataclasses import replace

import pytest
import torch

from bench.conftest import THREADS, n_rounds
from silk_fast.benchmark.codec import COMPILE_MODES, CodecBenchmark, CodecCase, full_cases, peak_memory
from silk_fast.benchmark.rows import failure
from silk_fast.benchmark.timing import Measurement, summarise

CPU = torch.device("cpu")
LONGEST = 60.0  # longer ones: silk bench --full
SECONDS = 1.0  # for each


def cases() -> list[CodecCase]:
    """One frame, 10 s by every provider, larger batches, and durations up to a minute.

    Compiling takes a minute, so what is compiled is measured on all threads only.
    """
    return [
        case
        for case in full_cases(CPU, THREADS)
        if case.seconds <= LONGEST and (case.provider not in COMPILE_MODES or case.threads == THREADS[-1])
    ]


def name(case: CodecCase) -> str:
    return f"{case.op}-{case.seconds:g} s x {case.batch}-{case.provider}-{case.threads} threads"


@pytest.fixture(scope="module")
def codec_benchmark(ceilings) -> CodecBenchmark:
    """With the ceilings of this machine."""
    return CodecBenchmark(CPU, lambda dtype, threads: ceilings[threads][torch.float32])


@pytest.fixture
def threads(case):
    """The number of threads that the case asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(case.threads)
    yield case.threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", cases(), ids=name)
def test_codec(benchmark, result_writer, codec_benchmark, case, threads):
    if reason := codec_benchmark.absence(case):
        result_writer.add(case.row(status=reason))
        pytest.skip(reason)
    try:
        call = codec_benchmark.call(case)
        benchmark.pedantic(call, rounds=n_rounds(call, SECONDS))
    except Exception as error:
        result_writer.add(case.row(status=failure(error)))
        raise
    if benchmark.stats is not None:  # benchmarks are not disabled
        benchmark.extra_info["realtime_factor"] = case.row().seconds / benchmark.stats.stats.median
        benchmark.extra_info["threads"] = threads
        found = Measurement(summarise([1e3 * seconds for seconds in benchmark.stats.stats.data]))
        if not case.is_frame:
            found = replace(found, peak_bytes=peak_memory(case))
        result_writer.add(codec_benchmark.row(case, found))
