"""Convolutions with packed weights and residual units against the reference, and that no cut changes a bit."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.bound import ATOL
from silk_fast.cpu import convolution, ops
from silk_fast.reference import ops as reference
from tests.cpu.support import assert_op_matches, normal, positive

pytestmark = pytest.mark.usefixtures("level")

SHAPES = {  # (C, C', K, stride, dilation, T)
    "first of a codec": (1, 32, 7, 1, 1, 700),
    "down by 8": (32, 64, 16, 8, 1, 800),
    "down by 30": (12, 256, 60, 30, 1, 120),
    "taps are no multiple of the stride": (3, 5, 7, 3, 1, 99),
    "taps are fewer than the stride": (4, 6, 2, 5, 1, 45),
    "dilated": (8, 8, 7, 1, 9, 301),
    "last of a codec": (96, 1, 7, 1, 1, 500),
    "large weight": (384, 130, 3, 1, 1, 100),
    "one sample": (5, 3, 3, 1, 1, 1),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def weights(n_in: int, n_out: int, taps: int) -> tuple[Tensor, Tensor]:
    return normal(n_out, n_in, taps, seed=1) / (n_in * taps) ** 0.5, normal(n_out, seed=2)


@shapes
@pytest.mark.parametrize("options", ["plain", "context", "snake", "elu", "residual"])
def test_conv1d(shape, options):
    n_in, n_out, taps, stride, dilation, n_time = shape
    left = max(0, (taps - 1) * dilation + 1 - stride)
    n_columns = (left + n_time - (taps - 1) * dilation - 1) // stride + 1
    snake = (positive(n_in, seed=3), positive(n_in, seed=4)) if options == "snake" else None

    def arguments_of(x: Tensor, context: Tensor, residual: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return (context if options == "context" else None), (residual if options == "residual" else None)

    def ours(x, weight, bias, *rest):
        packed = ops.PackedConvolution(weight, bias, stride, dilation, snake, elu=options == "elu")
        return ops.conv1d(x, packed, *arguments_of(x, *rest), padding=(left, 0))

    def theirs(x, weight, bias, *rest):
        context, residual = arguments_of(x, *rest)
        extended = torch.cat([x.new_zeros(2, n_in, left) if context is None else context, x], -1)
        if snake:
            extended = reference.snake(extended, *(constant.to(x) for constant in snake))
        if options == "elu":
            extended = F.elu(extended)
        y = F.conv1d(extended, weight, bias, stride, dilation=dilation)
        return y if residual is None else y + residual

    operands = [normal(2, n_in, n_time), *weights(n_in, n_out, taps), normal(2, n_in, left, seed=5)]
    assert_op_matches(ours, theirs, [*operands, normal(2, n_out, n_columns, seed=6)], torch.float32)


TRANSPOSED = {  # (C, C', stride, padding, output padding, T)
    "even": (32, 18, 2, 1, 0, 250),
    "odd": (12, 7, 5, 3, 1, 133),
    "up by 8": (33, 16, 8, 4, 0, 110),
    "one sample": (5, 3, 3, 2, 1, 1),
    "nothing is left out": (4, 4, 1, 0, 0, 97),
}
transposed = pytest.mark.parametrize("shape", TRANSPOSED.values(), ids=TRANSPOSED)


@transposed
@pytest.mark.parametrize("with_snake", [False, True])
def test_conv_transpose1d(shape, with_snake):
    n_in, n_out, stride, padding, output_padding, n_time = shape
    snake = (positive(n_in, seed=3), positive(n_in, seed=4)) if with_snake else None

    def ours(x, weight, bias):
        return ops.conv_transpose1d(x, ops.PackedTransposed(weight, bias, snake), (padding, padding - output_padding))

    def theirs(x, weight, bias):
        x = reference.snake(x, *(constant.to(x) for constant in snake)) if snake else x
        return F.conv_transpose1d(x, weight, bias, stride, padding, output_padding)

    weight = normal(n_in, n_out, 2 * stride, seed=1) / (2 * n_in) ** 0.5
    assert_op_matches(ours, theirs, [normal(2, n_in, n_time), weight, normal(n_out, seed=2)], torch.float32)


@transposed
def test_no_batch_and_no_number_of_threads_changes_a_bit_of_a_transposed_convolution(shape, monkeypatch):
    n_in, n_out, stride, padding, output_padding, n_time = shape
    monkeypatch.setattr("silk_fast.cpu.convolution.SMALL", 0)
    packed = ops.PackedTransposed(normal(n_in, n_out, 2 * stride, seed=1), None)
    x = normal(3, n_in, n_time)
    assert_same_bits(lambda x: ops.conv_transpose1d(x, packed, (padding, padding - output_padding)), x)


def assert_same_bits(function: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Every signal of a batch has the bits that it has alone, and on another number of threads."""
    whole = function(x)
    assert torch.equal(torch.cat([function(row[None]) for row in x]), whole)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(function(x), whole)
    finally:
        torch.set_num_threads(n_threads)


ELU_UNITS = [(32, 16, 3, 1, 700), (5, 3, 3, 2, 100), (64, 20, 1, 1, 61), (1, 1, 7, 3, 1)]


@pytest.mark.parametrize("is_beside", [False, True])
@pytest.mark.parametrize(("n_channels", "n_hidden", "taps", "dilation", "n_time"), ELU_UNITS)
def test_residual_unit_with_elus_and_another_convolution_beside(
    n_channels, n_hidden, taps, dilation, n_time, is_beside, monkeypatch
):
    monkeypatch.setattr("silk_fast.cpu.convolution.SMALL", 0)

    def ours(x, context, w1, bias1, w2, bias2, beside, bias):
        weight, bias = (torch.cat([w2, beside], 1), bias2 + bias) if is_beside else (w2, bias2)
        units = (
            ops.PackedConvolution(w1, bias1, dilation=dilation, elu=True),
            ops.PackedConvolution(weight, bias, elu=True),
        )
        whole = ops.residual_unit(x, *units, context)
        assert_same_bits(lambda x: ops.residual_unit(x, *units), x)
        n_left = context.shape[-1]
        if n_time > n_left:
            late = ops.residual_unit(x[..., n_left:], *units, x[..., :n_left])
            assert torch.equal(late, whole[..., n_left:])
        return whole

    def theirs(x, context, w1, bias1, w2, bias2, beside, bias):
        hidden = F.conv1d(F.elu(torch.cat([context, x], -1)), w1, bias1, dilation=dilation)
        return F.conv1d(F.elu(hidden), w2, bias2) + (F.conv1d(x, beside, bias) if is_beside else x)

    context = normal(2, n_channels, (taps - 1) * dilation, seed=7)
    operands = [
        *weights(n_channels, n_hidden, taps),
        *weights(n_hidden, n_channels, 1),
        *weights(n_channels, n_channels, 1),
    ]
    assert_op_matches(ours, theirs, [normal(2, n_channels, n_time), context, *operands], torch.float32)


def test_elu_is_exact_beside_zero_and_far_from_it():
    x = torch.cat([-torch.logspace(-30, 3, 1000), torch.logspace(-30, 3, 1000), torch.tensor([0.0, -0.0])])
    x = torch.cat([x, torch.tensor([torch.inf, -torch.inf, torch.nan])])
    identity = ops.PackedConvolution(torch.ones(1, 1, 1), elu=True)
    exact = F.elu(x.double())
    ours = ops.conv1d(x[None, None], identity)[0, 0].double()
    torch.testing.assert_close(ours, exact, rtol=2.5e-7, atol=0, equal_nan=True)


UNITS = [(32, 1, 700), (5, 9, 100), (96, 3, 64), (1, 1, 1), (20, 30, 400)]


@pytest.mark.parametrize("kind", ["fast", "depthwise"])
@pytest.mark.parametrize(("n_channels", "dilation", "n_time"), UNITS)
def test_residual_unit_of_another_kind(n_channels, dilation, n_time, kind):
    groups = n_channels if kind == "depthwise" else 1

    def ours(x, w1, bias1, w2, bias2, *snakes):
        dilated = ops.PackedConvolution(w1, bias1, dilation=dilation, snake=snakes[:2], **{kind: True})
        pointwise = ops.PackedConvolution(w2, bias2, snake=snakes[2:])
        return ops.residual_unit(x, dilated, pointwise, padding="symmetric")

    def theirs(x, w1, bias1, w2, bias2, *snakes):
        sizes = {"padding": 3 * dilation, "dilation": dilation, "groups": groups}
        hidden = F.conv1d(reference.snake(x, *snakes[:2]), w1, bias1, **sizes)
        return x + F.conv1d(reference.snake(hidden, *snakes[2:]), w2, bias2)

    snakes = [positive(n_channels, seed=seed) for seed in range(3, 7)]
    first, second = weights(n_channels // groups, n_channels, 7), weights(n_channels, n_channels, 1)
    operands = [normal(2, n_channels, n_time), *first, *second, *snakes]
    if kind == "depthwise":
        assert_op_matches(ours, theirs, operands, torch.float32)
    else:  # sums of inputs are rounded once more
        exact = theirs(*(operand.double() for operand in operands))
        errors = [(function(*operands) - exact).abs().max().item() for function in (ours, theirs)]
        assert errors[0] <= 4 * errors[1] + ATOL[torch.float32]


@pytest.mark.parametrize("kind", ["plain", "fast", "depthwise"])
@pytest.mark.parametrize(("n_channels", "dilation", "n_time"), UNITS)
def test_no_batch_and_no_number_of_threads_changes_a_bit_of_a_unit(n_channels, dilation, n_time, kind, monkeypatch):
    monkeypatch.setattr("silk_fast.cpu.convolution.SMALL", 0)
    snake = positive(n_channels, seed=3), positive(n_channels, seed=4)
    n_in = 1 if kind == "depthwise" else n_channels
    options = {} if kind == "plain" else {kind: True}
    dilated = ops.PackedConvolution(*weights(n_in, n_channels, 7), dilation=dilation, snake=snake, **options)
    pointwise = ops.PackedConvolution(*weights(n_channels, n_channels, 1), snake=snake)
    x = normal(3, n_channels, n_time)
    assert_same_bits(lambda x: ops.residual_unit(x, dilated, pointwise, padding="symmetric"), x)


@pytest.mark.parametrize("padding", ["causal", "symmetric", "context"])
@pytest.mark.parametrize(("n_channels", "dilation", "n_time"), [(32, 1, 700), (5, 9, 100), (96, 3, 64), (1, 1, 1)])
def test_residual_unit(n_channels, dilation, n_time, padding):
    option = {"padding": "symmetric" if padding == "symmetric" else "causal"}
    context = normal(2, n_channels, 6 * dilation, seed=7) if padding == "context" else None

    def ours(x, a1, b1, w1, bias1, a2, b2, w2, bias2, *rest):
        dilated = ops.PackedConvolution(w1, bias1, dilation=dilation, snake=(a1, b1))
        return ops.residual_unit(x, dilated, ops.PackedConvolution(w2, bias2, snake=(a2, b2)), *rest, **option)

    def theirs(x, *operands):
        rest = {"context": operands[8]} if context is not None else {}
        return reference.residual_unit(x, *operands[:8], dilation=dilation, **rest, **option)

    snakes = [positive(n_channels, seed=seed) for seed in range(3, 7)]
    first, second = weights(n_channels, n_channels, 7), weights(n_channels, n_channels, 1)
    operands = [normal(2, n_channels, n_time), *snakes[:2], *first, *snakes[2:], *second]
    assert_op_matches(ours, theirs, operands + ([] if context is None else [context]), torch.float32)


@shapes
def test_no_cut_no_batch_and_no_number_of_threads_changes_a_bit(shape, monkeypatch):
    n_in, n_out, taps, stride, dilation, _ = shape
    monkeypatch.setattr("silk_fast.cpu.convolution.SMALL", 0)
    packed = ops.PackedConvolution(*weights(n_in, n_out, taps), stride, dilation)
    left, x = max(0, packed.reach), normal(3, n_in, 40 * stride)
    whole = ops.conv1d(x, packed, padding=(left, 0))
    cut = left + 7 * stride  # the context of what follows
    extended = F.pad(x, (left, 0))
    start = ops.conv1d(x[..., : cut - left], packed, padding=(left, 0))
    rest = ops.conv1d(x[..., cut - left :], packed, extended[..., cut - left : cut].contiguous(), padding=(left, 0))
    assert torch.equal(torch.cat([start, rest], -1), whole)
    assert_same_bits(lambda x: ops.conv1d(x, packed, padding=(left, 0)), x)


def test_memory_of_any_kind():
    packed = ops.PackedConvolution(*weights(6, 4, 3))
    x = normal(2, 6, 50)
    expected = ops.conv1d(x, packed)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    unaligned = torch.empty(x.numel() + 1)[1:].view_as(x).copy_(x)
    assert torch.equal(ops.conv1d(strided, packed), expected)
    assert torch.equal(ops.conv1d(unaligned, packed), expected)
    assert ops.conv1d(x[..., :0], packed).shape == (2, 4, 0)
    assert ops.conv1d(x[:0], packed).shape == (0, 4, 50)


def test_nan_and_infinity_reach_what_reads_them_and_no_more():
    weight, bias = weights(2, 9, 3)
    packed = ops.PackedConvolution(weight, bias)
    for value in (float("nan"), float("inf")):
        x = normal(1, 2, 200)
        x[0, 1, 100] = value
        expected = F.conv1d(F.pad(x, (2, 0)), weight, bias)
        torch.testing.assert_close(ops.conv1d(x, packed), expected, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, c: ops.conv1d(x.double(), c), TypeError, "x must be torch.float32|x must be float32"),
        (lambda x, c: ops.conv1d(x[:, :1], c), ValueError, r"x must be \[B, 2, T\], got \[1, 1, 9\]"),
        (lambda x, c: ops.conv1d(x, c, x[..., :1]), ValueError, r"context must be \[1, 2, 2\], got \[1, 2, 1\]"),
        (lambda x, c: ops.conv1d(x, c, None, x), ValueError, r"residual must be \[1, 4, 9\], got \[1, 2, 9\]"),
        (lambda x, c: ops.PackedConvolution(x[0]), ValueError, r"weight must be \[C', C, K\] and not empty"),
        (lambda x, c: ops.PackedConvolution(x, None, 2, 2), ValueError, "stride or dilation must be 1, got 2 and 2"),
        (lambda x, c: ops.PackedConvolution(x, x[0, 0]), ValueError, r"bias must be \[1\], got \[9\]"),
        (lambda x, c: ops.PackedConvolution(x, fast=True), ValueError, r"fast needs weight \[C, C, 7\]"),
        (lambda x, c: ops.PackedConvolution(x, depthwise=True), ValueError, r"depthwise needs weight \[C, 1, K\]"),
        (lambda x, c: ops.PackedTransposed(x), ValueError, r"weight must be \[C, C', 2 \* stride\]"),
        (lambda x, c: ops.conv_transpose1d(x, c), ValueError, "convolution must be transposed, got one that is plain"),
        (
            lambda x, c: ops.conv_transpose1d(x, ops.PackedTransposed(x.transpose(0, 1)[..., :4]), (1, -1)),
            ValueError,
            r"crop must be two numbers of outputs, got \(1, -1\)",
        ),
        (
            lambda x, c: ops.PackedConvolution(x, snake=(x[0, :, 0].abs(),) * 2, elu=True),
            ValueError,
            "elu must be False where there is a snake",
        ),
        (
            lambda x, c: ops.residual_unit(x, c, c),
            ValueError,
            "pointwise must be from 4 to 2 channels, or from 6, got from 2 to 4",
        ),
        (
            lambda x, c: ops.residual_unit(x, c, ops.PackedConvolution(*weights(4, 2, 3))),
            ValueError,
            "pointwise must be plain and of one tap, got plain and 3",
        ),
        (
            lambda x, c: ops.residual_unit(x, ops.PackedConvolution(*weights(2, 2, 2), 2), c),
            ValueError,
            "dilated must have stride 1, got 2",
        ),
        (
            lambda x, c: ops.residual_unit(
                x, ops.PackedConvolution(*weights(2, 2, 7), fast=True), ops.PackedConvolution(*weights(4, 2, 1))
            ),
            ValueError,
            "dilated must not be fast where pointwise reads the channels of x too",
        ),
        (
            lambda x, c: ops.residual_unit(x, c, ops.PackedConvolution(*weights(4, 2, 1)), padding="same"),
            ValueError,
            "padding must be 'causal' or 'symmetric', got 'same'",
        ),
        (lambda x, c: ops.conv1d(torch._neg_view(x), c), ValueError, "got a view of its negative: call resolve_neg"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(1, 2, 9), ops.PackedConvolution(*weights(2, 4, 3)))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, "meta"], ids=str)
def test_results_have_the_dtype_and_device_of_the_signal_whatever_the_default_is(default):
    x, square = normal(1, 4, 50), normal(4, 4, 7)
    packed = ops.PackedTransposed(normal(4, 3, 8))
    expected = ops.conv_transpose1d(x, packed)
    fast = ops.PackedConvolution(square, fast=True)._tensors[0]
    before = torch.get_default_dtype()
    try:
        if default == "meta":
            with torch.device("meta"):
                found = ops.conv_transpose1d(x, packed), ops.PackedConvolution(square, fast=True)._tensors[0]
        else:
            torch.set_default_dtype(default)
            found = ops.conv_transpose1d(x, packed), ops.PackedConvolution(square, fast=True)._tensors[0]
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], fast)


@pytest.fixture(params=["pairs", "matrices"])
def half_form(request, monkeypatch) -> None:
    """Multiply bfloat16 by vectors of pairs, and by matrices."""
    if reason := ops.why_no_bfloat16():
        pytest.skip(reason)
    if request.param == "matrices" and not convolution.has_matrices():
        pytest.skip("this processor does not multiply matrices (AMX)")
    monkeypatch.setattr(convolution, "has_matrices", lambda: request.param == "matrices")


WIDE = (33, 49, 3, 1, 2, 71)  # more than one matrix of rows and of channels, none of them full


@pytest.mark.usefixtures("half_form")
@pytest.mark.parametrize("shape", [*(shape for shape in SHAPES.values() if shape[2] % shape[3] == 0), WIDE])
def test_half_multiplies_rounded_operands_and_adds_in_float32(shape):
    n_in, n_out, taps, stride, dilation, n_time = shape
    weight, bias = weights(n_in, n_out, taps)
    packed = ops.PackedConvolution(weight, bias, stride, dilation, half=True)
    x, left = normal(2, n_in, n_time), max(0, packed.reach)
    operands = (F.pad(x, (left, 0)).bfloat16().double(), weight.bfloat16().double(), bias.double())
    exact = F.conv1d(*operands, stride, dilation=dilation)
    torch.testing.assert_close(ops.conv1d(x, packed, padding=(left, 0)).double(), exact, rtol=0, atol=3e-6)


@pytest.mark.usefixtures("half_form")
@transposed
def test_half_transposed_convolution(shape):
    n_in, n_out, stride, padding, output_padding, n_time = shape
    weight, bias, x = normal(n_in, n_out, 2 * stride, seed=1), normal(n_out, seed=2), normal(2, n_in, n_time)
    packed = ops.PackedTransposed(weight, bias, half=True)
    operands = (x.bfloat16().double(), weight.bfloat16().double(), bias.double())
    exact = F.conv_transpose1d(*operands, stride, padding, output_padding)
    ours = ops.conv_transpose1d(x, packed, (padding, padding - output_padding)).double()
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("half_form")
@pytest.mark.parametrize("n", [5, 40])
def test_half_residual_unit(n):
    first, second = weights(n, n, 7), weights(n, n, 1)
    snakes = [(positive(n, seed=seed), positive(n, seed=seed + 1)) for seed in (3, 5)]
    packed = [
        [
            ops.PackedConvolution(*first, dilation=3, snake=snakes[0], half=half),
            ops.PackedConvolution(*second, snake=snakes[1], half=half),
        ]
        for half in (False, True)
    ]
    x = normal(2, n, 130)
    single, half = (ops.residual_unit(x, *pair) for pair in packed)
    error = (single - half).abs()
    assert 1e-4 < error.max() < 0.1
