"""Integers and bits against Python's."""

import itertools
import operator

import pytest

from tests.ptx.support import evaluate, run_ptx

EDGES = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x12345678]
EDGES += [0xDEADBEEF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0x123456789ABCDEF0]
PAIRS = list(itertools.product(EDGES, EDGES))
LETTERS = {16: "h", 32: "r", 64: "d"}
KINDS = [f"{sign}{bits}" for bits in (16, 32, 64) for sign in "us"]


def view(word: int, kind: str) -> int:
    bits = int(kind[1:])
    word &= (1 << bits) - 1
    return word - (1 << bits) if kind[0] == "s" and word >> bits - 1 else word


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


OPERATIONS = {
    "add": lambda a, b, bits: a + b,
    "sub": lambda a, b, bits: a - b,
    "mul.lo": lambda a, b, bits: a * b,
    "mul.hi": lambda a, b, bits: a * b >> bits,
    "div": lambda a, b, bits: quotient(a, b) if b else -1,
    "rem": lambda a, b, bits: a - b * quotient(a, b) if b else a,
    "min": lambda a, b, bits: min(a, b),
    "max": lambda a, b, bits: max(a, b),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_arithmetic(operation, kind):
    bits = int(kind[1:])
    x, mask = LETTERS[bits], (1 << bits) - 1
    out = evaluate(f"{operation}.{kind} %{x}0, %{x}1, %{x}2;", *zip(*PAIRS, strict=True))
    assert out == [OPERATIONS[operation](view(a, kind), view(b, kind), bits) & mask for a, b in PAIRS]


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32"])
def test_wide_products(kind):
    bits = int(kind[1:])
    x, y = LETTERS[bits], LETTERS[2 * bits]
    products = [view(a, kind) * view(b, kind) for a, b in PAIRS]
    mask = (1 << 2 * bits) - 1
    out = evaluate(f"mul.wide.{kind} %{y}0, %{x}1, %{x}2;", *zip(*PAIRS, strict=True))
    assert out == [p & mask for p in products]
    third = [a ^ 0x5555 for a, _ in PAIRS]
    out = evaluate(f"mad.wide.{kind} %{y}0, %{x}1, %{x}2, %{y}3;", *zip(*PAIRS, strict=True), third)
    assert out == [p + c & mask for p, c in zip(products, third, strict=True)]


@pytest.mark.parametrize("kind", ["u32", "s32", "s64"])
def test_multiply_and_add(kind):
    bits = int(kind[1:])
    x, mask = LETTERS[bits], (1 << bits) - 1
    third = [b ^ 0xF0F0 for _, b in PAIRS]
    for half, shift in (("lo", 0), ("hi", bits)):
        out = evaluate(f"mad.{half}.{kind} %{x}0, %{x}1, %{x}2, %{x}3;", *zip(*PAIRS, strict=True), third)
        products = [(view(a, kind) * view(b, kind) >> shift) for a, b in PAIRS]
        assert out == [p + c & mask for p, c in zip(products, third, strict=True)]


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts_beyond_the_width(bits):
    x, mask = LETTERS[bits], (1 << bits) - 1
    pairs = list(itertools.product(EDGES, [0, 1, 5, bits - 1, bits, 40, 200]))
    columns = list(zip(*pairs, strict=True))
    assert evaluate(f"shl.b{bits} %{x}0, %{x}1, %r2;", *columns) == [a << n & mask for a, n in pairs]
    assert evaluate(f"shr.u{bits} %{x}0, %{x}1, %r2;", *columns) == [(a & mask) >> n for a, n in pairs]
    assert evaluate(f"shr.s{bits} %{x}0, %{x}1, %r2;", *columns) == [view(a, f"s{bits}") >> n & mask for a, n in pairs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("comparison", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons(comparison, kind):
    x = LETTERS[int(kind[1:])]
    out = evaluate(f"setp.{comparison}.{kind} %p0, %{x}1, %{x}2;", *zip(*PAIRS, strict=True))
    compare = getattr(operator, comparison)
    assert out == [compare(view(a, kind), view(b, kind)) for a, b in PAIRS]


CASES = [
    ("prmt.b32 %r0, %r1, %r2, 0x3210;", (0x03020100, 0x07060504), 0x03020100),
    ("prmt.b32 %r0, %r1, %r2, 0x7531;", (0x03020100, 0x07060504), 0x07050301),
    ("prmt.b32 %r0, %r1, %r2, 0x0b8c;", (0x80020100, 0x07060504), 0x00FF0000),
    ("bfe.u32 %r0, %r1, 4, 8;", (0xABCDEF12,), 0xF1),
    ("bfe.s32 %r0, %r1, 4, 8;", (0xABCDEF12,), 0xFFFFFFF1),
    ("bfe.s32 %r0, %r1, 28, 8;", (0x80000000,), 0xFFFFFFF8),
    ("bfe.s32 %r0, %r1, 40, 4;", (0x80000000,), 0xFFFFFFFF),
    ("bfe.u32 %r0, %r1, 4, 0;", (0xFF,), 0),
    ("bfe.u64 %d0, %d1, 32, 16;", (0x1234ABCD00000000,), 0xABCD),
    ("bfi.b32 %r0, %r1, %r2, 8, 4;", (0xF, 0), 0xF00),
    ("bfi.b32 %r0, %r1, %r2, 8, 4;", (0, 0xFFFFFFFF), 0xFFFFF0FF),
    ("bfi.b32 %r0, %r1, %r2, 30, 8;", (0xFF, 0), 0xC0000000),
    ("bfi.b64 %d0, %d1, %d2, 60, 8;", (0xFF, 0), 0xF << 60),
    ("shf.l.wrap.b32 %r0, %r1, %r2, 8;", (0x11223344, 0xAABBCCDD), 0xBBCCDD11),
    ("shf.r.wrap.b32 %r0, %r1, %r2, 8;", (0x11223344, 0xAABBCCDD), 0xDD112233),
    ("shf.r.clamp.b32 %r0, %r1, %r2, 40;", (0x11223344, 0xAABBCCDD), 0xAABBCCDD),
    ("shf.l.clamp.b32 %r0, %r1, %r2, 40;", (0x11223344, 0xAABBCCDD), 0x11223344),
    ("lop3.b32 %r0, %r1, %r2, %r1, 0x3c;", (0xF0F0, 0xFF00), 0x0FF0),
    ("not.b32 %r0, %r1;", (0x0F0F0F0F,), 0xF0F0F0F0),
    ("cnot.b32 %r0, %r1;", (0,), 1),
    ("popc.b32 %r0, %r1;", (0xF0F0,), 8),
    ("popc.b64 %r0, %d1;", (0xF0F000000000000F,), 12),
    ("clz.b32 %r0, %r1;", (0,), 32),
    ("clz.b64 %r0, %d1;", (1 << 40,), 23),
    ("bfind.u32 %r0, %r1;", (0,), 0xFFFFFFFF),
    ("bfind.s32 %r0, %r1;", (0xFFFFFFFE,), 0),
    ("brev.b32 %r0, %r1;", (0x1,), 0x80000000),
    ("abs.s32 %r0, %r1;", (0x80000000,), 0x80000000),
    ("neg.s16 %h0, %h1;", (1,), 0xFFFF),
    ("mov.b32 %r0, {%h1, %h2};", (0x1234, 0xABCD), 0xABCD1234),
    ("mov.b64 %d0, {%r1, %r2};", (0x1234, 0xABCD), 0xABCD00001234),
    ("mov.b64 %d0, {%h1, %h2, %h1, %h2};", (1, 2), 0x0002000100020001),
    ("mov.b32 {%h4, %h0}, %r1;", (0xABCD1234,), 0xABCD),
    ("mov.b64 {_, %r0}, %d1;", (0xABCD00001234,), 0xABCD),
]


@pytest.mark.parametrize(("instruction", "words", "wanted"), CASES)
def test_bits(instruction, words, wanted):
    assert [hex(x) for x in evaluate(instruction, *([w] for w in words))] == [hex(wanted)]


@pytest.mark.parametrize("table", [0x00, 0x80, 0x96, 0xE8, 0xCA, 0xFF])
def test_every_bit_of_a_truth_table(table):
    a, b, c = 0xF0, 0xCC, 0xAA  # all combinations
    assert [x & 0xFF for x in evaluate(f"lop3.b32 %r0, %r1, %r2, %r3, {table};", [a], [b], [c])] == [table]


def test_carries_make_sums_of_64_bits():
    body = """mov.b64 {%r4, %r5}, %d1; mov.b64 {%r6, %r7}, %d2;
        add.cc.u32 %r8, %r4, %r6; addc.u32 %r9, %r5, %r7; mov.b64 %out, {%r8, %r9};"""
    columns = list(zip(*PAIRS, strict=True))
    assert run_ptx(body, *columns).out[: len(PAIRS)] == [a + b & (1 << 64) - 1 for a, b in PAIRS]
    body = body.replace("add", "sub")
    assert run_ptx(body, *columns).out[: len(PAIRS)] == [a - b & (1 << 64) - 1 for a, b in PAIRS]


def test_carries_make_products_of_64_bits():
    body = """mad.lo.cc.u32 %r8, %r1, %r2, %r3; madc.hi.u32 %r9, %r1, %r2, 0; mov.b64 %out, {%r8, %r9};"""
    third = [0xFFFFFFFF] * len(PAIRS)
    out = run_ptx(body, *zip(*PAIRS, strict=True), third).out[: len(PAIRS)]
    assert out == [view(a, "u32") * view(b, "u32") + 0xFFFFFFFF & (1 << 64) - 1 for a, b in PAIRS]
