"""Kernels broken on purpose, in their source or in the PTX that came of it: each fault is caught."""

import contextlib
import re

import pytest
import torch
import triton
import triton.language as tl

from tests.ptx.emulator import EmulationError
from tests.ptx.kernels.test_elementwise import add_kernel, softmax_kernel
from tests.ptx.kernels.test_matmul import matmul_kernel


@pytest.fixture
def relaunch(machine):
    """Runs the last launch again with its PTX changed by a function, and tells what was found."""
    launches = []
    machine.before_launch = lambda *launch: launches.append(launch)

    def run(change, shared_bytes=None):
        kernel, grid, shared, values = launches[-1]
        ptx = change(kernel.ptx)
        assert ptx != kernel.ptx or shared_bytes is not None
        machine.before_launch = None
        changed = machine.kernel(kernel.name, ptx, kernel.program.n_threads)
        with contextlib.suppress(EmulationError):
            machine.launch(changed, grid, shared if shared_bytes is None else shared + shared_bytes, values)
        return {f.what for f in machine.take_findings()}

    return run


def without(pattern: str, which: int):
    """Removes one match of a pattern."""

    def change(ptx: str) -> str:
        match = list(re.finditer(pattern, ptx))[which]
        return ptx[: match.start()] + ptx[match.end() :]

    return change


def pipelined_matmul():
    """One program, one tile, three stages of eight steps: its inputs and output."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 256, generator=generator).half(), torch.randn(256, 64, generator=generator).half()
    c = torch.full((64, 64), torch.nan)
    options = {"BM": 64, "BN": 64, "BK": 32, "PRECISION": "ieee", "SUM": tl.float32, "num_warps": 4, "num_stages": 3}
    matmul_kernel[(1, 1)](a, b, c, 64, 64, 256, 256, 1, 64, 1, **options)
    assert (c - a.float() @ b.float()).abs().max() < 1e-3
    return a, b, c


@triton.jit
def copy_kernel(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(out + i, tl.load(x + i, mask=i < n), mask=i < n)


def test_a_mask_that_reads_too_far(machine):
    storage = torch.randn(128)
    copy_kernel[(1,)](storage[:100], torch.empty(128), 101, B=128)
    assert {f.what for f in machine.take_findings()} == {"access outside the tensor, inside its storage"}


def test_a_store_out_of_bounds(machine):
    with pytest.raises(EmulationError, match="global access outside every argument"):
        copy_kernel[(1,)](torch.randn(128), torch.empty(100), 128, B=128)
    found = machine.take_findings()
    assert {f.what for f in found} == {"global access outside every argument"}
    assert "test_broken.py" in found[0].where


def test_a_mask_that_writes_too_little(machine):
    out = torch.full((100,), torch.nan)
    copy_kernel[(1,)](torch.randn(100), out, 99, B=128)
    assert out.isnan().sum() == 1


def test_every_mask_lost(relaunch):
    x, y, out = torch.randn(3, 1000).clone().unbind()
    add_kernel[(1,)](x.clone(), y.clone(), out.clone(), 1000, B=1024)
    assert "global access outside every argument" in relaunch(
        lambda ptx: re.sub(r"@%p\d+ (ld|st)\.global", r"\1.global", ptx)
    )


def test_missing_barriers(machine, relaunch):
    pipelined_matmul()
    kernel = next(reversed(machine.kernels.values()))
    n = len(re.findall(r"bar\.sync\s+0;", kernel.ptx))
    found = [relaunch(without(r"bar\.sync\s+0;", k)) for k in range(n)]
    races = {"shared race between warps", "access to bytes of a pending cp.async"}
    assert any(races & f for f in found)


def test_a_wait_for_one_group_too_few(relaunch):
    pipelined_matmul()

    def too_late(ptx: str) -> str:
        return re.sub(r"(cp\.async\.wait_group)\s+(\d+)", lambda m: f"{m[1]} {int(m[2]) + 1}", ptx)

    assert "access to bytes of a pending cp.async" in relaunch(too_late)


def test_shared_memory_too_small(relaunch):
    pipelined_matmul()
    assert "shared access out of bounds" in relaunch(lambda ptx: ptx, shared_bytes=-64)


def test_a_partial_sum_that_is_never_stored(relaunch):
    x = torch.randn(5, 500)
    softmax_kernel[(5,)](x, torch.empty_like(x), 500, B=512, num_warps=4)
    assert "use of an undefined value" in relaunch(without(r"@%p\d+ st\.shared\.b32[^;]*;", 0))


def test_two_programs_that_write_the_same(relaunch):
    x, y, out = torch.randn(3, 2000)
    add_kernel[(2,)](x.clone(), y.clone(), out.clone(), 2000, B=1024)
    assert "global race between blocks" in relaunch(
        lambda ptx: re.sub(r"mov\.u32(\s+%r\d+), %ctaid\.x;", r"mov.u32\1, 0;", ptx)
    )


def test_swapped_registers_of_a_fragment(machine, relaunch):
    """The checks see nothing, the result does."""
    a, b, c = pipelined_matmul()
    if machine.arch == 90:
        pattern, swapped = r"(wgmma\.mma_async\S+\s+\{)(\s*%r\d+,)(\s*%r\d+,)", r"\1\3\2"
    else:
        pattern, swapped = (
            r"(mma\.sync\S+ \{[^}]*\}, \{)( *%r\d+)(, *%r\d+)",
            lambda m: f"{m[1]}{m[3].strip(', ')}, {m[2]}",
        )
    relaunch(lambda ptx: re.sub(pattern, swapped, ptx, count=1))
    assert (c - a.float() @ b.float()).abs().max() > 0.1
