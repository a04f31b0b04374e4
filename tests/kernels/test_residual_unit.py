"""Both forms of the residual unit (one kernel, two kernels) against the reference and against DAC of transformers."""

import importlib

import pytest
import torch
from silk_fast.kernels import INTERPRETED, pack_weights, residual_unit, residual_unit_channels_last
from torch import Tensor

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, in_turn, of_pytorch

module = importlib.import_module("silk_fast.kernels.residual_unit.launch")

# Compiled kernels refuse float32, which stays with cuDNN; the interpreter takes it to test the arithmetic.
SERVED = [d for d in DTYPES if INTERPRETED or d != torch.float32]


@pytest.fixture(params=["one_kernel", "two_kernels"])
def form(request, monkeypatch):
    """Which of the two forms serves up to 192 channels; shapes this small would all take two kernels."""
    monkeypatch.setattr(module, "_fills_card", lambda n_tiles, x: request.param == "one_kernel")


def make_parameters(n_channels: int, n_taps: int = 7) -> list[Tensor]:
    """``alpha1 .. bias2`` in the order of the op, float32."""

    def conv(n_taps: int) -> list[Tensor]:
        weight = torch.randn(n_channels, n_channels, n_taps) / (n_channels * n_taps) ** 0.5
        return [weight, 0.1 * torch.randn(n_channels)]

    def snake() -> list[Tensor]:
        return [0.2 + 3 * torch.rand(n_channels), 0.3 + torch.rand(n_channels)]

    return [*snake(), *conv(n_taps), *snake(), *conv(1)]


def cast(tensors: list[Tensor | None], dtype: torch.dtype) -> list[Tensor | None]:
    return [t if t is None else t.to(DEVICE, dtype) for t in tensors]


def assert_same(a: Tensor, b: Tensor) -> None:
    """Bit for bit; but the interpreter's products are BLAS calls, whose rounding depends on the row."""
    tolerance = {} if INTERPRETED else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize(
    ("case", "dtype"),
    in_turn(
        [
            ((1, 16, 1), 1, "causal"),
            ((3, 32, 7), 9, "causal"),
            ((2, 32, 63), 3, "symmetric"),
            ((1, 48, 63), 9, "symmetric"),
            ((2, 96, 20), 3, "causal"),
        ],
        SERVED,
    ),
    ids=str,
)
@pytest.mark.usefixtures("form")
def test_matches_reference(case, dtype):
    shape, dilation, padding = case
    torch.manual_seed(0)
    inputs = [torch.randn(shape), *make_parameters(shape[1]), dilation, None, padding]
    assert_op_matches(residual_unit, ops.residual_unit, inputs, [], dtype)


@pytest.mark.usefixtures("form")
def test_widest_unit_of_one_kernel_matches_reference():
    torch.manual_seed(9)
    inputs = [torch.randn(1, 192, 5), *make_parameters(192), 1]
    assert_op_matches(residual_unit, ops.residual_unit, inputs, [], torch.float16)


@pytest.mark.parametrize("n_time", [500, 1000])
def test_long_signal_matches_reference(n_time):
    torch.manual_seed(1)
    inputs = [torch.randn(2, 16, n_time), *make_parameters(16), 9]
    assert_op_matches(residual_unit, ops.residual_unit, inputs, [], torch.float16)


@pytest.mark.parametrize("fills", [True, False], ids=["large_tiles", "small_tiles"])
def test_wide_unit_matches_reference(fills, monkeypatch):
    monkeypatch.setattr(module, "_fills_card", lambda n_tiles, x: fills)
    torch.manual_seed(2)
    inputs = [torch.randn(1, 208, 9), *make_parameters(208, n_taps=3), 1]
    assert_op_matches(residual_unit, ops.residual_unit, inputs, [], torch.float16)


@pytest.mark.usefixtures("form")
def test_without_biases_and_with_three_taps():
    torch.manual_seed(3)
    alpha1, beta1, weight1, _, alpha2, beta2, weight2, _ = make_parameters(32, n_taps=3)
    inputs = [torch.randn(2, 32, 11), alpha1, beta1, weight1, None, alpha2, beta2, weight2, None, 2]
    assert_op_matches(residual_unit, ops.residual_unit, inputs, [], torch.float16)


@pytest.mark.parametrize("dtype", SERVED, ids=str)
@pytest.mark.usefixtures("form")
def test_chunks_with_context_equal_the_whole(dtype):
    torch.manual_seed(4)
    dilation, reach = 3, 18
    parameters = cast(make_parameters(32), dtype)
    x = torch.randn(2, 32, 45, device=DEVICE, dtype=dtype)
    whole = residual_unit(x, *parameters, dilation)
    context, chunks = x.new_zeros(2, 32, reach), []
    for chunk in x.split([1, 7, 24, 13], dim=-1):
        chunks.append(residual_unit(chunk, *parameters, dilation, context))
        context = torch.cat([context, chunk], dim=-1)[..., -reach:]
    assert_same(torch.cat(chunks, dim=-1), whole)


def test_both_forms_round_alike(monkeypatch):
    torch.manual_seed(10)
    x, parameters = torch.randn(2, 96, 12, device=DEVICE), make_parameters(96)
    results = []
    for fills in (True, False):
        monkeypatch.setattr(module, "_fills_card", lambda n_tiles, x, fills=fills: fills)
        results.append(residual_unit(x.half(), *cast(parameters, torch.float16), 3))
    assert_same(*results)


@pytest.mark.parametrize("dtype", SERVED, ids=str)
@pytest.mark.usefixtures("form")
def test_context_matches_reference(dtype):
    torch.manual_seed(5)
    inputs = [torch.randn(2, 48, 7), *make_parameters(48), 3, torch.randn(2, 48, 18)]
    assert_op_matches(residual_unit, ops.residual_unit, inputs, [], dtype)


@pytest.mark.parametrize(("dilation", "dtype"), in_turn([1, 9], SERVED), ids=str)
@pytest.mark.usefixtures("form")
def test_matches_dac_of_transformers(dilation, dtype):
    dac = pytest.importorskip("transformers.models.dac.modeling_dac")
    torch.manual_seed(6)
    peer = dac.DacResidualUnit(32, dilation)
    for snake in (peer.snake1, peer.snake2):
        torch.nn.init.uniform_(snake.alpha, 0.3, 2.0)
    x = torch.randn(2, 32, 30)

    def ours(x: Tensor) -> Tensor:
        unit = peer.to(x)
        alphas = [s.alpha.flatten() for s in (unit.snake1, unit.snake2)]
        convs = [(c.weight, c.bias) for c in (unit.conv1, unit.conv2)]
        first, second = ([a, a, *c] for a, c in zip(alphas, convs, strict=True))
        return residual_unit(x, *first, *second, dilation, padding="symmetric")

    with torch.no_grad():
        assert_op_matches(ours, lambda x: peer.to(x)(x), [x], [], dtype)


@pytest.mark.usefixtures("form")
def test_layouts_give_the_same_result_and_inputs_are_not_written():
    torch.manual_seed(8)
    parameters = cast(make_parameters(32), torch.float16)
    x = torch.randn(2, 40, 32, device=DEVICE, dtype=torch.float16)
    strided = torch.stack([x, -x], dim=-1)[..., 0]
    packed = pack_weights(*parameters)
    inputs = [x, *parameters, *packed[:-1]]
    before = [t.clone() for t in inputs]
    y = residual_unit_channels_last(x, packed, 3)
    assert y.is_contiguous()
    assert torch.equal(residual_unit_channels_last(strided, packed, 3), y)
    assert torch.equal(residual_unit(x.transpose(1, 2).contiguous(), *parameters, 3), y.transpose(1, 2))
    assert all(torch.equal(t, b) for t, b in zip(inputs, before, strict=True))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # the interpreter's, before it saturates
@pytest.mark.usefixtures("form")
def test_ends_of_the_float16_range_give_no_nan():
    parameters = cast(make_parameters(32), torch.float16)
    for i in (2, 6):  # rows that add up to more than float16 holds, of both signs
        parameters[i] = torch.ones_like(parameters[i])
        parameters[i][1::2] = -1
    x = torch.full((1, 32, 40), 65504.0, device=DEVICE, dtype=torch.float16)
    x[:, ::3] = -65504.0
    x[..., 20:] = 2.0**-24
    assert not residual_unit(x, *parameters, 3).isnan().any()


@pytest.mark.usefixtures("form")
def test_nan_reaches_the_frames_that_see_it_and_no_other():
    parameters = cast(make_parameters(32), torch.float16)
    x = torch.zeros(2, 32, 30, device=DEVICE, dtype=torch.float16)
    x[1, 4, 10] = torch.nan
    affected = residual_unit(x, *parameters, 2).isnan().any(dim=1)
    expected = torch.zeros_like(affected)
    expected[1, 10:23:2] = True
    assert torch.equal(affected, expected)


def test_empty_batch_is_empty_and_empty_signal_is_refused():
    parameters = cast(make_parameters(32), torch.float16)
    assert residual_unit(torch.empty(0, 32, 5, device=DEVICE, dtype=torch.float16), *parameters, 1).shape == (0, 32, 5)
    with pytest.raises(ValueError, match=r"x must be \[B, T, C\] with 1 <= T"):
        residual_unit(torch.empty(1, 32, 0, device=DEVICE, dtype=torch.float16), *parameters, 1)


def test_gradients_are_refused():
    parameters = cast(make_parameters(32), torch.float16)
    x = torch.randn(1, 32, 5, device=DEVICE, dtype=torch.float16)
    parameters[2].requires_grad_()
    with pytest.raises(NotImplementedError, match="use the reference path"):
        residual_unit(x, *parameters, 1)
    with pytest.raises(NotImplementedError, match="use the reference path"):
        residual_unit_channels_last(x.transpose(1, 2), pack_weights(*parameters), 1)
    with torch.no_grad():
        residual_unit(x, *parameters, 1)
        packed = pack_weights(*parameters)
    residual_unit_channels_last(x.transpose(1, 2), packed, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": torch.zeros(32, 5)}, ValueError, r"x must be \[B, C, T\]"),
        ({"x": torch.zeros(1, 16, 5)}, ValueError, r"x must be \[B, T, 32\]"),
        (
            {"x": torch.zeros(1, 32, 5, dtype=torch.float64)},
            TypeError,
            "x must be float16 or bfloat16, got torch.float64",
        ),
        ({"x": torch.zeros(1, 32, 5, dtype=torch.bfloat16)}, TypeError, "packed weights must be torch.bfloat16"),
        ({"weight1": torch.zeros(24, 24, 7)}, ValueError, "multiple of 16 channels, got 24"),
        ({"weight1": torch.zeros(32, 32, 6)}, ValueError, r"weight1 must be \[C, C, K\] with K odd"),
        ({"weight2": torch.zeros(32, 32, 3)}, ValueError, r"weight2 must be \[32, 32, 1\]"),
        ({"weight2": torch.zeros(32, 32, 1, dtype=torch.float64)}, TypeError, "weight2 must be torch.float16"),
        ({"beta2": torch.zeros(31)}, ValueError, r"beta2 must be \[32\], got \[31\]"),
        ({"alpha1": torch.ones(32, dtype=torch.int32)}, TypeError, "alpha1 must be float32.*int32"),
        ({"bias2": torch.ones(32, dtype=torch.int64)}, TypeError, "bias2 must be float32.*int64"),
        ({"beta1": torch.ones(32, device="meta")}, ValueError, "beta1 must be on the device of weight1"),
        ({"weight2": torch.ones(32, 32, 1, device="meta")}, ValueError, "weight2 must be on the device of weight1"),
        ({"bias1": torch.zeros(1)}, ValueError, r"bias1 must be \[32\]"),
        ({"dilation": 0}, ValueError, "dilation must be at least 1"),
        ({"dilation": 1 << 30}, ValueError, "dilation must be at least 1 and at most 76695844"),
        ({"padding": "same"}, ValueError, "padding must be causal or symmetric"),
        ({"context": torch.zeros(1, 32, 5)}, ValueError, r"context must be \[1, 6, 32\]"),
        ({"context": torch.zeros(1, 32, 6), "padding": "symmetric"}, ValueError, "context needs causal padding"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(changes, error, message):
    names = ("alpha1", "beta1", "weight1", "bias1", "alpha2", "beta2", "weight2", "bias2")
    arguments = {"x": torch.zeros(1, 32, 5), **dict(zip(names, make_parameters(32), strict=True)), "dilation": 1}
    arguments |= changes
    if arguments["weight1"].shape[0] == 24:
        arguments |= {n: torch.ones(24) for n in names if "weight" not in n} | {"weight2": torch.zeros(24, 24, 1)}

    def half(value: object) -> object:
        device = "meta" if value.is_meta else DEVICE
        return value.to(device, torch.float16 if value.dtype == torch.float32 else value.dtype)

    with pytest.raises(error, match=message):
        residual_unit(**{n: half(v) if isinstance(v, Tensor) else v for n, v in arguments.items()})


@pytest.mark.skipif(INTERPRETED, reason="the interpreter accepts float32 for tests")
def test_float32_is_refused():
    with pytest.raises(TypeError, match=r"weight1 must be float16 or bfloat16, got torch\.float32"):
        residual_unit(torch.zeros(1, 32, 5, device=DEVICE), *cast(make_parameters(32), torch.float32), 1)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a second device")
def test_another_device_is_refused():
    packed = pack_weights(*(t.half() for t in make_parameters(32)))
    with pytest.raises(ValueError, match="packed must be on the device of x"):
        residual_unit_channels_last(torch.zeros(1, 5, 32, device=DEVICE, dtype=torch.float16), packed, 1)


def test_registrations_are_sound():
    packed = pack_weights(*cast(make_parameters(16), torch.float16))
    x = torch.randn(2, 5, 16, device=DEVICE, dtype=torch.float16)
    torch.library.opcheck(torch.ops.silk_fast.residual_unit, (x, *packed, 1, None, "causal"))
    context = torch.randn(2, 6, 16, device=DEVICE, dtype=torch.float16)
    torch.library.opcheck(torch.ops.silk_fast.residual_unit, (x, *packed, 1, context, "causal"))


@of_pytorch
def test_compiles_as_one_graph():
    packed = pack_weights(*cast(make_parameters(16), torch.float16))
    x = torch.randn(2, 5, 16, device=DEVICE, dtype=torch.float16)

    def two_units(x: Tensor) -> Tensor:
        y = residual_unit_channels_last(x, packed, 1)
        return residual_unit_channels_last(y, packed, 3) + 1

    compiled = torch.compile(two_units, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), two_units(x))
