"""Half precision and bfloat16, alone and in pairs, against exact fractions."""

import math
from fractions import Fraction

import pytest

from tests.ptx.support import BF16, F16, evaluate
from tests.ptx.test_floats import exact

FORMATS = {"f16": F16, "bf16": BF16}


def pairs(low: list[int], high: list[int]) -> list[int]:
    return [h << 16 | x for x, h in zip(low, high, strict=True)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "fma"])
def test_is_rounded_once(operation, kind):
    form = FORMATS[kind]
    n_sources = 3 if operation == "fma" else 2
    columns = [form.samples(900, seed) for seed in range(n_sources)]
    name = f"{operation}.rn.{kind}" if operation == "fma" else f"{operation}.{kind}"
    out = evaluate(f"{name} " + ", ".join(f"%h{k}" for k in range(n_sources + 1)) + ";", *columns)
    for *words, o in zip(*columns, out, strict=True):
        wanted = exact(operation, form, tuple(words), "rn")
        assert wanted is None or (*map(hex, words), hex(o)) == (*map(hex, words), hex(wanted))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("operation", ["add", "sub", "mul", "min", "max", "min.NaN", "max.NaN", "fma.rn", "neg", "abs"])
def test_pairs_are_two_numbers(operation, kind):
    form = FORMATS[kind]
    n_sources = {"fma.rn": 3, "neg": 1, "abs": 1}.get(operation, 2)
    low, high = ([form.samples(300, seed + shift) for seed in range(n_sources)] for shift in (0, 9))
    names = [", ".join(f"%{letter}{k}" for k in range(n_sources + 1)) for letter in "rh"]
    out = evaluate(f"{operation}.{kind}x2 {names[0]};", *map(pairs, low, high))
    alone = [evaluate(f"{operation}.{kind} {names[1]};", *columns) for columns in (low, high)]
    assert out == pairs(*alone)


@pytest.mark.parametrize(
    ("instruction", "words", "wanted"),
    [
        ("fma.rn.f16 %h0, %h1, %h1, %h2;", (0x3C01, 0xBC02), 0x0010),  # what a product rounded by itself would lose
        ("fma.rn.bf16 %h0, %h1, %h1, %h2;", (0x3F81, 0xBF82), 0x3880),
        ("add.f16 %h0, %h1, %h2;", (0x7BFF, 0x4C00), 0x7C00),  # 65504 + 16 is halfway, and goes to infinity
        ("add.f16 %h0, %h1, %h2;", (0x7BFF, 0x4BFF), 0x7BFF),
        ("add.f16 %h0, %h1, %h2;", (0x0001, 0x0001), 0x0002),  # subnormals are kept
        ("add.bf16 %h0, %h1, %h2;", (0x0001, 0x0001), 0x0002),
        ("add.f16 %h0, %h1, %h2;", (0x7C00, 0xFC00), 0x7FFF),
        ("mul.bf16 %h0, %h1, %h2;", (0x7F80, 0x0000), 0x7FFF),
        ("min.f16 %h0, %h1, %h2;", (0x7E00, 0x3C00), 0x3C00),
        ("min.NaN.f16 %h0, %h1, %h2;", (0x7E00, 0x3C00), 0x7FFF),
        ("min.f16 %h0, %h1, %h2;", (0x0000, 0x8000), 0x8000),
        ("max.bf16 %h0, %h1, %h2;", (0x8000, 0x0000), 0x0000),
        ("neg.f16 %h0, %h1;", (0x7E01, 0), 0xFE01),
        ("fma.rn.relu.f16 %h0, %h1, %h2, %h2;", (0x3C00, 0xBC00), 0x0000),
        ("ex2.approx.f16 %h0, %h1;", (0x4200, 0), 0x4800),
        ("ex2.approx.ftz.bf16 %h0, %h1;", (0xC000, 0), 0x3E80),
        ("tanh.approx.f16 %h0, %h1;", (0x7C00, 0), 0x3C00),
    ],
)
def test_special_values(instruction, words, wanted):
    assert [hex(x) for x in evaluate(instruction, *([w] for w in words))] == [hex(wanted)]


def test_functions_of_halves_are_correctly_rounded():
    words = list(range(0x3000, 0x4600, 37))
    for word, out in zip(words, evaluate("tanh.approx.f16 %h0, %h1;", words), strict=True):
        assert out == F16.round(Fraction(math.tanh(float(F16.value(word)))))
