"""cvt: between all types, with all roundings and saturation."""

import math
from fractions import Fraction

import pytest

from tests.ptx.support import BF16, F16, F32, F64, Format, evaluate, f32, f64

FLOATS = {"f16": (F16, "h"), "bf16": (BF16, "h"), "f32": (F32, "r"), "f64": (F64, "d")}
INTEGERS = {"u8": (8, "r"), "u16": (16, "h"), "u32": (32, "r"), "u64": (64, "d")}
INTEGERS |= {f"s{name[1:]}": value for name, value in INTEGERS.items()}
MODES = ["rn", "rz", "rm", "rp"]


def limits(kind: str) -> tuple[int, int]:
    bits = INTEGERS[kind][0]
    return (0, (1 << bits) - 1) if kind[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)


def number(word: int, kind: str) -> int:
    _, high = limits(kind)
    word &= (1 << INTEGERS[kind][0]) - 1
    return word - (1 << INTEGERS[kind][0]) if word > high else word


NARROWER = [("f64", "f32"), ("f64", "f16"), ("f64", "bf16"), ("f32", "f16"), ("f32", "bf16")]
WIDER = [("f16", "f32"), ("bf16", "f32"), ("f32", "f64"), ("f16", "f64"), ("bf16", "f64")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("source", "to"), NARROWER)
def test_narrower_floats(source, to, mode):
    (wide, a), (narrow, d) = FLOATS[source], FLOATS[to]
    close = [Fraction(narrow.value(w)) for w in narrow.samples(300, 1) if is_finite(narrow, w)]
    words = wide.samples(500, 0) + [wide.round(x * factor) for x in close for factor in near()]
    for word, out in zip(words, evaluate(f"cvt.{mode}.{to}.{source} %{d}0, %{a}1;", words), strict=True):
        value = wide.value(word)
        if isinstance(value, Fraction):
            assert (hex(word), hex(out)) == (hex(word), hex(narrow.round(value, mode)))
        elif math.isnan(value):
            assert out == narrow.sign - 1
        else:
            assert out == (narrow.infinity if math.isinf(value) else 0) | (narrow.sign if word & wide.sign else 0)


def near() -> list[Fraction]:
    return [Fraction(1), 1 + Fraction(1, 1 << 11), 1 + Fraction(1, 1 << 8), 1 + Fraction(3, 1 << 9)]


def is_finite(form: Format, word: int) -> bool:
    return isinstance(form.value(word), Fraction)


@pytest.mark.parametrize(("source", "to"), WIDER)
def test_wider_floats_are_exact(source, to):
    (narrow, a), (wide, d) = FLOATS[source], FLOATS[to]
    words = narrow.samples(900, 0)
    for word, out in zip(words, evaluate(f"cvt.{to}.{source} %{d}0, %{a}1;", words), strict=True):
        value = narrow.value(word)
        assert wide.value(out) == value or (math.isnan(value) and math.isnan(wide.value(out)))
        assert math.isnan(value) or bool(out & wide.sign) == bool(word & narrow.sign)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("source", "to"), [(s, t) for s in FLOATS for t in INTEGERS if s != "bf16" or t not in ("u8", "s8")]
)
def test_floats_to_integers(source, to, mode):
    form, a = FLOATS[source]
    bits, d = INTEGERS[to]
    low, high = limits(to)
    edges = [form.round(Fraction(x) + y) for x in (low, high, 0, 3) for y in (0, Fraction(1, 2), Fraction(-3, 4), 1)]
    words = form.samples(300, 0) + [w for w in edges if is_finite(form, w)]
    function = {"rn": round, "rz": math.trunc, "rm": math.floor, "rp": math.ceil}[mode]
    for word, out in zip(words, evaluate(f"cvt.{mode}i.{to}.{source} %{d}0, %{a}1;", words), strict=True):
        value = form.value(word)
        if isinstance(value, float) and math.isnan(value):  # 0 between types of at most 32 bits
            wanted = 1 << bits - 1 if source == "f64" or bits == 64 else 0
        elif isinstance(value, float) and math.isinf(value):
            wanted = high if value > 0 else low
        else:
            wanted = min(max(function(Fraction(value)), low), high)
        width = 64 if d == "d" else 32 if d == "r" else 16
        assert (hex(word), out) == (hex(word), wanted & (1 << width) - 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("to", FLOATS)
@pytest.mark.parametrize("source", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_integers_to_floats(source, to, mode):
    form, d = FLOATS[to]
    bits, a = INTEGERS[source]
    low, high = limits(source)
    values = [low, high, 0, 1, high - 1, high // 3, (1 << bits - 2) + 1]
    values += [max(low, high // 7 * k) for k in range(-6, 7)]
    values += [min(high, (1 << k) + j) for k in range(bits - 1) for j in (0, 1, 3)]
    out = evaluate(f"cvt.{mode}.{to}.{source} %{d}0, %{a}1;", [v & (1 << bits) - 1 for v in values])
    wanted = [form.round(Fraction(v), mode) for v in values]
    assert list(zip(values, map(hex, out), strict=True)) == list(zip(values, map(hex, wanted), strict=True))


def holds(to: str, source: str) -> bool:
    return limits(to)[0] <= limits(source)[0] and limits(source)[1] <= limits(to)[1]


PAIRS = [(source, to, False) for source in INTEGERS for to in INTEGERS]
PAIRS += [(source, to, True) for source in INTEGERS for to in INTEGERS if not holds(to, source)]


@pytest.mark.parametrize(("source", "to", "saturates"), PAIRS)
def test_integers_to_integers(source, to, saturates):
    (_, a), (_, d) = INTEGERS[source], INTEGERS[to]
    low, high = limits(to)
    words = [w & (1 << 64) - 1 for k in (0, 7, 8, 15, 16, 31, 32, 63) for w in ((1 << k) - 1, 1 << k, -1 << k, 5)]
    out = evaluate(f"cvt{'.sat' * saturates}.{to}.{source} %{d}0, %{a}1;", words)
    width = {"d": 64, "r": 32, "h": 16}[d]
    for word, o in zip(words, out, strict=True):
        value = number(word, source)
        value = min(max(value, low), high) if saturates else number(value, to)
        assert (hex(word), o) == (hex(word), value & (1 << width) - 1)


@pytest.mark.parametrize(
    ("instruction", "word", "wanted"),
    [
        ("cvt.sat.f32.f32 %r0, %r1;", f32(1.5), f32(1.0)),
        ("cvt.sat.f32.f32 %r0, %r1;", f32(-0.5), 0),
        ("cvt.sat.f32.f32 %r0, %r1;", f32(math.nan), 0),
        ("cvt.rn.sat.f16.f32 %h0, %r1;", f32(2.0), 0x3C00),
        ("cvt.rn.relu.f16.f32 %h0, %r1;", f32(-2.0), 0),
        ("cvt.rn.relu.bf16.f32 %h0, %r1;", f32(math.nan), 0x7FFF),
        ("cvt.ftz.f32.f16 %r0, %h1;", 0x0001, f32(2.0**-24)),
        ("cvt.rn.ftz.f32.f64 %r0, %d1;", f64(2.0**-130), 0),
        ("cvt.rn.f32.f64 %r0, %d1;", f64(2.0**-130), 1 << 19),
        ("cvt.rni.f32.f32 %r0, %r1;", f32(2.5), f32(2.0)),
        ("cvt.rmi.f64.f64 %d0, %d1;", f64(-2.5), f64(-3.0)),
        ("cvt.rpi.f16.f16 %h0, %h1;", 0x3C01, 0x4000),
        ("cvt.rzi.ftz.s32.f32 %r0, %r1;", f32(-1.9), 0xFFFFFFFF),
        ("cvt.rni.f32.f32 %r0, %r1;", f32(-0.25), 0x80000000),
        ("cvt.rna.tf32.f32 %r0, %r1;", 0x3F801000, 0x3F802000),
        ("cvt.rna.tf32.f32 %r0, %r1;", 0x3F800FFF, 0x3F800000),
        ("cvt.rn.tf32.f32 %r0, %r1;", 0x3F801000, 0x3F800000),
        ("cvt.rn.tf32.f32 %r0, %r1;", 0x3F803000, 0x3F804000),
        ("cvt.rz.tf32.f32 %r0, %r1;", 0xBF803FFF, 0xBF802000),
        ("cvt.rna.tf32.f32 %r0, %r1;", f32(math.inf), f32(math.inf)),
        ("cvt.rna.tf32.f32 %r0, %r1;", 0x7F7FFFFF, f32(math.inf)),
        ("cvt.rna.tf32.f32 %r0, %r1;", 0xFF812345, 0x7FFFFFFF),
    ],
)
def test_special_values(instruction, word, wanted):
    assert [hex(x) for x in evaluate(instruction, [word])] == [hex(wanted)]


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rn.relu", "rz.relu"])
def test_pairs_hold_the_first_number_above(kind, mode):
    a, b = F32.samples(400, 0), F32.samples(400, 1)
    out = evaluate(f"cvt.{mode}.{kind}x2.f32 %r0, %r1, %r2;", a, b)
    high, low = (evaluate(f"cvt.{mode}.{kind}.f32 %h0, %r1;", x) for x in (a, b))
    assert out == [h << 16 | x for h, x in zip(high, low, strict=True)]
