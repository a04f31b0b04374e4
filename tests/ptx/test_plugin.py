"""The pytest options, in a process of its own: what passes, what findings fail, what is skipped."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def double_kernel(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, 2 * tl.load(x + i, mask=i < n), mask=i < n)


def double(x, n, room):
    out = torch.empty(room, dtype=x.dtype)
    double_kernel[(1,)](x, out, n, B=128)
    return out


def test_right():
    x = torch.randn(100).bfloat16()
    assert torch.equal(double(x, 100, 100), 2 * x)
    assert triton.runtime.driver.active.get_current_target().arch == 90


def test_reads_beyond_a_view():
    double(torch.randn(128)[:100], 101, 128)


def test_writes_out_of_bounds():
    double(torch.randn(128), 128, 100)


@pytest.mark.not_emulated("it knows the interpreter only")
def test_of_the_interpreter():
    raise AssertionError


def test_kernels_of_the_project_take_cpu_tensors():
    from silk_fast.kernels import bias_silu

    x, bias = torch.randn(3, 7), torch.randn(7)
    torch.testing.assert_close(bias_silu(x, bias), torch.nn.functional.silu(x + bias))


def test_modules_on_a_cpu_are_served_by_kernels():
    from silk_fast import accelerate_
    from silk_fast.reference.layers import Snake

    assert set(accelerate_(Snake(3)).swapped.values()) == {"FusedSnake"}
"""


def run(folder: Path, *options: str, tests: str = TESTS) -> subprocess.CompletedProcess:
    file = folder / "test_emulated.py"
    file.write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "tests.ptx.plugin", "-p", "no:cacheprovider", "-ra", *options]
    settings = {"TRITON_CACHE_DIR": str(folder / "cache"), "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, str(file)], cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True
    )


def test_findings_fail_the_test_that_they_are_made_in(tmp_path):
    done = run(tmp_path, "--emulate", "90")
    assert "2 failed, 3 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "FindingsError: 1 findings of the emulator" in done.stdout
    assert "access outside the tensor, inside its storage: double_kernel (sm_90) test_emulated.py:11" in done.stdout
    assert "EmulationError: global access outside every argument: double_kernel (sm_90)" in done.stdout
    assert "emulated: it knows the interpreter only" in done.stdout
    assert " 4 launches" in done.stdout


def test_what_takes_minutes_in_the_interpreter_runs_compiled_only(tmp_path):
    tests = 'import pytest\n@pytest.mark.not_interpreted("it takes minutes")\ndef test(): pass\n'
    done = run(tmp_path, tests=tests)
    assert "1 skipped" in done.stdout, done.stdout + done.stderr
    assert "interpreted: it takes minutes" in done.stdout
    assert "1 passed" in run(tmp_path, "--emulate", "86", tests=tests).stdout


def test_unknown_checks_are_refused(tmp_path):
    done = run(tmp_path, "--emulate", "90", "--emulate-checks", "race,rase")
    assert done.returncode == 4
    assert "no check rase; there are race, init, grace, profile" in done.stderr
