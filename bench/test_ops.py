"""The cases of ops of ``make bench`` under pytest-benchmark, for ``pytest bench --benchmark-enable``."""

import pytest
import torch

from bench.selections import cpu_op_jobs
from silk_fast.benchmark.runner import Bench
from silk_fast.benchmark.timing import cpu_cache_clearer

BENCH = Bench(torch.device("cpu"))
ROUNDS = 10


@pytest.mark.parametrize("job", cpu_op_jobs(), ids=str)
def test_op(benchmark, n_threads, job):
    if reason := job.absence(BENCH):
        pytest.skip(reason)
    n_threads(job.threads)
    call, inputs = job.call(), job.inputs(BENCH.device)
    with torch.no_grad():
        call(*inputs)  # compiles
        benchmark.pedantic(call, inputs, setup=cpu_cache_clearer(), rounds=ROUNDS)
