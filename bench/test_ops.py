"""One op at a time on this machine's CPU: reference and torch.compile, on 1 and 2 threads. ``make bench``"""

from collections.abc import Iterator

import pytest
import torch

from bench.cases import FRAME, TimingCase
from bench.conftest import THREADS, n_rounds
from bench.ops import timing_cases
from bench.providers import Bench, absence, inputs_of, provided, row_of, with_figures
from silk_fast.benchmark.rows import failure
from silk_fast.benchmark.timing import Measurement, cpu_cache_clearer, summarise

CPU = torch.device("cpu")
PROVIDERS = ("ours", "eager", "compile", "compile-max")
SECONDS = 0.5  # for each
BOUND_BYTES = 2**31


def cases() -> list[TimingCase]:
    """A sentence at batch 1 through the first layer of every op, and one frame of every stream."""
    points = [(1, FRAME), (1, 10)]
    forward = [case for case in timing_cases(points, [torch.float32]) if case.direction == "forward"]
    first = {case.op: case for case in reversed(forward) if case.point == points[1]}
    streams = [case for case in forward if case.is_stream]
    return sorted([*first.values(), *streams], key=lambda case: case.op)


@pytest.fixture
def bench(request, ceilings) -> Iterator[Bench]:
    """On the number of threads that the test asks for."""
    before, threads = torch.get_num_threads(), request.param
    torch.set_num_threads(threads)
    yield Bench(CPU, ceilings[threads], BOUND_BYTES)
    torch.set_num_threads(before)


@pytest.mark.parametrize("bench", THREADS, indirect=True, ids="{} threads".format)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.op}-{case.layer}")
def test_op(benchmark, result_writer, case, provider, bench):
    if reason := absence(case, provider, bench, {}):
        result_writer.add(row_of(case, provider, bench, reason))
        pytest.skip(reason)
    try:
        call, inputs = provided(case, provider), inputs_of(case, provider, CPU)
        with torch.no_grad():
            rounds = n_rounds(lambda: call(*inputs), SECONDS)
            benchmark.pedantic(call, inputs, setup=cpu_cache_clearer(), rounds=rounds)
    except Exception as error:
        result_writer.add(row_of(case, provider, bench, failure(error)))
        raise
    if benchmark.stats is not None:  # benchmarks are not disabled
        found = Measurement(summarise([1e3 * seconds for seconds in benchmark.stats.stats.data]))
        result_writer.add(with_figures(row_of(case, provider, bench), case, bench, found))
