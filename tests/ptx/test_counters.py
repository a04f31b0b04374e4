"""Sectors of global memory, passes over the banks of shared memory, and instructions by class."""

import pytest

from tests.ptx.counters import Counts, count, matrix_flops
from tests.ptx.support import run_ptx

# %d4: the first multiple of 1024 in outputs
ALIGNED = "mul.wide.u32 %d4, %i, 8; sub.s64 %d4, %to, %d4; add.s64 %d4, %d4, 1023; and.b64 %d4, %d4, -1024;"


def counted(body: str, **options) -> Counts:
    """What a body adds to an empty one."""
    return count(run_ptx(body, **options).kernel) - count(run_ptx("", **options).kernel)


@pytest.mark.parametrize(("stride", "passes"), [(4, 1), (8, 2), (12, 1), (16, 4), (128, 32), (132, 1), (0, 1)])
def test_bank_passes_by_stride(stride, passes):
    counts = counted(f"mad.lo.u32 %r4, %i, {stride}, %shared; st.shared.b32 [%r4], 1;")
    assert (counts.shared_passes, counts.shared_passes_at_best) == (passes, 1)


@pytest.mark.parametrize(
    ("access", "shift", "passes"),
    [("v4.b32 [%r4], {1, 1, 1, 1}", 4, 4), ("v2.b32 [%r4], {1, 1}", 3, 2), ("b16 [%r4], 1", 1, 1)],
)
def test_wide_accesses_take_as_many_passes_as_they_have_128_bytes(access, shift, passes):
    counts = counted(f"shl.b32 %r4, %i, {shift}; add.s32 %r4, %r4, %shared; st.shared.{access};")
    assert (counts.shared_passes, counts.shared_passes_at_best) == (passes, passes)


def test_ldmatrix_of_rows_that_share_banks():
    body = "shl.b32 %r4, %i, {shift}; add.s32 %r4, %r4, %shared;"
    body += "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r5, %r6, %r7, %r8}}, [%r4];"
    for shift, passes in ((4, 4), (7, 32)):
        counts = counted(body.format(shift=shift))
        assert (counts.shared_passes, counts.shared_passes_at_best) == (passes, 4)


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (8, 8), (32, 32), (0, 1)])
def test_sectors_of_a_load(stride, sectors):
    counts = counted(f"{ALIGNED} mul.wide.u32 %d5, %i, {stride}; add.s64 %d4, %d4, %d5; ld.global.b32 %r4, [%d4];")
    assert (counts.load_sectors, counts.load_bytes) == (sectors, 128)


def test_copies_count_as_loads_and_guards_leave_lanes_out():
    counts = counted(
        f"{ALIGNED} setp.lt.u32 %p1, %i, 8; shl.b32 %r4, %i, 4; cvt.u64.u32 %d5, %r4; add.s64 %d4, %d4, %d5;"
        "add.s32 %r4, %r4, %shared; @%p1 cp.async.cg.shared.global [%r4], [%d4], 16; cp.async.wait_all;"
    )
    assert (counts.load_sectors, counts.load_bytes) == (4, 128)


def test_copies_of_zeros_read_nothing():
    counts = counted(
        f"{ALIGNED} shl.b32 %r4, %i, 4; cvt.u64.u32 %d5, %r4; add.s64 %d4, %d4, %d5; add.s32 %r4, %r4, %shared;"
        "setp.lt.u32 %p1, %i, 8; selp.b32 %r5, 16, 0, %p1; cp.async.cg.shared.global [%r4], [%d4], 16, %r5;"
        "cp.async.wait_all;"
    )
    assert (counts.load_sectors, counts.load_bytes) == (4, 128)


@pytest.mark.parametrize(("row", "passes"), [(32, 32 + 32 * 32), (33, 32 + 32)])
def test_a_transposition_through_shared_memory(row, passes):
    """Rows of 32 words are written without conflicts; columns lie in one bank, unless rows are a word longer."""
    body = f"shl.b32 %r4, %i, 2; add.s32 %r4, %r4, %shared; mad.lo.u32 %r5, %i, {4 * row}, %shared;"
    body += "".join(f"st.shared.b32 [%r4+{4 * row * i}], 1;" for i in range(32)) + "bar.sync 0;"
    body += "".join(f"ld.shared.b32 %r6, [%r5+{4 * i}];" for i in range(32))
    counts = counted(body)
    assert (counts.shared_passes, counts.shared_passes_at_best) == (passes, 64)
    assert counts.warps["barrier"] == 1


@pytest.mark.parametrize(
    ("opcode", "factor", "flops"),
    [
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "f16", 2 * 16 * 8 * 16),
        ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "tf32", 2 * 16 * 8 * 8),
        ("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32", "s8", 2 * 16 * 8 * 32),
        ("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16", "bf16", 2 * 64 * 96 * 16 // 4),  # a warp of four
        ("wgmma.wait_group.sync.aligned", "", 0),
    ],
)
def test_operations_of_matrix_instructions(opcode, factor, flops):
    assert matrix_flops(opcode) == (factor, flops)


def test_matrix_instructions_are_counted_with_their_operations():
    body = """mov.b32 %r4, 0; mov.b32 %r5, 0; mov.b32 %r6, 0; mov.b32 %r7, 0;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r4,%r5,%r6,%r7}, {%r1,%r1,%r1,%r1}, {%r2,%r2},
        {%r4,%r5,%r6,%r7};"""
    counts = counted(body, threads=64, n=64)
    assert counts.warps["matrix"] == 2
    assert counts.matrix_flops == {"f16": 2 * 4096}


def test_conversions_by_what_they_need():
    counts = counted("cvt.f32.f16 %r4, %h1; cvt.rn.f16.f32 %h4, %r1; cvt.u64.u32 %d4, %r1; cvt.rn.f32.s32 %r5, %r2;")
    assert counts.warps == {"widening": 1, "conversion": 2, "integer": 1}


def test_classes_of_instructions():
    body = """mul.f32 %r4, %r1, %r2; ex2.approx.f32 %r5, %r4; fma.rn.f64 %d4, %d1, %d2, %d3; mul.f16 %h4, %h1, %h2;
        shfl.sync.bfly.b32 %r6, %r1, 1, 31, -1; add.s32 %r7, %r1, %r2; cvt.rn.f16.f32 %h5, %r1; bar.sync 0;"""
    wanted = {"fp32": 1, "special": 1, "fp64": 1, "fp16": 1, "shuffle": 1, "integer": 1, "conversion": 1, "barrier": 1}
    assert counted(body, threads=64, n=64).warps == {name: 2 * n for name, n in wanted.items()}


def test_every_turn_of_a_loop_counts():
    body = (
        "mov.b32 %r4, 0; again: add.f32 %r5, %r1, %r2; add.s32 %r4, %r4, 1; setp.lt.u32 %p1, %r4, 10; @%p1 bra again;"
    )
    counts = counted(body)
    assert counts.warps["fp32"] == 10
    assert counts.warps["control"] == 10
