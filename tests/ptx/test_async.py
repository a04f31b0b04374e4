"""cp.async and its groups, mbarriers."""

import pytest

from tests.ptx.emulator import EmulationError
from tests.ptx.support import THREADS, lanes, run_ptx

OWN = "shl.b32 %r10, %i, 4; add.s32 %r10, %r10, %shared; sub.s64 %d10, %in, %offset; sub.s64 %d11, %d10, %offset; "
COPY = "cp.async.ca.shared.global [%r10], [%d11], 8;"


def test_a_copy_arrives_when_it_is_waited_for():
    body = f"{OWN} {COPY} cp.async.commit_group; cp.async.wait_group 0; ld.shared.b64 %out, [%r10];"
    run = run_ptx(body, lanes(lambda i: i + 1))
    assert run.out == lanes(lambda i: i + 1)
    assert not run.findings


def test_wait_all_takes_what_is_not_committed():
    run = run_ptx(f"{OWN} {COPY} cp.async.wait_all; ld.shared.b64 %out, [%r10];", lanes(lambda i: i + 1))
    assert run.out == lanes(lambda i: i + 1)


def test_the_rest_of_a_short_source_is_zero():
    body = f"{OWN} st.shared.b64 [%r10], -1; cp.async.ca.shared.global [%r10], [%d11], 8, 4; cp.async.wait_all;"
    run = run_ptx(body + "ld.shared.b64 %out, [%r10];", [0x1122334455667788] * 32)
    assert run.out == [0x55667788] * THREADS


TWO_GROUPS = f"""{OWN} {COPY} cp.async.commit_group;
    cp.async.ca.shared.global [%r10+8], [%d10], 8; cp.async.commit_group; """


def test_later_groups_may_stay():
    body = TWO_GROUPS + "cp.async.wait_group 1; ld.shared.b64 %out, [%r10]; cp.async.wait_group 0;"
    run = run_ptx(body, lanes(lambda i: i), lanes(lambda i: 7 * i))
    assert run.out == lanes(lambda i: i)
    assert not run.findings


def test_a_group_that_is_still_under_way():
    body = TWO_GROUPS + "cp.async.wait_group 1; ld.shared.b64 %out, [%r10+8]; cp.async.wait_group 0;"
    run = run_ptx(body, lanes(lambda i: i), lanes(lambda i: 7 * i))
    assert "access to bytes of a pending cp.async" in run.whats()
    assert run.out != lanes(lambda i: 7 * i)


def test_a_group_that_nobody_waits_for():
    assert run_ptx(f"{OWN} {COPY} cp.async.commit_group;").whats() == {"cp.async never waited for"}


def test_a_copy_waited_for_by_its_own_thread_only():
    body = f"""{OWN} {COPY} cp.async.wait_all; xor.b32 %r11, %r10, 16; {{sync}} ld.shared.b64 %out, [%r11];"""
    run = run_ptx(body.format(sync=""), lanes(lambda i: i))
    assert run.whats() == {"shared race inside a warp"}
    run = run_ptx(body.format(sync="bar.warp.sync -1;"), lanes(lambda i: i))
    assert run.out == lanes(lambda i: i ^ 1)
    assert not run.findings


def test_the_source_is_bounded_too():
    with pytest.raises(EmulationError, match="global access outside every argument"):
        run_ptx(OWN + "cp.async.ca.shared.global [%r10], [%d11+1000000], 8; cp.async.wait_all;")
    with pytest.raises(EmulationError, match="misaligned"):
        run_ptx(OWN + "cp.async.cg.shared.global [%r10+8], [%d11], 16; cp.async.wait_all;")


# Thread 0 of warp 0 makes a barrier of `count` arrivals at %shared; data lie 64 bytes behind it.
BARRIER = """setp.eq.b32 %p1, %i, 0; @%p1 mbarrier.init.shared.b64 [%shared], {count}; bar.sync 0;
    shl.b32 %r10, %i, 3; add.s32 %r10, %r10, %shared; setp.lt.u32 %p2, %i, 32; """
WAIT = "again: mbarrier.try_wait.parity.shared.b64 %p3, [%shared], {parity}; @!%p3 bra again; "


def test_one_warp_waits_for_what_another_one_wrote():
    body = (
        BARRIER.format(count=32) + "@%p2 bra write;" + WAIT.format(parity=0) + "ld.shared.b64 %out, [%r10+-192];"
        " bra end; write: st.shared.b64 [%r10+64], %d1; mbarrier.arrive.shared.b64 %d4, [%shared]; end:"
    )
    run = run_ptx(body, list(range(64)), threads=64)
    assert run.out == [0] * 32 + list(range(32))
    assert not run.findings


def test_phases_alternate():
    body = (
        BARRIER.format(count=32)
        + """
        mbarrier.arrive.shared.b64 %d4, [%shared]; mbarrier.test_wait.shared.b64 %p4, [%shared], %d4;
        mbarrier.test_wait.parity.shared.b64 %p5, [%shared], 1;
        mbarrier.arrive.shared.b64 %d5, [%shared]; mbarrier.test_wait.parity.shared.b64 %p6, [%shared], 0;
        selp.b32 %r4, 1, 0, %p4; selp.b32 %r5, 2, 0, %p5; selp.b32 %r6, 4, 0, %p6; or.b32 %r4, %r4, %r5;
        or.b32 %r4, %r4, %r6; cvt.u64.u32 %out, %r4;"""
    )
    # after the first phase its state has passed, and parity 1 has not come; after the second parity 0 has gone
    assert run_ptx(body).out == [1] * THREADS


def test_bytes_that_are_to_come_hold_a_phase_back():
    body = (
        BARRIER.format(count=1)
        + """
        @%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%shared], 16; bar.sync 0;
        mbarrier.test_wait.parity.shared.b64 %p4, [%shared], 0; bar.sync 0;
        @%p1 mbarrier.complete_tx.shared.b64 [%shared], 16; bar.sync 0;
        mbarrier.test_wait.parity.shared.b64 %p5, [%shared], 0;
        selp.b32 %r4, 1, 0, %p4; selp.b32 %r5, 2, 0, %p5; or.b32 %r4, %r4, %r5; cvt.u64.u32 %out, %r4;"""
    )
    assert run_ptx(body).out == [2] * THREADS


def test_copies_arrive_at_a_barrier():
    body = (
        BARRIER.format(count=32)
        + f"""shl.b32 %r11, %i, 3; add.s32 %r10, %shared, %r11;
        sub.s64 %d10, %in, %offset; sub.s64 %d11, %d10, %offset;
        cp.async.ca.shared.global [%r10+64], [%d11], 8; cp.async.mbarrier.arrive.noinc.shared.b64 [%shared];
        {WAIT.format(parity=0)} xor.b32 %r12, %r10, 0; ld.shared.b64 %out, [%r12+64];"""
    )
    run = run_ptx(body, lanes(lambda i: 3 * i))
    assert run.out == lanes(lambda i: 3 * i)
    assert not run.findings


def test_a_barrier_that_nobody_reaches():
    with pytest.raises(EmulationError, match="deadlock"):
        run_ptx(BARRIER.format(count=33) + "mbarrier.arrive.shared.b64 %d4, [%shared];" + WAIT.format(parity=0))


@pytest.mark.parametrize("address", ["%shared+8], 1", "%shared], 5"])
def test_a_barrier_that_was_never_set_and_more_arrivals_than_expected(address):
    with pytest.raises(EmulationError, match="mbarrier whose count is exceeded or not set"):
        run_ptx(BARRIER.format(count=1) + f"mbarrier.arrive.shared.b64 %d4, [{address};")
