"""Shuffles, votes, matches, reductions over a warp, and warps whose lanes part and meet again."""

import functools
import operator

import pytest

from tests.ptx.emulator import EmulationError
from tests.ptx.support import THREADS, lanes, run_ptx

PULLED = {  # mode, b, c: from which lane
    ("up", 1, 0): lambda i: max(i - 1, 0),
    ("up", 3, 0x1800): lambda i: i - 3 if i % 8 >= 3 else i,  # segments of 8
    ("down", 1, 31): lambda i: i + 1 if i < 31 else i,
    ("down", 2, 0x1C03): lambda i: i + 2 if i % 4 < 2 else i,  # segments of 4
    ("bfly", 16, 31): lambda i: i ^ 16,
    ("bfly", 1, 31): lambda i: i ^ 1,
    ("idx", 5, 31): lambda i: 5,
    ("idx", 2, 0x181F): lambda i: i // 8 * 8 + 2,
}


@pytest.mark.parametrize(("mode", "b", "c"), PULLED)
def test_shuffle(mode, b, c):
    run = run_ptx(f"shfl.sync.{mode}.b32 %r4, %r1, {b}, {c}, -1; cvt.u64.u32 %out, %r4;", lanes(lambda i: 100 + i))
    assert run.out == lanes(lambda i: 100 + PULLED[mode, b, c](i))
    assert not run.findings


def test_shuffle_tells_whether_the_source_was_in_range():
    run = run_ptx("shfl.sync.down.b32 %r4|%p1, %r1, 4, 31, -1; selp.b64 %out, 1, 0, %p1;", lanes(lambda i: i))
    assert run.out == lanes(lambda i: int(i < 28))


@pytest.mark.parametrize(
    ("values", "results"),
    [([1] * 32, (1, 1, 1, 0xFFFFFFFF)), ([0] * 32, (0, 0, 1, 0)), ([1, 0] * 16, (0, 1, 0, 0x55555555))],
)
def test_votes(values, results):
    for mode, wanted in zip(("all", "any", "uni"), results, strict=False):
        body = f"setp.ne.b32 %p1, %r1, 0; vote.sync.{mode}.pred %p2, %p1, -1; selp.b64 %out, 1, 0, %p2;"
        assert run_ptx(body, values).out == [wanted] * THREADS
    body = "setp.ne.b32 %p1, %r1, 0; vote.sync.ballot.b32 %r4, %p1, -1; cvt.u64.u32 %out, %r4;"
    assert run_ptx(body, values).out == [results[3]] * THREADS
    body = "setp.ne.b32 %p1, %r1, 0; vote.sync.ballot.b32 %r4, !%p1, -1; cvt.u64.u32 %out, %r4;"
    assert run_ptx(body, values).out == [results[3] ^ 0xFFFFFFFF] * THREADS


def test_matches():
    values = lanes(lambda i: i % 3)
    run = run_ptx("match.any.sync.b32 %r4, %r1, -1; cvt.u64.u32 %out, %r4;", values)
    assert run.out == [sum(1 << k for k in range(32) if values[k] == v) for v in values]
    body = "match.all.sync.b64 %r4|%p1, %d1, -1; selp.b32 %r5, 1, 0, %p1; mov.b64 %out, {%r4, %r5};"
    assert run_ptx(body, values).out == [0] * THREADS
    assert run_ptx(body, [7] * 32).out == [1 << 32 | 0xFFFFFFFF] * THREADS


VALUES = [0, 0x80000005, *range(6, 96, 3)]
REDUCTIONS = {
    "add.s32": sum(VALUES) & 0xFFFFFFFF,
    "add.u32": sum(VALUES) & 0xFFFFFFFF,
    "min.u32": 0,
    "max.u32": 0x80000005,
    "min.s32": 0x80000005,
    "max.s32": 93,
    "and.b32": functools.reduce(operator.and_, VALUES),
    "or.b32": functools.reduce(operator.or_, VALUES),
    "xor.b32": functools.reduce(operator.xor, VALUES),
}


@pytest.mark.parametrize("operation", REDUCTIONS)
def test_reductions(operation):
    run = run_ptx(f"redux.sync.{operation} %r4, %r1, -1; cvt.u64.u32 %out, %r4;", VALUES)
    assert run.out == [REDUCTIONS[operation]] * THREADS


def test_one_lane_is_elected():
    body = "elect.sync %r4|%p1, -1; selp.b32 %r5, 1, 0, %p1; mov.b64 %out, {%r4, %r5};"
    assert run_ptx(body).out == [1 << 32, *[0] * 31]


def test_a_loop_of_as_many_turns_as_the_lane_and_the_warp_after_it():
    run = run_ptx("""mov.b32 %r4, 0; mov.b32 %r5, %i;
        again: setp.eq.b32 %p1, %r5, 0; @%p1 bra done; add.s32 %r4, %r4, %r5; add.s32 %r5, %r5, -1; bra.uni again;
        done: shfl.sync.idx.b32 %r4, %r4, 31, 31, -1; add.s32 %r4, %r4, %i; cvt.u64.u32 %out, %r4;""")
    assert run.out == lanes(lambda i: 31 * 32 // 2 + i)
    assert not run.findings


def test_branches_both_ways_and_the_mask_of_active_lanes():
    run = run_ptx("""and.b32 %r4, %i, 3; setp.eq.b32 %p1, %r4, 0; @%p1 bra rare;
        activemask.b32 %r5; bra after;
        rare: activemask.b32 %r5; add.s32 %r5, %r5, 1;
        after: activemask.b32 %r6; mov.b64 %out, {%r5, %r6};""")
    assert run.out == lanes(lambda i: 0xFFFFFFFF << 32 | (0x11111112 if i % 4 == 0 else 0xEEEEEEEE))


def test_nested_loops_of_different_lengths():
    run = run_ptx("""mov.b32 %r4, 0; mov.b32 %r5, 0;
        outer: mov.b32 %r6, 0;
        inner: add.s32 %r4, %r4, 1; add.s32 %r6, %r6, 1; setp.lt.u32 %p1, %r6, %i; @%p1 bra inner;
        add.s32 %r5, %r5, 1; and.b32 %r7, %i, 3; setp.le.u32 %p2, %r5, %r7; @%p2 bra outer;
        cvt.u64.u32 %out, %r4;""")
    assert run.out == lanes(lambda i: max(i, 1) * (i % 4 + 1))


def test_a_guard_leaves_other_lanes_alone():
    run = run_ptx(
        "setp.lt.u32 %p1, %i, 5; mov.b64 %out, 1; @%p1 add.s64 %out, %out, %d1; @!%p1 add.s64 %out, %out, 1;", [10] * 32
    )
    assert run.out == lanes(lambda i: 11 if i < 5 else 2)


def test_lanes_that_have_left():
    run = run_ptx("setp.lt.u32 %p1, %i, 5; @%p1 ret; mov.b64 %out, 9;")
    assert run.out == lanes(lambda i: 0 if i < 5 else 9)


def test_functions_are_expanded_with_their_own_labels_and_registers():
    function = """.func (.param .b32 result) twice(.param .b32 x, .param .b32 n) {
        .reg .b32 %r<9>; .reg .pred %p<2>;
        ld.param.b32 %r1, [x]; ld.param.b32 %r2, [n];
        again: setp.eq.b32 %p1, %r2, 0; @%p1 bra done; add.s32 %r1, %r1, %r1; add.s32 %r2, %r2, -1; bra again;
        done: st.param.b32 [result], %r1; ret; }"""
    call = "{{ .param .b32 a; st.param.b32 [a], {x}; .param .b32 b; st.param.b32 [b], {n}; .param .b32 c;" \
        " call.uni (c), twice, (a, b); ld.param.b32 {d}, [c]; }}"  # fmt: skip
    body = call.format(x="%r1", n="2", d="%r4") + call.format(x="%r4", n="1", d="%r5") + "mov.b64 %out, {%r5, %r1};"
    run = run_ptx(body, lanes(lambda i: i), variables=function)
    assert run.out == lanes(lambda i: i << 32 | 8 * i)


def test_lanes_meet_before_the_place_where_they_parted():
    run = run_ptx("""bra.uni part;
        meet: shfl.sync.bfly.b32 %r5, %r4, 16, 31, -1; bar.sync 0; cvt.u64.u32 %out, %r5; bra.uni end;
        part: mov.b32 %r4, 1; setp.lt.u32 %p1, %i, 16; @%p1 bra meet; mov.b32 %r4, 2; bra.uni meet;
        end: add.s64 %out, %out, 0;""")
    assert run.out == lanes(lambda i: 2 if i < 16 else 1)


def test_shuffle_of_a_warp_that_has_parted():
    run = run_ptx("setp.lt.u32 %p1, %i, 16; @%p1 bra skip; shfl.sync.bfly.b32 %r4, %r1, 16, 31, -1; skip: bar.sync 0;")
    assert run.whats() == {"shuffle from an inactive lane"}


def test_matrix_instruction_of_a_warp_that_has_parted():
    body = "setp.lt.u32 %p1, %i, 16; @%p1 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r4}, [%shared];"
    with pytest.raises(EmulationError, match="collective instruction of a diverged warp"):
        run_ptx(body)
