"""The end-to-end cases of ``make bench`` under pytest-benchmark, for ``pytest bench --benchmark-enable``."""

import pytest
import torch

from bench.selections import cpu_codec_jobs
from silk_fast.benchmark.codec_cases import CodecCase
from silk_fast.benchmark.runner import Bench

BENCH = Bench(torch.device("cpu"))
ROUNDS = 3


def name(case: CodecCase) -> str:
    return f"{case.op}-{case.seconds:g} s x {case.batch}-{case.provider}-{case.threads} threads"


@pytest.mark.parametrize("case", cpu_codec_jobs(), ids=name)
def test_codec(benchmark, n_threads, case):
    if reason := case.absence(BENCH):
        pytest.skip(reason)
    n_threads(case.threads)
    benchmark.pedantic(case.call(BENCH.device), rounds=ROUNDS, warmup_rounds=1)
    if benchmark.stats is not None:  # benchmarks are not disabled
        benchmark.extra_info["realtime_factor"] = case.row().seconds / benchmark.stats.stats.median
