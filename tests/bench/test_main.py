"""``python -m bench``: the stages of a run, and the whole path on tiny cases."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from silk_fast.benchmark.rows import OK, read_results
from silk_fast.cpu.library import why_not

ROOT = Path(__file__).parents[2]


def test_a_gpu_is_asked_for_and_no_interpreter(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "no NVIDIA GPU" in capsys.readouterr().err
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(SystemExit):
        main(["--device", "cpu"])
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err


BARE = """
import sys
sys.meta_path = [f for f in sys.meta_path if "__editable__" not in getattr(f, "__module__", "") + str(f)]
BLOCKED = {"safetensors", "soundfile", "soxr", "matplotlib", "tqdm", "transformers", "diffusers", "snac", "scipy",
           "hypothesis", "huggingface_hub", "vector_quantize_pytorch"}
sys.modules.update(dict.fromkeys(BLOCKED))
import torch
import bench.__main__ as bench
from bench.jobs import OpJob, providers
from bench.ops import timing_cases
from silk_fast.benchmark.codec_cases import CodecCase
bench.card.COPY_BYTES["cpu"], bench.card.MATMUL_SIZE["cpu"], bench.card.SECONDS = 2**24, 64, 0.0
bench.REPEAT_SECONDS["cpu"] = 0.0
layers = {"bias_silu": "Silk", "polar_istft": "Silk's sizes, centred", "snake": "Silk small 75 Hz"}
cases = [c for c in timing_cases([(1, 0.4)], [torch.float32]) if layers.get(c.op) == c.layer]
jobs = [OpJob(c, name, 1) for c in cases for name in providers(c, with_compile=False)]
bench.selected_jobs = lambda device, full: [*jobs, CodecCase("decode_frame", 0.4, 1, "float32", "eager", 1, "tiny")]
status = bench.main(["--device", "cpu", "--seconds", sys.argv[2], "-o", sys.argv[1]])
import silk_fast.kernels
assert "/kernels/" in silk_fast.kernels.__file__
sys.exit(status)
"""


def smoke(path: Path, seconds: float) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", BARE, path, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


@pytest.mark.slow
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


@pytest.mark.slow
def test_smoke_with_torch_and_triton_alone(tmp_path):
    """The whole path on a CPU, uninstalled, with nothing else that silk_fast depends on."""
    path = tmp_path / "smoke.json"
    process = smoke(path, 100.0)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-2000:]
    assert "have no figure" in output.splitlines()[-1]
    assert "## Operations" in output
    rows = read_results(path)
    assert {row.section for row in rows} == {"card", "ops", "codec"}
    measured = Counter(row.provider for row in rows if row.status == OK and row.section == "ops")
    assert measured["eager"] == 6
    assert measured["torch.istft"] >= 1
    ops = {(row.op, row.direction, row.provider): row.status for row in rows if row.section == "ops"}
    expected = f"absent: {why_not()}" if why_not() else OK  # by the C library
    assert {status for key, status in ops.items() if key[2] == "ours"} == {expected}
    assert not [row for row in rows if row.status.startswith("failed")]
