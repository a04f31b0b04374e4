"""Every kernel compiles for every GPU target without spills; runs without a GPU, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.static import narrow_accesses, width

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.not_emulated(reason="it compiles for every target in a process of its own, and runs nothing")
def test_every_kernel_passes_the_static_gate():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.static", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for arch in (80, 86, 89, 90, 120):
        assert f"sm_{arch}: " in done.stdout
    assert done.stdout.count(" 0 bad") == 5


@pytest.mark.parametrize(
    ("opcode", "n_bytes"),
    [("LDG.E.128.CONSTANT", 16), ("STG.E.64", 8), ("LDG.E", 4), ("LDG.E.U16", 2), ("STG.E.U8", 1)],
)
def test_width_of_an_access(opcode, n_bytes):
    assert width(opcode) == n_bytes


COUNTS = {"loads_16": 2, "load_bytes_narrow": 24, "stores_16": 1, "store_bytes_narrow": 0}


@pytest.mark.parametrize(
    ("change", "is_matrix_kernel", "faults"),
    [
        ({}, False, []),
        ({"load_bytes_narrow": 36}, False, ["32 bytes of loads 16 at a time, 36 narrower"]),
        ({"load_bytes_narrow": 36}, True, []),
        ({"stores_16": 0}, True, ["0 bytes of stores 16 at a time, 0 narrower"]),
        ({"load_bytes_narrow": 64, "shape": "Silk 75 Hz, crop of 2 s"}, False, []),  # for the reason stated
        ({"loads_16": 0, "shape": "Silk 75 Hz, crop of 2 s"}, False, ["0 bytes of loads 16 at a time, 24 narrower"]),
        ({"loads_16": 0, "shape": "24 channels, odd T"}, False, []),
    ],
)
def test_a_memory_bound_kernel_moves_half_of_its_bytes_16_at_a_time(change, is_matrix_kernel, faults):
    row = {"op": "snake", "shape": "some", "dtype": "float32", "kernel": "_snake_fwd_kernel", **COUNTS, **change}
    assert narrow_accesses(row, is_matrix_kernel) == faults
