"""Loads, stores, address spaces, atomics; accesses that a GPU would refuse."""

import pytest

from tests.ptx.emulator import EmulationError
from tests.ptx.support import THREADS, f32, f64, lanes, run_ptx

OWN = "shl.b32 %r10, %i, 4; add.s32 %r10, %r10, %shared; "  # 16 bytes of shared memory for each thread


@pytest.mark.parametrize(
    ("access", "bits"),
    [("u8", 8), ("s8", 8), ("u16", 16), ("s16", 16), ("b32", 32), ("s32", 32), ("u64", 64), ("b64", 64)],
)
def test_elements_are_extended_by_their_sign(access, bits):
    x = {64: "%d4", 32: "%r4"}.get(bits, "%h4")
    into = {64: "mov.b64 %out, %d4;", 32: "cvt.u64.u32 %out, %r4;"}.get(bits, "cvt.u64.u16 %out, %h4;")
    word = 0x8182838485868788
    run = run_ptx(f"{OWN} st.shared.b64 [%r10], %d1; ld.shared.{access} {x}, [%r10]; {into}", [word])
    value = word & (1 << bits) - 1
    if access[0] == "s" and bits == 8:
        value |= 0xFF00
    assert run.out[0] == value


def test_a_narrow_element_in_a_wide_register():
    run = run_ptx(
        f"{OWN} st.shared.b64 [%r10], %d1; ld.shared.s16 %r4, [%r10+2]; cvt.u64.u32 %out, %r4;", [0x8182 << 16]
    )
    assert run.out[0] == 0xFFFF8182


@pytest.mark.parametrize("count", [2, 4])
def test_vectors(count):
    names = ", ".join(f"%r{4 + k}" for k in range(count))
    body = f"{OWN} st.shared.b64 [%r10], %d1; st.shared.b64 [%r10+8], %d2; ld.shared.v{count}.b32 {{{names}}}, [%r10];"
    run = run_ptx(
        body + f"mov.b64 %out, {{%r{3 + count}, %r4}};", lanes(lambda i: i << 32 | 7), lanes(lambda i: 9 << 32)
    )
    assert run.out == lanes(lambda i: 7 << 32 | (i if count == 2 else 9))


def test_a_vector_store_and_the_discarded_element():
    body = f"{OWN} st.shared.v2.b32 [%r10], {{%r1, %r2}}; ld.shared.v2.b32 {{_, %r4}}, [%r10]; cvt.u64.u32 %out, %r4;"
    assert run_ptx(body, [1] * 32, lanes(lambda i: i)).out == lanes(lambda i: i)


def test_generic_addresses_of_shared_and_local_memory():
    body = """cvta.shared.u64 %d4, %d5; st.b64 [%d4], %d1; ld.shared.b64 %d6, [%r10];
        .local .align 8 .b8 stack[16]; mov.b64 %d7, stack; cvta.local.u64 %d8, %d7; st.b64 [%d8+8], %d2;
        ld.local.b64 %d9, [%d7+8]; add.s64 %out, %d6, %d9;"""
    run = run_ptx(OWN + "cvt.u64.u32 %d5, %r10;" + body, lanes(lambda i: i), lanes(lambda i: 100 * i))
    assert run.out == lanes(lambda i: 101 * i)
    assert not run.findings


def test_tables_in_constant_and_global_memory():
    variables = ".const .align 4 .b32 odd[3] = {1, 3, 0x5}; .global .align 1 .b8 letters[4] = {97, 98, 99, 100};"
    body = "ld.const.b32 %r4, [odd+8]; ld.global.u8 %h4, [letters+1]; cvt.u32.u16 %r5, %h4; mov.b64 %out, {%r4, %r5};"
    assert run_ptx(body, variables=variables).out == [98 << 32 | 5] * THREADS


ATOMICS = {
    "add.u32": (5, lambda i: 5 + sum(range(i)) & 0xFFFFFFFF), "max.s32": (3, lambda i: max(3, i - 1)),
    "min.u32": (3, lambda i: 3 if i == 0 else 0), "exch.b32": (7, lambda i: 7 if i == 0 else i - 1),
    "or.b32": (0, None), "xor.b32": (0, None), "and.b32": (0xFF, lambda i: 0xFF if i == 0 else 0),
}  # fmt: skip


@pytest.mark.parametrize("operation", ATOMICS)
def test_atomics_in_lane_order(operation):
    start, wanted = ATOMICS[operation]
    body = f"""st.shared.b32 [%shared], {start}; bar.warp.sync -1;
        atom.shared.{operation} %r4, [%shared], %i; cvt.u64.u32 %out, %r4;"""
    run = run_ptx(body)
    if wanted is None:
        value, expected = start, []
        for i in range(32):
            expected.append(value)
            value = value | i if operation.startswith("or") else value ^ i
    else:
        expected = lanes(wanted)
    assert run.out == expected
    assert not run.findings


def test_compare_and_swap_and_float_sums():
    body = "st.shared.b32 [%shared], 3; atom.shared.cas.b32 %r4, [%shared], %i, 77; cvt.u64.u32 %out, %r4;"
    assert run_ptx(body).out == lanes(lambda i: 3 if i <= 3 else 77)
    body = f"""st.shared.b64 [%shared], 0; bar.warp.sync -1; red.shared.add.f32 [%shared], 0f{f32(0.5):08X};
        ld.shared.b64 %out, [%shared];"""
    assert run_ptx(body).out == [f32(16.0)] * THREADS
    body = f"st.shared.b64 [%shared], 0; atom.shared.add.f64 %d4, [%shared], 0d{f64(0.25):016X};"
    body += "ld.shared.b64 %out, [%shared];"
    assert run_ptx(body).out == [f64(8.0)] * THREADS


FAULTS = {
    "global access outside every argument": "st.global.b32 [%to+4000000], 1;",
    "shared access out of bounds": "st.shared.b32 [%shared+16384], 1;",
    "local access out of bounds": ".local .align 8 .b8 s[16]; mov.b64 %d4, s; ld.local.b32 %r4, [%d4+16];",
    "misaligned access": "ld.shared.b64 %d4, [%shared+4];",
    "trap": "trap;",
    "deadlock": "setp.eq.b32 %p1, %i, 0; @%p1 bra end; bar.sync 1; end: bar.sync 0;",
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_end_the_launch(what):
    with pytest.raises(EmulationError, match=what if what != "deadlock" else "diverged|deadlock"):
        run_ptx(FAULTS[what])


def test_a_fault_names_source_thread_and_address():
    with pytest.raises(EmulationError) as caught:
        run_ptx("setp.eq.b32 %p1, %i, 7;\n@%p1 st.shared.b32 [%shared+99999996], 1;")
    assert "`@%p1 st.shared.b32 [%shared+99999996], 1`" in str(caught.value)
    assert "thread 7" in str(caught.value)


def test_the_null_page_of_shared_memory():
    with pytest.raises(EmulationError, match="shared access out of bounds"):
        run_ptx("mov.b32 %r4, 0; st.shared.b32 [%r4], 1;")


def test_an_endless_loop_ends(monkeypatch):
    from tests.ptx import emulator

    original = emulator.Emulator.__init__
    monkeypatch.setattr(emulator.Emulator, "__init__", lambda self, *a, **k: original(self, *a, budget=1000, **k))
    with pytest.raises(EmulationError, match="too many branches"):
        run_ptx("again: bra.uni again;")
