"""``python -m bench``: the stages of a run, and the whole path on tiny cases."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.__main__ import limit_seconds, main, run_stages
from bench.jobs import OpJob
from bench.selections import Stage
from silk_fast.benchmark import runner
from silk_fast.benchmark.codec_cases import CodecCase
from silk_fast.benchmark.rows import OK, Timing, read_results
from silk_fast.benchmark.runner import Runner
from tests.bench.support import BENCH, tiny_case

ROOT = Path(__file__).parents[2]


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """Providers in the order in which they are measured, which takes 20 s of a clock that stands still otherwise."""
    found, now = [], [0.0]

    def takes_20_seconds(job, *_):
        found.append(job.provider)
        now[0] += 20.0
        return job.row(call=Timing(1.0, 2.0, 3.0, False))

    monkeypatch.setattr(runner, "run_job", takes_20_seconds)
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    return found


def run(stages: dict[Stage, list[OpJob]], seconds: float) -> list[tuple[str, str, str | None]]:
    """Provider, status and repeat of the rows that stages give within a time, in the order of their last change."""
    rows = {}

    def add(found):
        found = list(found)
        for row in found:
            rows.pop(row.key, None)
            rows[row.key] = row
        return found

    run_stages(Runner(BENCH, add, seconds), stages)
    return [(row.provider, row.status, row.repeat) for row in rows.values()]


def test_what_there_is_no_time_for_is_a_row_that_says_so(order):
    eager, compiled = (OpJob(tiny_case("snake", "forward"), name) for name in ("eager", "compile"))
    stages = {Stage.FORWARD: [eager], Stage.REPEAT: [eager], Stage.COMPILE: [compiled], Stage.REST: []}
    found = run(stages, 40.0 + 0.99 * runner.COMPILE_SECONDS["compile"])
    assert found == [("eager", OK, "confirmed"), ("compile", "skipped: time budget", None)]
    assert order == ["eager", "eager"]


def test_torch_compile_leaves_time_to_max_autotune_and_goes_on_after_it(order):
    eager, *compiled, tuned = (
        OpJob(tiny_case(op, "forward"), name)
        for op, name in (
            ("snake", "eager"),
            ("snake", "compile"),
            ("bias_silu", "compile"),
            ("fsq_pack", "compile"),
            ("fsq_quantize", "compile"),
            ("snake", "compile-max"),
        )
    )
    stages = {Stage.COMPILE: compiled, Stage.COMPILE_MAX: [tuned], Stage.REST: [eager]}
    found = run(stages, 100.0)
    assert order == ["compile"] * 2 + ["compile-max"] + ["compile"] * 2
    assert [status for _, status, _ in found] == [OK] * 5 + ["skipped: time budget"]


def test_every_op_has_a_limit_and_the_codec_that_of_its_stage():
    case = tiny_case("snake", "forward")
    limits = [limit_seconds(OpJob(case, name)) for name in ("ours", "compile", "compile-max")]
    assert limits == [30.0, 60.0, 90.0]
    assert limit_seconds(CodecCase("encode", 1.0, 1, "float32", "ours", None)) == float("inf")


def test_a_gpu_is_asked_for_and_no_interpreter(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "no NVIDIA GPU" in capsys.readouterr().err
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(SystemExit):
        main(["--device", "cpu", "--smoke"])
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err


BARE = """
import sys
sys.meta_path = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "") + str(f)]
BLOCKED = {"safetensors", "soundfile", "soxr", "matplotlib", "tqdm", "transformers", "diffusers", "snac", "scipy",
           "hypothesis", "huggingface_hub", "vector_quantize_pytorch"}
sys.modules.update(dict.fromkeys(BLOCKED))
from bench.__main__ import main
status = main(["--device", "cpu", "--smoke", "--seconds", sys.argv[2], "-o", sys.argv[1]])
import silk_fast.kernels
assert "/kernels/" in silk_fast.kernels.__file__
sys.exit(status)
"""


def smoke(path: Path, seconds: float) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", BARE, path, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


def test_a_run_that_is_told_to_stop_prints_its_table(tmp_path):
    path = tmp_path / "stopped.json"
    process = smoke(path, 150)
    for line in process.stderr:
        if "matmul" in line or "snake" in line:
            process.send_signal(signal.SIGTERM)
            break
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors[-2000:]
    assert "interrupted" in errors
    assert "have no figure" in output.splitlines()[-1]
    assert read_results(path)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_smoke_with_torch_and_triton_alone(tmp_path):
    """The whole path on a CPU, uninstalled, with nothing else that silk_fast depends on; compiling takes too long."""
    path = tmp_path / "smoke.json"
    process = smoke(path, 14.0)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    assert "have no figure" in output.splitlines()[-1]
    assert "## Operations" in output
    rows = read_results(path)
    assert {row.section for row in rows} == {"card", "ops", "codec"}
    measured = Counter(row.provider for row in rows if row.status == OK and row.section == "ops")
    assert measured["eager"] >= 6
    assert measured["torch.istft"] >= 1
    ops = {(row.op, row.direction, row.provider): row.status for row in rows if row.section == "ops"}
    assert {status for key, status in ops.items() if key[2] == "ours"} == {"absent: Triton needs a GPU"}
    assert ops["bias_silu", "forward", "compile"] == "skipped: time budget"
    assert not [row for row in rows if row.status.startswith("failed")]
