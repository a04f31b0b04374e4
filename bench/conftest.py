"""What the benchmarks of a CPU share: one result file, the machine's ceilings, and a table of real-time factors."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from silk_fast.benchmark import card
from silk_fast.benchmark.costs import Ceilings
from silk_fast.benchmark.rows import ResultWriter, provenance, result_path

THREADS = sorted({1, min(2, os.cpu_count() or 1)})
RESULTS = Path(__file__).with_name("results")
MIN_ROUNDS, MAX_ROUNDS = 3, 100
WRITER = pytest.StashKey[ResultWriter]()


def pytest_addoption(parser):
    parser.addoption("--device", default="cuda", help="GPU whose kernels are checked (default: %(default)s)")
    parser.addoption("--results", type=Path, default=RESULTS, help="folder of the result file (default: %(default)s)")


@pytest.fixture(scope="session")
def result_writer(pytestconfig, tmp_path_factory) -> ResultWriter:
    """Of the file that all rows of a session go to; a temporary one where benchmarks are disabled."""
    where, option = provenance("cpu"), pytestconfig.getoption
    is_disabled = option("benchmark_disable") and not option("benchmark_enable")
    folder = tmp_path_factory.mktemp("results") if is_disabled else option("results")
    pytestconfig.stash[WRITER] = writer = ResultWriter(result_path(folder, where), where)
    return writer


@pytest.fixture(scope="session")
def ceilings(result_writer) -> dict[int, dict[torch.dtype, Ceilings]]:
    """What this machine reaches, by the number of threads and the dtype."""
    before, found = torch.get_num_threads(), {}
    for threads in THREADS:
        torch.set_num_threads(threads)
        found[threads] = card.measure_card(torch.device("cpu"), card.CPU, result_writer.add, [torch.float32])
    torch.set_num_threads(before)
    return found


def n_rounds(call: Callable[[], object], seconds: float) -> int:
    """Repetitions of ``call`` that fit into ``seconds``, 3 to 100, after a first one that may compile."""
    call()
    start = time.perf_counter()
    call()
    return int(min(MAX_ROUNDS, max(MIN_ROUNDS, seconds / (time.perf_counter() - start))))


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    rows = [b for b in session.benchmarks if "realtime_factor" in b.extra_info] if session else []
    if rows:
        terminalreporter.section("real-time factors (seconds of audio per second)")
    for row in rows:
        threads = row.extra_info["threads"]
        terminalreporter.write_line(f"{row.name:>36}  {row.extra_info['realtime_factor']:>8.1f}x  {threads} threads")
    writer = config.stash.get(WRITER, None)
    if writer and writer.rows:
        terminalreporter.write_line(f"{len(writer.rows)} rows in {writer.path}")
