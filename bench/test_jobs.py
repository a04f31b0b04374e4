"""What ``make bench`` measures under pytest-benchmark, for ``pytest bench --benchmark-enable``."""

import pytest
import torch

from bench.selections import selected_jobs
from silk_fast.benchmark.runner import Bench
from silk_fast.benchmark.timing import cpu_cache_clearer

CPU = torch.device("cpu")
ROUNDS = 5


@pytest.mark.parametrize("job", selected_jobs(CPU), ids=str)
def test_job(benchmark, job):
    if reason := job.absence(Bench(CPU)):
        pytest.skip(reason)
    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    call, _ = job.ready(CPU)
    benchmark.pedantic(call, setup=cpu_cache_clearer(), rounds=ROUNDS, warmup_rounds=1)
    torch.set_num_threads(before)
