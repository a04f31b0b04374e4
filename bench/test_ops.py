"""One op at a time on this machine's CPU: reference and torch.compile, on 1 and 2 threads. ``make bench``"""

import time
from collections.abc import Iterator

import pytest
import torch

from bench.cases import TimingCase
from bench.conftest import THREADS
from bench.ops import timing_cases
from bench.providers import Bench, absence, inputs_of, provided, row_of, with_figures
from silk_fast.benchmark.rows import failure
from silk_fast.benchmark.timing import Measurement, cpu_cache_clearer, summarise

CPU = torch.device("cpu")
PROVIDERS = ("ours", "eager", "compile", "compile-max")
SECONDS, MIN_ROUNDS, MAX_ROUNDS = 0.5, 7, 100
BOUND_BYTES = 2**31


def cases() -> list[TimingCase]:
    """A sentence at batch 1 through the first layer of every op."""
    first = {
        case.op: case for case in reversed(timing_cases([(1, 10)], [torch.float32])) if case.direction == "forward"
    }
    return sorted(first.values(), key=lambda case: case.op)


@pytest.fixture
def bench(request, ceilings) -> Iterator[Bench]:
    """On the number of threads that the test asks for."""
    before, threads = torch.get_num_threads(), request.param
    torch.set_num_threads(threads)
    yield Bench(CPU, ceilings[threads], BOUND_BYTES)
    torch.set_num_threads(before)


@pytest.mark.parametrize("bench", THREADS, indirect=True, ids="{} threads".format)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.op)
def test_op(benchmark, result_writer, case, provider, bench):
    if reason := absence(case, provider, bench, {}):
        result_writer.add(row_of(case, provider, bench, reason))
        pytest.skip(reason)
    try:
        call, inputs = provided(case, provider), inputs_of(case, provider, CPU)
        with torch.no_grad():
            benchmark.pedantic(call, inputs, setup=cpu_cache_clearer(), rounds=n_rounds(call, inputs))
    except Exception as error:
        result_writer.add(row_of(case, provider, bench, failure(error)))
        raise
    if benchmark.stats is not None:  # benchmarks are not disabled
        found = Measurement(summarise([1e3 * seconds for seconds in benchmark.stats.stats.data]))
        result_writer.add(with_figures(row_of(case, provider, bench), case, bench, found))


def n_rounds(call, inputs: list) -> int:
    """As many as fit into the time, after a first call that may compile."""
    call(*inputs)
    start = time.perf_counter()
    call(*inputs)
    seconds = time.perf_counter() - start
    return int(min(MAX_ROUNDS, max(MIN_ROUNDS, SECONDS / seconds)))
