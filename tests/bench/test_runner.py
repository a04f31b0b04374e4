"""The runner: limits of time, what there is no time for, and the order in which things happen."""

import math
import re
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch

from silk_fast.benchmark import runner
from silk_fast.benchmark.codec_cases import CodecCase
from silk_fast.benchmark.provenance import Provenance
from silk_fast.benchmark.rows import OK, ResultWriter, Row, Timing, read_results
from silk_fast.benchmark.runner import Bench, Runner, TimeLimit, time_limit

FRAME = CodecCase("decode_frame", 0.4, 1, "float32", "eager", 1, "tiny")
CLIP = CodecCase("encode", 1.0, 2, "float32", "eager", 1, "tiny")
FAST = Bench(torch.device("cpu"), seconds=0.02)
TIMING = Timing(1.0, 1.0, 1.0, False)


def collected(seconds: float, **options) -> tuple[Runner, list[Row]]:
    """A runner, and the rows that it finds."""
    rows: list[Row] = []

    def add(found) -> list[Row]:
        rows.extend(found := list(found))
        return found

    return Runner(FAST, add, seconds, **options), rows


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


def test_a_case_that_hangs_is_stopped(monkeypatch):
    monkeypatch.setattr(CodecCase, "call", lambda *_: lambda: time.sleep(10.0))
    row = runner.run_job(CLIP, FAST, limit_seconds=0.2)
    assert row.status == "skipped: time budget, stopped after 0 s"
    running, rows = collected(0.2)
    running.run([CLIP, FRAME])
    assert [row.status for row in rows] == ["skipped: time budget, stopped after 0 s", "skipped: time budget"]


def test_a_run_has_a_limit_and_so_has_every_job(monkeypatch):
    limits = []
    monkeypatch.setattr(runner, "run_job", lambda job, bench, limit, expected: limits.append(limit) or job.row())
    running, _ = collected(100.0, start=time.monotonic() - 90.0, limit=lambda job: 5.0 if job == FRAME else math.inf)
    assert 9 < running.left <= 10
    running.run([FRAME, CLIP])
    running.run([CLIP], share=0.5)
    assert limits[0] == 5.0
    assert 9 < limits[1] <= 10
    assert 4 < limits[2] <= 5


@pytest.fixture
def takes_10_seconds(monkeypatch):
    """Every job takes 10 s of a clock that stands still otherwise."""
    now = [0.0]

    def run_job(job, *_):
        now[0] += 10.0
        return job.row(call=TIMING)

    monkeypatch.setattr(runner, "run_job", run_job)
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])


def test_compiling_is_begun_if_what_the_last_one_took_is_left(takes_10_seconds, monkeypatch):
    """A first guess decides only until a compilation was timed."""
    monkeypatch.setattr(runner, "COMPILE_SECONDS", {"compile": 1.0})
    running, rows = collected(19.0)
    running.run([replace(FRAME, provider="compile", batch=n) for n in (1, 2)])
    assert [row.status.split(",")[0] for row in rows] == [OK, "skipped: time budget"]


def test_what_is_left_out_can_wait(takes_10_seconds):
    running, rows = collected(60.0)
    left_out = []
    running.run([replace(FRAME, batch=n) for n in (1, 2, 3)], share=0.3, left_out=left_out)
    assert [job.batch for job in left_out] == [3]
    running.run(left_out)
    assert [row.status for row in rows] == [OK] * 3


def test_what_exceeds_the_budget_is_a_row_that_says_so():
    running, rows = collected(12.0)
    running.run([CLIP, replace(CLIP, seconds=3600.0), replace(CLIP, provider="compile"), replace(CLIP, seconds=1.2)])
    assert [row.status.split(",")[0] for row in rows] == [OK, "skipped: time budget", "skipped: time budget", OK]
    assert re.fullmatch(r"skipped: time budget, about \d\S* s a call", rows[1].status)


def test_rows_can_be_written_and_read(tmp_path):
    where = Provenance("abc", "a machine", None, "2.6", None, "3.11", "2026-01-01T00:00:00+00:00")
    writer = ResultWriter(tmp_path / "r.json", where)
    Runner(FAST, writer.extend, 20.0).run([FRAME, replace(FRAME, provider="compile-max")])
    rows = read_results(tmp_path / "r.json")
    assert [row.status for row in rows] == [OK, "absent: CUDA graphs need an NVIDIA GPU"]
    assert rows[0].device == "a machine"


def test_a_repeat_that_disagrees_marks_the_row(monkeypatch):
    times = iter([TIMING, TIMING, TIMING, Timing(2.0, 2.0, 2.0, False)])
    monkeypatch.setattr(runner, "run_job", lambda job, *_: job.row(call=next(times)))
    running, rows = collected(60.0)
    running.run([FRAME])
    running.repeat([FRAME, CLIP])  # the second has no figure to confirm
    assert [row.repeat for row in rows] == [None, "confirmed"]
    running.run([CLIP])
    running.repeat([CLIP])
    assert (rows[-1].repeat, rows[-1].call) == ("contradicted", replace(TIMING, noisy=True))


def test_a_repeat_without_time_leaves_the_first_figure(monkeypatch):
    found = iter([{"call": TIMING}, {"status": "skipped: time budget, stopped after 3 s"}])
    monkeypatch.setattr(runner, "run_job", lambda job, *_: job.row(**next(found)))
    running, rows = collected(60.0)
    running.run([FRAME])
    running.repeat([FRAME])
    assert [(row.status, row.repeat) for row in rows] == [(OK, None)]
