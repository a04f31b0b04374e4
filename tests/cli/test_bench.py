"""``silk bench``, as a person and as a script use it."""

import json
import os
import subprocess

import pytest
import torch

from silk_fast.benchmark import card, codec_cases
from silk_fast.benchmark.codec_cases import CodecCase, quick_cases
from silk_fast.benchmark.rows import OK, Timing, read_results
from silk_fast.benchmark.runner import Bench, row_with
from silk_fast.benchmark.timing import Measurement
from silk_fast.cli import main
from silk_fast.cli.bench import table
from tests.support import SILK


@pytest.fixture
def few(monkeypatch):
    """One frame, decoded by the reference, and a quick look at the machine: not what is measured is tested here."""

    def cases(*arguments):
        return [case for case in quick_cases(*arguments) if case.op == "decode_frame" and case.provider == "eager"]

    monkeypatch.setattr(codec_cases, "quick_cases", cases)
    monkeypatch.setattr(card, "COPY_BYTES", {"cpu": 2**24})
    monkeypatch.setattr(card, "MATMUL_SIZE", {"cpu": 64})
    monkeypatch.setattr(card, "SECONDS", 0.0)


def bench(*arguments: object) -> int:
    return main(["bench", "--preset", "tiny", "--device", "cpu", "--threads", "1", *map(str, arguments)])


def test_table_on_stdout_and_progress_on_stderr(few, capsys):
    assert bench() == 0
    captured = capsys.readouterr()
    head, line = captured.out.splitlines()
    assert "x real time" in head
    assert line.startswith("decode_frame, one frame of 400 ms, batch 1")
    assert "[1/1] decode_frame, Silk tiny 24 kHz, one frame of 400 ms, batch 1, eager, 1 threads" in captured.err


def test_json_has_rows_with_provenance(few, capsys):
    assert bench("--json", "-q") == 0
    captured = capsys.readouterr()
    *card, row = json.loads(captured.out)["rows"]
    assert [(r["section"], r["op"]) for r in card] == [("card", "copy"), ("card", "matmul")]
    assert row["share"] > 0
    assert (row["op"], row["status"], row["threads"]) == ("decode_frame", OK, 1)
    assert row["device"]
    assert row["commit"]
    assert 0 < row["call"]["p20"] <= row["call"]["p50"]
    assert captured.err == ""


def test_output_is_a_result_file_and_is_not_overwritten(few, tmp_path, capsys):
    output = tmp_path / "results.json"
    assert bench("-o", output, "-q") == 0
    row = read_results(output)[-1]
    assert (row.section, row.op) == ("codec", "decode_frame")
    assert row.call.p50 > 0
    before = output.read_bytes()
    assert bench("-o", output) == 1
    assert "results.json: exists already, give -f to overwrite it" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert bench("-o", output, "-f", "-q") == 0
    assert output.read_bytes() != before


def test_a_provider_that_fails_is_shown_and_makes_the_status_1(few, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(CodecCase, "ready", fail)
    assert bench("-q") == 1
    assert "failed: RuntimeError: no luck" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "0"], "expected a number of seconds > 0, got '0'"),
        (["--budget", "soon"], "expected a number of seconds > 0, got 'soon'"),
        (["--preset", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        bench(*arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_devices_that_are_not_there_are_refused(capsys):
    assert bench("--device", "mps") == 1
    assert "device must be cpu, cuda, cuda:1 or auto, got 'mps'" in capsys.readouterr().err


def test_the_real_command_keeps_its_budget(tmp_path):
    """Without Triton's interpreter, in which ``ours`` would run here."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    output = tmp_path / "results.json"
    command = [SILK, "bench", "--preset", "tiny", "--threads", "1", "--budget", "5", "-o", output]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [row for row in read_results(output) if row.section == "codec"]
    assert {row.provider for row in rows} >= {"ours", "eager"}
    assert rows[0].status == OK
    assert rows[-1].status.startswith("skipped: time budget")
    assert len(done.stdout.splitlines()) == len(rows) + 1


def test_the_table_shows_times_and_reasons():
    case = CodecCase("encode", 1.0, 2, "float32", "eager", 1, "tiny")
    found = row_with(case, Bench(torch.device("cpu")), Measurement(Timing(99.0, 100.0, 120.0, True)))
    head, first, second = table([found, case.row(status="absent: no reason")])
    assert "x real time" in head
    assert first.startswith("encode, 1 s, batch 2")
    assert "100.000" in first
    assert "99 .. 120 ~" in first
    assert "20.0" in first  # 2 s in 100 ms
    assert second.endswith("absent: no reason")
