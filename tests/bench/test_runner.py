"""The runner: limits of time, what there is no time for, and the order in which things happen."""

import math
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from silk_fast.benchmark import runner
from silk_fast.benchmark.codec_cases import CodecCase
from silk_fast.benchmark.rows import OK, Row, Timing
from silk_fast.benchmark.runner import Bench, TimeLimit, run_jobs, time_limit
from silk_fast.benchmark.timing import Measurement

FRAME = CodecCase("decode_frame", 0.4, 1, "float32", "eager", 1, "tiny")
CLIP = CodecCase("encode", 1.0, 2, "float32", "eager", 1, "tiny")
FAST = Bench(torch.device("cpu"), seconds=0.02)
TIMING = Timing(1.0, 1.0, 1.0, False)


def run(jobs, seconds: float) -> list[Row]:
    """The rows of jobs for which there is a time."""
    rows: list[Row] = []
    run_jobs(jobs, FAST, lambda *found: rows.extend(found), time.monotonic() + seconds)
    return rows


def test_what_takes_too_long_is_stopped():
    start = time.monotonic()
    with pytest.raises(TimeLimit, match="stopped after 0 s"), time_limit(0.05):
        time.sleep(10)
    assert time.monotonic() - start < 5


def test_no_library_takes_it_for_its_own_failure():
    def goes_on_after_failures() -> None:
        try:
            time.sleep(10)
        except Exception:
            pytest.fail("caught")

    with pytest.raises(TimeLimit), time_limit(0.05):
        goes_on_after_failures()


def test_what_is_quick_is_not_stopped_and_handler_and_alarm_are_restored():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.2):
        assert signal.getsignal(signal.SIGALRM) != before
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    time.sleep(0.3)


def test_without_a_limit_or_outside_the_main_thread_nothing_is_limited():
    before, found = signal.getsignal(signal.SIGALRM), []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.1)
            found.append(True)

    with time_limit(math.inf):
        assert signal.getsignal(signal.SIGALRM) == before
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found


# ---------------------------------------------------------------- many jobs


def sleeping(monkeypatch, seconds: float) -> None:
    monkeypatch.setattr(CodecCase, "ready", lambda *_: (lambda: time.sleep(seconds), None))


def test_a_case_that_hangs_is_stopped(monkeypatch):
    sleeping(monkeypatch, 10.0)
    assert [row.status for row in run([CLIP, FRAME], 0.2)] == [
        "skipped: time budget, stopped after 0 s",
        "skipped: time budget",
    ]


def test_a_compiler_is_stopped_before_the_end(monkeypatch):
    limits = []
    monkeypatch.setattr(runner, "time_limit", lambda seconds: limits.append(seconds) or nullcontext())
    monkeypatch.setattr(runner, "_measure", lambda job, bench: Measurement(TIMING))
    run([FRAME, replace(FRAME, provider="compile")], 900.0)
    assert 899 < limits[0] <= 900
    assert limits[1] == runner.COMPILE_LIMIT


def test_compiling_is_not_begun_with_little_time_left(monkeypatch):
    monkeypatch.setattr(runner, "_measure", lambda job, bench: Measurement(TIMING))
    rows = run([replace(FRAME, provider="compile"), FRAME], runner.COMPILE_SECONDS - 1)
    assert [row.status.split(",")[0] for row in rows] == ["skipped: time budget", OK]


def test_what_exceeds_the_budget_is_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(runner, "_measure", lambda job, bench: Measurement(replace(TIMING, p50=20.0)))
    rows = run([CLIP, replace(CLIP, seconds=3600.0), replace(CLIP, seconds=1.2)], 30.0)
    assert [row.status for row in rows] == [OK, "skipped: time budget, needs about 2.2e+02 s", OK]
