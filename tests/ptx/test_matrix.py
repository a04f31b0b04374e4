"""ldmatrix, stmatrix, movmatrix and mma.sync, element by element as the PTX ISA lays fragments out."""

import struct
from collections.abc import Callable

import pytest
import torch

from tests.ptx.support import F16, Run, bf16, f16, f32, f64, lanes, run_ptx

ROW_BYTES = 256  # of 32 threads

# Each 32-bit word w of shared memory holds the halves 2 w and 2 w + 1.
FILL = (
    "".join(
        f"mad.lo.u32 %r20, %i, 131074, {65536 + 4194368 * k}; shl.b32 %r21, %i, 2; add.s32 %r21, %r21, %shared;"
        f"st.shared.b32 [%r21+{128 * k}], %r20;"
        for k in range(4)
    )
    + "bar.sync 0; and.b32 %r22, %i, 31; shl.b32 %r22, %r22, 4; add.s32 %r22, %r22, %shared;"
)  # lane's row of 16 bytes


def halves(run: Run, row: int) -> list[tuple[int, int]]:
    return [(x & 0xFFFF, x >> 16 & 0xFFFF) for x in run.rows[row]]


def half_of(tile: int, row: int, column: int) -> int:
    return 64 * tile + 8 * row + column


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_ldmatrix(n, trans):
    names = [f"%r{4 + k}" for k in range(n)]
    body = f"{FILL} ldmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 {{{', '.join(names)}}}, [%r22];"
    body += "".join(
        f"cvt.u64.u32 %d5, {name}; st.global.b64 [%to+{ROW_BYTES * (k + 1)}], %d5;" for k, name in enumerate(names)
    )
    run = run_ptx(body + "mov.b64 %out, 0;")
    for k in range(n):
        if trans:
            wanted = lanes(lambda i, k=k: tuple(half_of(k, 2 * (i % 4) + h, i // 4) for h in (0, 1)))
        else:
            wanted = lanes(lambda i, k=k: tuple(half_of(k, i // 4, 2 * (i % 4) + h) for h in (0, 1)))
        assert halves(run, k + 1) == wanted
    assert not run.findings


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("trans", ["", ".trans"])
def test_stmatrix_undoes_ldmatrix(n, trans):
    names = ", ".join(f"%r{4 + k}" for k in range(n))
    body = f"""{FILL} ldmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 {{{names}}}, [%r22]; bar.sync 0;
        stmatrix.sync.aligned.m8n8.x{n}{trans}.shared.b16 [%r22+512], {{{names}}}; bar.sync 0;
        shl.b32 %r9, %i, 2; add.s32 %r9, %r9, %shared; ld.shared.b32 %r10, [%r9+512]; cvt.u64.u32 %out, %r10;"""
    run = run_ptx(body)
    assert halves(run, 0) == lanes(lambda i: (2 * i, 2 * i + 1))
    assert not run.findings


def test_movmatrix_transposes():
    body = f"""{FILL} ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r4}}, [%r22];
        movmatrix.sync.aligned.m8n8.trans.b16 %r5, %r4; cvt.u64.u32 %out, %r5;"""
    assert halves(run_ptx(body), 0) == lanes(lambda i: tuple(half_of(0, 2 * (i % 4) + h, i // 4) for h in (0, 1)))


# ---------------------------------------------------------------- mma.sync
# Where element number e of a lane's A lies, as group g, member t -> (row, column); of B as (row, column) too.
Layout = Callable[[int, int, int], tuple[int, int]]
A_LAYOUTS: dict[str, Layout] = {
    "half16": lambda g, t, e: (g + 8 * (e // 2 % 2), 2 * t + e % 2 + 8 * (e // 4)),
    "half8": lambda g, t, e: (g + 8 * (e // 2), 2 * t + e % 2),
    "word": lambda g, t, e: (g + 8 * (e % 2), t + 4 * (e // 2)),
    "byte32": lambda g, t, e: (g + 8 * (e // 4 % 2), 4 * t + e % 4 + 16 * (e // 8)),
    "byte16": lambda g, t, e: (g + 8 * (e // 4), 4 * t + e % 4),
    "eight": lambda g, t, e: (g, t),
}
B_LAYOUTS: dict[str, Layout] = {
    "half": lambda g, t, e: (2 * t + e % 2 + 8 * (e // 2), g),
    "word": lambda g, t, e: (t + 4 * e, g),
    "byte": lambda g, t, e: (4 * t + e % 4 + 16 * (e // 4), g),
}


def c_layout(g: int, t: int, e: int) -> tuple[int, int]:
    return g + 8 * (e // 2), 2 * t + e % 2


FORMS = {  # types d.a.b.c: shape, layouts, bits of an element of A, of C
    "m16n8k16 f32.f16.f16.f32": ("half16", "half", f16, 16, f32, 32),
    "m16n8k8 f32.f16.f16.f32": ("half8", "half", f16, 16, f32, 32),
    "m16n8k16 f16.f16.f16.f16": ("half16", "half", f16, 16, f16, 16),
    "m16n8k16 f32.bf16.bf16.f32": ("half16", "half", bf16, 16, f32, 32),
    "m16n8k8 f32.bf16.bf16.f32": ("half8", "half", bf16, 16, f32, 32),
    "m16n8k8 f32.tf32.tf32.f32": ("word", "word", f32, 32, f32, 32),
    "m16n8k4 f32.tf32.tf32.f32": ("word", "word", f32, 32, f32, 32),
    "m16n8k32 s32.s8.s8.s32": ("byte32", "byte", lambda x: int(x) & 255, 8, lambda x: int(x) & 0xFFFFFFFF, 32),
    "m16n8k16 s32.s8.s8.s32": ("byte16", "byte", lambda x: int(x) & 255, 8, lambda x: int(x) & 0xFFFFFFFF, 32),
    "m16n8k32 s32.u8.u8.s32": ("byte32", "byte", lambda x: int(x) & 255, 8, lambda x: int(x) & 0xFFFFFFFF, 32),
    "m8n8k4 f64.f64.f64.f64": ("eight", "word", f64, 64, f64, 64),
    "m16n8k4 f64.f64.f64.f64": ("word", "word", f64, 64, f64, 64),
    "m16n8k8 f64.f64.f64.f64": ("word", "word", f64, 64, f64, 64),
    "m16n8k16 f64.f64.f64.f64": ("word", "word", f64, 64, f64, 64),
}


def fragment(matrix: torch.Tensor, layout: Layout, encode: Callable, bits: int) -> list[list[int]]:
    """Registers of 32 bits (64 for double precision) of every lane."""
    n, per = matrix.numel() // 32, max(1, 32 // bits)
    out = []
    for lane in range(32):
        words = [encode(matrix[layout(lane // 4, lane % 4, e)].item()) for e in range(n)]
        out.append([sum(words[r * per + h] << bits * h for h in range(per)) for r in range(n // per)])
    return out


def multiply_add(
    form: str, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, flag="", **options
) -> tuple[list[list[int]], Run]:
    """Registers of D of every lane."""
    layout_a, layout_b, encode, bits, encode_c, bits_c = FORMS[form]
    shape, types = form.split()
    groups = [
        fragment(c, c_layout, encode_c, bits_c),
        fragment(a, A_LAYOUTS[layout_a], encode, bits),
        fragment(b, B_LAYOUTS[layout_b], encode, bits),
    ]
    letter = "d" if bits == 64 else "r"
    columns, names, loads = [], [], ""
    for group in groups:
        names.append([])
        for register in range(len(group[0])):
            k = len(columns)
            columns.append([group[lane][register] for lane in range(32)])
            names[-1].append(f"%{letter}{20 + k}")
            loads += f"ld.global.b64 %d{20 + k}, [%in+{ROW_BYTES * (k - 2)}];"
            loads += f"cvt.u32.u64 %r{20 + k}, %d{20 + k};" if letter == "r" else ""
    results = [f"%{letter}{k}" for k in range(4, 4 + len(names[0]))]
    sets = ", ".join("{" + ", ".join(x) + "}" for x in (results, names[1], names[2], names[0]))
    body = f"{loads} mma.sync.aligned.{shape}.row.col{flag}.{types} {sets};"
    for k, name in enumerate(results):
        widen = f"cvt.u64.u32 %d15, {name};" if letter == "r" else f"mov.b64 %d15, {name};"
        body += f"{widen} st.global.b64 [%to+{ROW_BYTES * (k + 1)}], %d15;"
    run = run_ptx(body, *columns, **options)
    return [[run.rows[k + 1][lane] for k in range(len(results))] for lane in range(32)], run


@pytest.mark.parametrize("form", FORMS)
def test_mma_of_small_integers_is_exact(form):
    m, n, k = (int(x) for x in form.split()[0][1:].replace("n", " ").replace("k", " ").split())
    generator = torch.Generator().manual_seed(0)
    a, b, c = (
        torch.randint(0 if ".u8" in form else -9, 10, s, generator=generator).double() for s in ((m, k), (k, n), (m, n))
    )
    registers, run = multiply_add(form, a, b, c)
    *_, encode, bits = FORMS[form]
    assert registers == fragment(a @ b + c, c_layout, encode, bits)
    assert not run.findings


def test_unsigned_bytes():
    a, b, c = torch.full((16, 32), 200.0), torch.full((32, 8), 255.0), torch.full((16, 8), -5.0)
    registers, _ = multiply_add("m16n8k32 s32.u8.u8.s32", a, b, c)
    assert registers[0][0] == 32 * 200 * 255 - 5


def test_integer_sums_wrap_around_unless_they_are_clamped():
    a, b, c = (torch.full(s, v).double() for s, v in (((16, 32), 100), ((32, 8), 100), ((16, 8), 2**31 - 1)))
    form = "m16n8k32 s32.s8.s8.s32"
    assert multiply_add(form, a, b, c)[0][0][0] == 320000 + 2**31 - 1
    assert multiply_add(form, a, b, c, flag=".satfinite")[0][0][0] == 2**31 - 1


def ones(m: int, n: int, k: int) -> list[torch.Tensor]:
    return [torch.zeros(m, k), torch.zeros(k, n), torch.zeros(m, n)]


def test_tf32_ignores_the_low_bits_of_its_operands():
    a, b, c = ones(16, 8, 8)
    a[0, 0], b[0, 0] = struct.unpack("<f", struct.pack("<I", 0x3F801FFF))[0], 1.0
    registers, _ = multiply_add("m16n8k8 f32.tf32.tf32.f32", a, b, c)
    assert registers[0][0] == f32(1.0)


def test_the_sum_is_rounded_once_unless_hardware_cuts_it():
    a, b, c = ones(16, 8, 16)
    a[0, :2], b[:2, 0], c[0, 0] = 1.0, torch.tensor([2.0**-14, 2.0**-14 * 0.75]), 1024.0  # 1.75 half units
    form = "m16n8k16 f32.f16.f16.f32"
    assert multiply_add(form, a, b, c, on_gpu=False)[0][0][0] == f32(1024.0) + 1
    assert multiply_add(form, a, b, c, hardware_errors=True)[0][0][0] == f32(1024.0)


def test_half_sums_overflow_to_infinity_and_keep_subnormals():
    a, b, c = ones(16, 8, 16)
    a[0, 0], b[0, 0], b[0, 1], c[0, 0] = 1.0, 32.0, 2.0**-24, 65504.0
    registers, _ = multiply_add("m16n8k16 f16.f16.f16.f16", a, b, c)
    assert registers[0][0] == 1 << 16 | F16.infinity


def test_nan_and_infinity_pass():
    a, b, c = ones(16, 8, 16)
    a[0, 0], b[0, 0], b[0, 1] = float("inf"), 1.0, 0.0
    registers, _ = multiply_add("m16n8k16 f32.bf16.bf16.f32", a, b, c)
    assert registers[0][:2] == [f32(float("inf")), 0x7FFFFFFF]
