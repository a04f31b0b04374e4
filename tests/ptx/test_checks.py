"""The checks: what each of them finds, and what it lets pass."""

import pytest
import torch

from tests.ptx.emulator import Emulator
from tests.ptx.support import HEAD, TAIL, run_ptx

OWN = "shl.b32 %r10, %i, 2; add.s32 %r10, %r10, %shared; "
NEXT = "add.s32 %r11, %i, {step}; and.b32 %r11, %r11, 63; shl.b32 %r11, %r11, 2; add.s32 %r11, %r11, %shared; "


@pytest.mark.parametrize(("step", "what"), [(1, "inside a warp"), (32, "between warps")])
@pytest.mark.parametrize(
    "order",
    [
        "st.shared.b32 [%r10], %i; {} ld.shared.b32 %r4, [%r11];",
        "st.shared.b32 [%r10], %i; bar.sync 0; ld.shared.b32 %r4, [%r11]; {} st.shared.b32 [%r10], 7;",
    ],
)
def test_races_in_shared_memory(step, what, order):
    body = OWN + NEXT.format(step=step) + order
    whats = run_ptx(body.format(""), threads=64).whats()
    assert f"shared race {what}" in whats
    assert not run_ptx(body.format("bar.sync 0;"), threads=64).findings


def test_a_warp_needs_a_barrier_of_its_own_only():
    body = (
        OWN
        + NEXT.format(step=1).replace("63", "31")
        + "st.shared.b32 [%r10], %i; bar.warp.sync -1; ld.shared.b32 %r4, [%r11];"
    )
    assert not run_ptx(body).findings


def test_two_writes_race_unless_they_write_the_same():
    assert run_ptx("st.shared.b32 [%shared], %i;", threads=64).whats() == {
        "shared race between warps",
        "shared race inside a warp",
    }
    assert not run_ptx("st.shared.b32 [%shared], 5;", threads=64).findings


def test_a_race_names_both_accesses():
    finding = run_ptx(
        f"{OWN} st.shared.b32 [%r10], %i;\n xor.b32 %r11, %r10, 4;\n ld.shared.b32 %r4, [%r11];"
    ).findings[0]
    assert "ld.shared.b32" in finding.where
    assert "st.shared.b32" in finding.other
    assert (finding.thread, finding.other_thread) == (0, 1)


def test_barriers_of_a_part_of_the_block():
    """Two pairs of warps, each with a barrier of its own."""
    body = (
        OWN
        + """shr.u32 %r4, %i, 6; setp.eq.b32 %p1, %r4, 0; st.shared.b32 [%r10], %i;
        @%p1 bra first; bar.sync 2, 64; bra done; first: bar.sync 1, 64; done: xor.b32 %r11, %r10, 128;
        ld.shared.b32 %r5, [%r11]; cvt.u64.u32 %out, %r5;"""
    )
    run = run_ptx(body, threads=128)
    assert run.out == [i ^ 32 for i in range(128)]
    assert not run.findings


WRITE = "sub.s64 %d10, %in, %offset; sub.s64 %d10, %d10, %offset;"  # the first row of inputs


def test_races_in_global_memory_inside_a_block():
    body = "xor.b32 %r4, %i, 1; mul.wide.u32 %d4, %i, 8; sub.s64 %d5, %to, %d4; mul.wide.u32 %d6, %r4, 8;"
    body += "add.s64 %d5, %d5, %d6; st.global.b64 [%to], %d1; {} ld.global.b64 %d7, [%d5];"
    assert "global race inside a block" in run_ptx(body.format("")).whats()
    assert "global race inside a block" not in run_ptx(body.format("bar.sync 0;")).whats()


def test_races_in_global_memory_between_blocks():
    everyone = "mul.wide.u32 %d4, %i, 8; sub.s64 %d5, %to, %d4; "
    assert not run_ptx("", n=64, checks=["grace"]).findings
    one = everyone + "and.b32 %r4, %i, 31; setp.eq.b32 %p1, %r4, 3; @%p1 st.global.b64 [%d5+2048], %d1;"
    assert run_ptx(one, n=64, checks=["grace"]).whats() == {"global race between blocks"}
    assert not run_ptx(
        one.replace("st.global.b64 [%d5+2048], %d1", "red.global.add.u64 [%d5+2048], %d1"), n=64
    ).findings
    read = everyone + "ld.global.b64 %d6, [%d5+2048]; setp.eq.b32 %p1, %i, 40; @%p1 bar.warp.sync -1;"
    assert not run_ptx(read, n=64, checks=["grace"]).findings
    read += "bar.sync 0; @%p1 st.global.b64 [%d5+2048], %d6;"
    assert run_ptx(read, n=64, checks=["grace"]).whats() == {"global race between blocks"}


UNDEFINED = {
    "a stored register": "mov.b32 %r4, %r5; cvt.u64.u32 %out, %r4;",
    "an address": "and.b32 %r4, %r5, 0; cvt.u64.u32 %d4, %r4; add.s64 %d4, %d4, %to; ld.global.b32 %r4, [%d4];",
    "a branch": "setp.eq.b32 %p1, %r5, 0; @%p1 bra end; end:",
    "shared memory": OWN + "ld.shared.b32 %r4, [%r10]; cvt.u64.u32 %out, %r4;",
    "a sum over the warp": "setp.ne.b32 %p1, %i, 3; mov.b32 %r4, 1; @!%p1 mov.b32 %r4, %r5;"
    "shfl.sync.bfly.b32 %r6, %r4, 1, 31, -1; cvt.u64.u32 %out, %r6;",
    "half of a pair": "mov.b32 %r4, {%h1, %h9}; mov.b32 {%h10, %h11}, %r4; cvt.u64.u16 %out, %h11;",
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_undefined_values_that_matter(case):
    assert run_ptx(UNDEFINED[case], checks=["init"]).whats() == {"use of an undefined value"}


DEFINED = {
    "computed with and dropped": "add.s32 %r4, %r5, 1;",
    "not selected": "setp.eq.b32 %p1, %i, %i; selp.b32 %r4, 7, %r5, %p1; cvt.u64.u32 %out, %r4;",
    "decided by the other predicate": "setp.eq.b32 %p1, %r5, 0; setp.ne.b32 %p2, %i, %i; and.pred %p3, %p1, %p2;"
    "selp.b64 %out, 1, 0, %p3;",
    "the other half of a pair": "mov.b32 %r4, {%h1, %h9}; mov.b32 {%h10, %h11}, %r4; cvt.u64.u16 %out, %h10;",
    "of a lane that nobody reads": "setp.ne.b32 %p1, %i, 3; mov.b32 %r4, 1; @!%p1 mov.b32 %r4, %r5;"
    "shfl.sync.idx.b32 %r6, %r4, 0, 31, -1; cvt.u64.u32 %out, %r6;",
    "stored to shared memory and not read": OWN + "st.shared.b32 [%r10], %r5;",
}


@pytest.mark.parametrize("case", DEFINED)
def test_undefined_values_that_do_not(case):
    assert not run_ptx(DEFINED[case], checks=["init"]).findings


def test_undefined_values_pass_through_shared_memory():
    body = OWN + "setp.eq.b32 %p1, %i, 5; mov.b32 %r4, 1; @%p1 mov.b32 %r4, %r5; st.shared.b32 [%r10], %r4; bar.sync 0;"
    body += NEXT.format(step=1).replace("63", "31") + "ld.shared.b32 %r6, [%r11]; cvt.u64.u32 %out, %r6;"
    findings = run_ptx(body).findings
    assert [(f.what, f.thread, f.count) for f in findings] == [("use of an undefined value", 4, 1)]


def test_shared_memory_is_undefined_again_in_the_next_block():
    body = (
        OWN + "setp.eq.b32 %p1, %block, 0; @%p1 st.shared.b32 [%r10], 1; and.b32 %r12, %i, 31; shl.b32 %r12, %r12, 2;"
    )
    body += "add.s32 %r12, %r12, %shared; ld.shared.b32 %r4, [%r12]; cvt.u64.u32 %out, %r4;"
    findings = run_ptx(body, n=64).findings
    assert {(f.what, f.block) for f in findings} == {("use of an undefined value", 1)}


def test_without_checks_nothing_is_looked_for():
    assert not run_ptx("st.shared.b32 [%shared], %i; cvt.u64.u32 %out, %r9;", checks=[]).findings


def test_a_view_is_smaller_than_its_storage():
    storage, out, emulator = torch.zeros(200, dtype=torch.int64), torch.zeros(32, dtype=torch.int64), Emulator(86)
    kernel = emulator.kernel("kernel", HEAD.format(threads=32, variables="", target="sm_90a") + TAIL, 32)
    emulator.launch(kernel, (1, 1, 1), 0, [("*i64", storage[:95]), ("*i64", out), ("i32", 32)])
    assert [(f.what, f.thread) for f in emulator.take_findings()] == [
        ("access outside the tensor, inside its storage", 31)
    ]


def test_a_sample_of_the_blocks():
    words, out = torch.ones(3, 320, dtype=torch.int64), torch.zeros(320, dtype=torch.int64)
    emulator = Emulator(86, most_blocks=3)
    ptx = HEAD.format(threads=32, variables="", target="sm_86") + "mov.b64 %out, %d1;" + TAIL
    emulator.launch(emulator.kernel("kernel", ptx, 32), (10, 1, 1), 0, [("*i64", words), ("*i64", out), ("i32", 320)])
    assert out.view(10, 32).sum(1).nonzero().flatten().tolist() == [0, 4, 9]
