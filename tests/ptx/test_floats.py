"""Single and double precision against exact fractions: roundings, NaN, zeros, subnormals."""

import itertools
import math
from fractions import Fraction

import pytest

from tests.ptx.support import F32, F64, Format, evaluate, f32, f64

FORMATS = {"f32": (F32, "r"), "f64": (F64, "d")}
MODES = ["rn", "rz", "rm", "rp"]
NAN = 0x7FFFFFFF


def is_nan(word: int, form: Format) -> bool:
    return word & (form.sign - 1) > form.infinity


def exact(operation: str, form: Format, words: tuple[int, ...], mode: str) -> int | None:
    """The word that IEEE 754 asks for; None for NaN. Not for infinite results of infinite operands."""
    values = [form.value(w) for w in words]
    negative = [bool(w & form.sign) for w in words]
    if any(isinstance(v, float) and not math.isfinite(v) for v in values):
        return None
    numbers = [Fraction(v) for v in values]
    if operation in ("add", "sub"):
        other = numbers[1] if operation == "add" else -numbers[1]
        result, signs = numbers[0] + other, [negative[0], negative[1] ^ (operation == "sub")]
    elif operation == "mul":
        result, signs = numbers[0] * numbers[1], [negative[0] ^ negative[1]]
    elif operation == "fma":
        result, signs = numbers[0] * numbers[1] + numbers[2], [negative[0] ^ negative[1], negative[2]]
    elif operation == "div":
        if numbers[1] == 0:
            return None
        result, signs = numbers[0] / numbers[1], [negative[0] ^ negative[1]]
    # A sum of opposite numbers is -0 only when rounding down.
    zero_is_negative = signs[0] if len(set(signs)) == 1 else mode == "rm"
    return form.round(result, mode, form.sign if zero_is_negative else 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "fma", "div"])
def test_is_rounded_once(operation, kind, mode):
    form, letter = FORMATS[kind]
    n_sources = 3 if operation == "fma" else 2
    columns = [form.samples(600, seed) for seed in range(n_sources)]
    names = ", ".join(f"%{letter}{k}" for k in range(n_sources + 1))
    out = evaluate(f"{operation}.{mode}.{kind} {names};", *columns)
    wanted = [exact(operation, form, words, mode) for words in zip(*columns, strict=True)]
    compared = [(words, hex(o), hex(w)) for *words, o, w in zip(*columns, out, wanted, strict=True) if w is not None]
    assert len(compared) > 300
    assert not [case for case in compared if case[1] != case[2]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FORMATS)
def test_square_root(kind, mode):
    form, letter = FORMATS[kind]
    words = [w for w in form.samples(600, 0) if not w & form.sign and 0 < w < form.infinity]
    for word, out in zip(words, evaluate(f"sqrt.{mode}.{kind} %{letter}0, %{letter}1;", words), strict=True):
        x, root = form.value(word), form.value(out)
        below, above = Fraction(form.value(out - 1)), Fraction(form.value(out + 1))
        low = {"rn": ((below + root) / 2) ** 2, "rz": root**2, "rm": root**2, "rp": below**2}[mode]
        high = {"rn": ((above + root) / 2) ** 2, "rz": above**2, "rm": above**2, "rp": root**2}[mode]
        assert low <= x <= high
        assert mode == "rn" or x not in (low, high) or x == root**2


def test_rn_is_the_default_of_sums_and_products():
    a, b = F32.samples(200, 0), F32.samples(200, 1)
    for operation in ("add", "sub", "mul"):
        assert evaluate(f"{operation}.f32 %r0, %r1, %r2;", a, b) == evaluate(f"{operation}.rn.f32 %r0, %r1, %r2;", a, b)


INF, ONE, TINY, NEGATIVE_ZERO = f32(math.inf), f32(1.0), 1, 0x80000000


@pytest.mark.parametrize(
    ("instruction", "a", "b", "wanted"),
    [
        ("add.f32 %r0, %r1, %r2;", INF, f32(-math.inf), NAN),
        ("mul.f32 %r0, %r1, %r2;", INF, 0, NAN),
        ("add.f32 %r0, %r1, %r2;", 0xFFC12345, ONE, NAN),  # payloads are not kept
        ("div.rn.f32 %r0, %r1, %r2;", ONE, 0, INF),
        ("div.rn.f32 %r0, %r1, %r2;", 0, 0, NAN),
        ("div.rz.f32 %r0, %r1, %r2;", f32(-1.0), 0, f32(-math.inf)),
        ("add.rm.f32 %r0, %r1, %r2;", ONE, f32(-1.0), NEGATIVE_ZERO),
        ("add.rn.f32 %r0, %r1, %r2;", ONE, f32(-1.0), 0),
        ("add.rn.f32 %r0, %r1, %r2;", TINY, TINY, 2),
        ("add.rn.ftz.f32 %r0, %r1, %r2;", TINY, TINY, 0),
        ("add.rz.ftz.f32 %r0, %r1, %r2;", ONE, f32(-(2.0**-25)), ONE - 1),
        ("add.ftz.f32 %r0, %r1, %r2;", NEGATIVE_ZERO | TINY, NEGATIVE_ZERO | TINY, NEGATIVE_ZERO),
        ("mul.rn.ftz.f32 %r0, %r1, %r2;", f32(-(2.0**-100)), f32(2.0**-40), NEGATIVE_ZERO),
        ("mul.rn.f32 %r0, %r1, %r2;", f32(-(2.0**-100)), f32(2.0**-40), NEGATIVE_ZERO | 1 << 9),
        ("fma.rn.ftz.f32 %r0, %r1, %r2, %r2;", TINY, ONE, ONE),
        ("add.sat.f32 %r0, %r1, %r2;", ONE, ONE, ONE),
        ("add.sat.f32 %r0, %r1, %r2;", f32(-3.0), ONE, 0),
        ("mul.sat.f32 %r0, %r1, %r2;", NAN, ONE, 0),
        ("mul.rz.sat.f32 %r0, %r1, %r2;", f32(0.5), ONE, f32(0.5)),
        ("min.f32 %r0, %r1, %r2;", NAN, ONE, ONE),
        ("min.f32 %r0, %r1, %r2;", NAN, 0xFFC00000, NAN),
        ("max.f32 %r0, %r1, %r2;", ONE, NAN, ONE),
        ("min.f32 %r0, %r1, %r2;", 0, NEGATIVE_ZERO, NEGATIVE_ZERO),
        ("max.f32 %r0, %r1, %r2;", NEGATIVE_ZERO, 0, 0),
        ("max.NaN.f32 %r0, %r1, %r2;", NAN, ONE, NAN),
        ("min.ftz.f32 %r0, %r1, %r2;", TINY, ONE, 0),
        ("min.NaN.xorsign.abs.f32 %r0, %r1, %r2;", f32(-2.0), ONE, f32(-1.0)),
        ("max.xorsign.abs.f32 %r0, %r1, %r2;", f32(-2.0), f32(-3.0), f32(3.0)),
        ("min.NaN.xorsign.abs.f32 %r0, %r1, %r2;", NAN, f32(-1.0), NAN),
        ("neg.f32 %r0, %r1;", 0xFFC12345, 0, 0x7FC12345),
        ("abs.f32 %r0, %r1;", f32(-2.5), 0, f32(2.5)),
        ("abs.ftz.f32 %r0, %r1;", NEGATIVE_ZERO | TINY, 0, 0),
        ("copysign.f32 %r0, %r1, %r2;", f32(-2.0), f32(3.0), f32(-3.0)),
        ("sqrt.rn.f32 %r0, %r1;", f32(-1.0), 0, NAN),
        ("sqrt.rn.f32 %r0, %r1;", NEGATIVE_ZERO, 0, NEGATIVE_ZERO),
        ("rcp.rn.f32 %r0, %r1;", NEGATIVE_ZERO, 0, f32(-math.inf)),
        ("rcp.rz.f32 %r0, %r1;", f32(3.0), 0, f32(1 / 3) - 1),
        ("ex2.approx.ftz.f32 %r0, %r1;", f32(3.0), 0, f32(8.0)),
        ("ex2.approx.ftz.f32 %r0, %r1;", f32(-127.0), 0, 0),
        ("ex2.approx.f32 %r0, %r1;", f32(-127.0), 0, 1 << 22),
        ("ex2.approx.f32 %r0, %r1;", f32(-math.inf), 0, 0),
        ("lg2.approx.f32 %r0, %r1;", NEGATIVE_ZERO, 0, f32(-math.inf)),
        ("lg2.approx.f32 %r0, %r1;", f32(-1.0), 0, NAN),
        ("rsqrt.approx.f32 %r0, %r1;", NEGATIVE_ZERO, 0, f32(-math.inf)),
        ("rsqrt.approx.f32 %r0, %r1;", INF, 0, 0),
        ("sin.approx.f32 %r0, %r1;", INF, 0, NAN),
        ("tanh.approx.f32 %r0, %r1;", f32(-math.inf), 0, f32(-1.0)),
        ("div.full.f32 %r0, %r1, %r2;", f32(1.0), f32(4.0), f32(0.25)),
    ],
)  # fmt: skip
def test_special_values(instruction, a, b, wanted):
    assert [hex(x) for x in evaluate(instruction, [a], [b])] == [hex(wanted)]


@pytest.mark.parametrize(
    ("instruction", "function", "error"),
    [
        ("ex2.approx.f32", lambda x: 2.0**x, 2**-22), ("lg2.approx.f32", math.log2, 2**-22),
        ("rcp.approx.f32", lambda x: 1 / x, 2**-23), ("rsqrt.approx.f32", lambda x: x**-0.5, 2**-22.9),
        ("sqrt.approx.f32", math.sqrt, 2**-23), ("tanh.approx.f32", math.tanh, 2**-11),
        ("sin.approx.f32", math.sin, 2**-20.9), ("cos.approx.f32", math.cos, 2**-20.9),
    ],
)  # fmt: skip
def test_approximations_are_within_their_bounds(instruction, function, error):
    words = [f32(x / 7 + 0.01) for x in range(300)]
    for word, out in zip(words, evaluate(f"{instruction} %r0, %r1;", words), strict=True):
        x, y = float(F32.value(word)), float(F32.value(out))
        assert y == pytest.approx(function(x), rel=error, abs=error)


def test_double_precision_keeps_subnormals_and_the_upper_word_of_approximations():
    assert evaluate("add.f64 %d0, %d1, %d2;", [1], [1]) == [2]
    assert evaluate("rcp.approx.ftz.f64 %d0, %d1;", [f64(3.0)]) == [f64(1 / 3) & 0xFFFFFFFF00000000]
    assert evaluate("min.f64 %d0, %d1, %d2;", [f64(math.nan)], [f64(2.0)]) == [f64(2.0)]
    assert evaluate("neg.f64 %d0, %d1;", [f64(0.0)]) == [1 << 63]


def test_pairs_of_singles():
    low, high = F32.samples(200, 0), F32.samples(200, 1)
    pairs = [h << 32 | x for x, h in zip(low, high, strict=True)]
    for operation in ("add", "mul", "sub"):
        out = evaluate(f"{operation}.rn.f32x2 %d0, %d1, %d2;", pairs, pairs[::-1], target="sm_100a")
        parts = [evaluate(f"{operation}.rn.f32 %r0, %r1, %r2;", x, x[::-1]) for x in (low, high)]
        assert out == [h << 32 | x for x, h in zip(*parts, strict=True)]


COMPARISONS = {  # of a NaN and 1, of equal numbers, of a smaller and a larger one
    "eq": "010", "ne": "001", "lt": "001", "le": "011", "gt": "000", "ge": "010", "equ": "110", "neu": "101",
    "ltu": "101", "leu": "111", "gtu": "100", "geu": "110", "num": "011", "nan": "100",
}  # fmt: skip


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("kind", ["f32", "f64", "f16", "bf16", "ftz.f32"])
def test_comparisons(comparison, kind):
    letter, nan, one, two = {
        "f32": ("r", NAN, f32(1.0), f32(2.0)), "f64": ("d", f64(math.nan), f64(1.0), f64(2.0)),
        "f16": ("h", 0x7FFF, 0x3C00, 0x4000), "bf16": ("h", 0x7FFF, 0x3F80, 0x4000), "ftz.f32": ("r", NAN, 2, f32(1.0)),
    }[kind]  # fmt: skip
    out = evaluate(f"setp.{comparison}.{kind} %p0, %{letter}1, %{letter}2;", [nan, one, one], [one, one, two])
    assert "".join(map(str, out)) == COMPARISONS[comparison]


def test_flushed_comparison_of_subnormals():
    assert evaluate("setp.eq.ftz.f32 %p0, %r1, %r2;", [1], [2]) == [1]
    assert evaluate("setp.eq.f32 %p0, %r1, %r2;", [1], [2]) == [0]


@pytest.mark.parametrize("connective", ["and", "or", "xor"])
def test_comparison_combined_with_a_predicate_and_its_complement(connective):
    cases = list(itertools.product([0, 1], repeat=2))
    for negated in ("", "!"):
        out = evaluate(
            f"setp.ne.b32 %p3, %r2, 0; setp.eq.{connective}.b32 %p1|%p2, %r1, 1, {negated}%p3;"
            "selp.b32 %r4, 1, 0, %p1; selp.b32 %r5, 2, 0, %p2; or.b32 %r0, %r4, %r5;",
            [a for a, _ in cases], [b for _, b in cases],
        )  # fmt: skip
        combine = {"and": lambda x, y: x & y, "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y}[connective]
        third = [b ^ bool(negated) for _, b in cases]
        assert out == [combine(a, c) | combine(1 - a, c) << 1 for (a, _), c in zip(cases, third, strict=True)]
