"""Every kernel compiles for every GPU target without spills; runs without a GPU, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.static import narrow_accesses, width

ROOT = Path(__file__).resolve().parents[2]


def run_compiling(*arguments: str) -> subprocess.CompletedProcess:
    """Run Python in a process in which Triton compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.not_emulated(reason="it compiles for every target in a process of its own, and runs nothing")
def test_every_kernel_passes_the_static_gate():
    done = run_compiling("-m", "bench.static", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    for arch in (80, 86, 89, 90, 120):
        assert f"sm_{arch}: " in done.stdout
    assert done.stdout.count(" 0 bad") == 5


SAME_PTX = """
import re, sys
from bench.static import FAMILIES, compiling, static_cases

def ptx(case, arch):
    with compiling(arch) as compiled:
        case.run()
    return [re.sub(r"^[.]target sm_[0-9]+", "", kernel.asm["ptx"], flags=re.MULTILINE) for _, kernel in compiled]

case = next(case for case in static_cases(sys.argv[1]) if str(case.dtype) == "torch.float16")
first, *others = (ptx(case, arch) for arch in FAMILIES[0])
assert first and all(other == first for other in others)
"""


@pytest.mark.not_emulated(reason="it compiles for every target in a process of its own, and runs nothing")
@pytest.mark.slow
@pytest.mark.parametrize("op", ["add_layer_norm", "rel_attention", "residual_unit", "snake"])
def test_ptx_of_a_family_of_targets_is_the_same(op):
    done = run_compiling("-c", SAME_PTX, op)
    assert done.returncode == 0, done.stdout + done.stderr


SAME_OPCODES = """
import sys
from bench.static import OPCODE, assemble, disassemble, kernels_of, run_tool, static_cases

arch = int(sys.argv[1])
cubins = [assemble(kernel, arch) for _, kernel in kernels_of(static_cases("bias_silu")[0], arch, arch)]
alone = [OPCODE.findall(run_tool("cuobjdump", "--dump-sass", cubin)) for cubin in cubins]
assert len(cubins) == 2 and disassemble(cubins, arch) == alone
"""


@pytest.mark.not_emulated(reason="it compiles for every target in a process of its own, and runs nothing")
@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90, 120])
def test_kernels_disassembled_together_have_the_opcodes_of_each_alone(arch):
    done = run_compiling("-c", SAME_OPCODES, str(arch))
    assert done.returncode == 0, done.stdout + done.stderr


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
