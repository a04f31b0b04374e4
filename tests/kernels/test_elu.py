"""ELU: three-way bound, float64 truth beside 0 and at the ends of the range, the peers' own modules."""

import math

import pytest
import torch
from silk_fast.kernels import elu

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, of_pytorch

SHAPES = [(1, 1, 1), (2, 3, 7), (3, 5, 63), (2, 1, 256), (2, 3, 500), (1, 4, 1000), (2, 3, 2100)]


def make_inputs(shape, dtype=torch.float32):
    """x, bias, residual and dy, as ``dtype`` holds them; sums over B and T are of order 1."""
    generator = torch.Generator().manual_seed(0)
    x, residual, dy = torch.randn(3, *shape, generator=generator)
    bias = torch.rand(shape[1], generator=generator)
    inputs = [2 * x, bias - 0.5, residual, dy * max(1, dy[:, 0].numel()) ** -0.5]
    return [t.to(dtype).float() for t in inputs]


@pytest.mark.parametrize("n_given", [1, 2, 3], ids=["plain", "bias", "bias and residual"])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference_forward_and_backward(shape, dtype, n_given):
    *inputs, dy = make_inputs(shape, dtype)
    assert_op_matches(elu, ops.elu, inputs[:n_given], [dy], dtype)


@pytest.mark.parametrize("n_time", [63, 300])
def test_a_residual_needs_no_bias(n_time):
    x, _, residual, dy = (t.to(DEVICE) for t in make_inputs((2, 3, n_time)))
    leaves = [t.requires_grad_() for t in (x, residual)]
    y, expected = elu(x, residual=residual), ops.elu(x, residual=residual)
    torch.testing.assert_close(y, expected)
    gradients, truths = (torch.autograd.grad(o, leaves, dy) for o in (y, expected))
    torch.testing.assert_close(gradients, truths)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1.2e-7), (torch.float64, 1e-15)], ids=str)
def test_as_exact_beside_0_as_elsewhere(dtype, tolerance):
    x = torch.cat([-torch.logspace(-37, 2, 4000, dtype=dtype), torch.logspace(-37, 2, 1000, dtype=dtype)])[None, None]
    truth = ops.elu(x.double())
    error = (elu(x.to(DEVICE)).double().cpu() - truth).abs()
    assert (error <= tolerance * truth.abs()).all()


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize("n_time", [1, 300])
def test_ends_of_the_range(n_time, dtype):
    largest = torch.finfo(dtype).max
    x = torch.tensor([math.nan, math.inf, -math.inf, largest, -largest, -104.0, 0.0, -0.0], dtype=dtype, device=DEVICE)
    leaf = x[None, :, None].repeat(1, 1, n_time).requires_grad_()
    bias = torch.zeros(8, dtype=dtype, device=DEVICE, requires_grad=True)
    y = elu(leaf, bias)
    expected = torch.tensor([math.nan, math.inf, -1, largest, -1, -1, 0, 0], dtype=dtype)
    torch.testing.assert_close(y[0, :, -1].cpu(), expected, rtol=0, atol=0, equal_nan=True)
    dx, dbias = torch.autograd.grad(y, (leaf, bias), torch.ones_like(y))
    slopes = torch.tensor([math.nan, 1, 0, 1, 0, 0, 1, 1], dtype=dtype)
    torch.testing.assert_close(dx[0, :, 0].cpu(), slopes, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(dbias.cpu(), slopes * n_time, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float32], ids=str)
@pytest.mark.parametrize("n_time", [63, 500])
def test_half_precision_is_rounded_once_and_slopes_are_as_exact(n_time, dtype):
    x, bias, residual, dy = make_inputs((2, 3, n_time), dtype)
    results = []
    for function, kind, device in ((elu, dtype, DEVICE), (ops.elu, torch.float64, "cpu")):
        leaf, *rest, dv = (t.to(device, kind) for t in (x, bias, residual, dy))
        y = function(leaf.requires_grad_(), *rest)
        results.append([y.double().cpu(), torch.autograd.grad(y, leaf, dv)[0].double().cpu()])
    (y, dx), (true_y, true_dx) = results
    unit = torch.finfo(dtype).eps / 2
    assert ((y - true_y).abs() <= true_y.abs() * unit + 1e-6).all()
    assert ((dx - true_dx).abs() <= (true_dx.abs() + dy.abs() / 2) * unit * 1.01 + 1e-6).all()


def test_inputs_of_other_dtypes_and_layouts():
    """A bias in float32 beside float16 signals; transposed x and residual, broadcast dy."""
    x, bias, residual, _ = (t.to(DEVICE) for t in make_inputs((2, 9, 63)))
    x, residual = (t.half().transpose(1, 2).contiguous().transpose(1, 2) for t in (x, residual))
    leaves = [t.requires_grad_() for t in (x, bias, residual)]
    y = elu(*leaves)
    assert y.dtype == torch.float16
    assert y.is_contiguous()
    gradients = torch.autograd.grad(y.sum(), leaves)
    exact = torch.autograd.grad(ops.elu(*(t.double() for t in leaves)).sum(), leaves)
    for leaf, ours, truth in zip(leaves, gradients, exact, strict=True):
        assert ours.dtype == leaf.dtype
        torch.testing.assert_close(ours.double(), truth.double(), rtol=1e-3, atol=1e-2)


def test_only_some_inputs_need_gradients():
    x, bias, residual, _ = (t.to(DEVICE) for t in make_inputs((1, 2, 9)))
    bias.requires_grad_()
    (ours,) = torch.autograd.grad(elu(x, bias, residual).sum(), bias)
    (expected,) = torch.autograd.grad(ops.elu(x, bias, residual).sum(), bias)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0)], ids=str)
def test_empty_gives_empty_and_zero_gradients(shape):
    x, bias, residual, _ = (t.to(DEVICE).requires_grad_() for t in make_inputs(shape))
    y = elu(x, bias, residual)
    assert y.shape == shape
    dx, dbias, dresidual = torch.autograd.grad(y.sum(), (x, bias, residual))
    assert dx.shape == dresidual.shape == shape
    assert dbias.tolist() == [0.0, 0.0, 0.0]
    assert elu(x).shape == torch.autograd.grad(elu(x).sum(), x)[0].shape == shape


@pytest.mark.parametrize("n_time", [70, 300])
def test_nothing_given_is_written_and_runs_are_equal(n_time):
    tensors = [t.to(DEVICE) for t in make_inputs((2, 3, n_time))]
    copies = [t.clone() for t in tensors]
    results = []
    for _ in range(2):
        leaves = [t.requires_grad_() for t in tensors[:3]]
        y = elu(*leaves)
        results.append([y, *torch.autograd.grad(y, leaves, tensors[3])])
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradcheck():
    inputs = [t.to(DEVICE, torch.float64).requires_grad_() for t in make_inputs((2, 2, 3))[:3]]
    assert torch.autograd.gradcheck(elu, inputs)


@of_pytorch
@pytest.mark.parametrize("n_time", [5, 300])
def test_registration_is_sound(n_time):
    x, bias, residual, dy = (t.to(DEVICE).requires_grad_() for t in make_inputs((2, 3, n_time)))
    torch.library.opcheck(torch.ops.silk_fast.elu.default, (x, bias, residual))
    torch.library.opcheck(torch.ops.silk_fast.elu.default, (x.transpose(0, 1), bias[:2]))
    torch.library.opcheck(torch.ops.silk_fast.elu.default, (x,))
    for with_bias in (False, True):
        torch.library.opcheck(torch.ops.silk_fast.elu_backward.default, (dy.detach(), x.detach(), with_bias))


def test_compiles_without_a_graph_break():
    *inputs, dy = (t.to(DEVICE) for t in make_inputs((2, 3, 20)))
    leaves = [t.requires_grad_() for t in inputs]
    compiled = torch.compile(lambda *args: elu(*args) * 2, fullgraph=True, backend="aot_eager")
    y = compiled(*leaves)
    expected = elu(*leaves) * 2
    assert torch.equal(y, expected)
    ours, theirs = (torch.autograd.grad(o, leaves, dy) for o in (y, expected))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_equals_the_unit_of_transformers_encodec():
    encodec = pytest.importorskip("transformers.models.encodec.modeling_encodec")
    unit = encodec.EncodecResnetBlock(encodec.EncodecConfig(), 6, [1, 1])
    _, first, _, second = unit.block
    x, *_ = make_inputs((2, 6, 333))
    with torch.no_grad():
        expected = torch.nn.functional.elu(unit(x))
        hidden = second(elu(first(elu(x.to(DEVICE)).cpu()).to(DEVICE)).cpu())
        bias = second.conv.bias
        ours = elu((hidden - bias[:, None]).to(DEVICE), bias.to(DEVICE), unit.shortcut(x).to(DEVICE)).cpu()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


BAD = {
    "x must be \\[B, C, T\\]": (ValueError, {"x": torch.zeros(3, 5)}),
    "bias must be \\[3\\], got \\[4\\]": (ValueError, {"bias": torch.zeros(4)}),
    "residual must be \\[2, 3, 5\\]": (ValueError, {"residual": torch.zeros(2, 3, 6)}),
    "residual must be torch.float32": (TypeError, {"residual": torch.zeros(2, 3, 5).half()}),
    "x must be float32": (TypeError, {"x": torch.zeros(2, 3, 5, dtype=torch.int32)}),
    "bias must be float32": (TypeError, {"bias": torch.zeros(3, dtype=torch.int64)}),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(message):
    error, changed = BAD[message]
    arguments = {name: t.to(DEVICE) for name, t in ({"x": torch.zeros(2, 3, 5)} | changed).items()}
    with pytest.raises(error, match=message):
        elu(**arguments)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs two devices")
def test_parameters_on_another_device_are_refused():
    with pytest.raises(ValueError, match="bias must be on the device of x"):
        elu(torch.zeros(2, 3, 5, device=DEVICE), torch.ones(3))
