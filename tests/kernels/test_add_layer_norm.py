"""Residual sum and LayerNorm: three-way bound, partial sums over many tiles, unused outputs."""

import importlib
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from silk_fast.kernels import add_layer_norm

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, of_pytorch

module = importlib.import_module("silk_fast.kernels.add_layer_norm")  # of the same name as its function

SHAPES = [(1,), (7,), (1, 1), (63, 1), (1, 63), (2, 3, 7), (100, 20), (7, 128), (3, 500), (2, 1000), (1, 4096)]
CASES = [*((shape, 0.3) for shape in SHAPES), ((2, 3, 7), 1.0), ((7, 128), 1.0)]


def make_inputs(shape, scale=0.5):
    """x, residual, scale, weight, bias, and the gradients of both outputs; sums over rows are of order 1."""
    generator = torch.Generator().manual_seed(0)
    x, residual, dsum, dnormed = torch.randn(4, *shape, generator=generator)
    weight, bias = torch.randn(2, shape[-1], generator=generator)
    dnormed = dnormed * (shape[-1] / max(1, x.numel())) ** 0.5
    return [x + 0.5, residual, scale, 1 + 0.3 * weight, bias], [dsum, dnormed]


def on_device(arguments):
    return [t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in arguments]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
@pytest.mark.parametrize(("shape", "scale"), CASES, ids=str)
def test_matches_reference_forward_and_backward(shape, dtype, scale):
    inputs, gradients = make_inputs(shape, scale)
    assert_op_matches(add_layer_norm, ops.add_layer_norm, inputs, gradients, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_programs_that_take_several_tiles(dtype, monkeypatch):
    monkeypatch.setattr(module, "PROGRAMS", 3)
    inputs, gradients = make_inputs((23, 700))  # 12 tiles of 2 rows
    assert_op_matches(add_layer_norm, ops.add_layer_norm, inputs, gradients, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normed_is_the_layer_norm_of_the_sum_returned(dtype):
    """Also where the mean is far larger than the deviation, so that the rounding of the sum matters."""
    (x, residual, scale, weight, bias), _ = make_inputs((5, 96))
    x, residual, weight, bias = (t.to(DEVICE, dtype) for t in (x + 30, residual, weight, bias))
    total, normed = add_layer_norm(x, residual, scale, weight, bias, 1e-3)
    peer = F.layer_norm(total.double(), (96,), weight.double(), bias.double(), 1e-3)
    tolerance = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    torch.testing.assert_close(normed.double(), peer, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("used", ["sum", "normed"])
def test_only_one_output_is_used(used):
    inputs, (dsum, dnormed) = make_inputs((6, 20))
    dy = (dsum if used == "sum" else dnormed).to(DEVICE)
    results = []
    for function in (add_layer_norm, ops.add_layer_norm):
        leaves = [t.requires_grad_() if isinstance(t, torch.Tensor) else t for t in on_device(inputs)]
        tensors = [t for t in leaves if isinstance(t, torch.Tensor)]
        y = function(*leaves)[0 if used == "sum" else 1]
        results.append(torch.autograd.grad(y, tensors, dy, materialize_grads=True))
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5)


def test_strided_inputs():
    inputs, _ = make_inputs((4, 6, 9))
    x, residual, scale, weight, bias = on_device(inputs)
    x, residual = x.transpose(0, 1), residual.transpose(0, 1)
    weight, bias = weight.repeat_interleave(2)[::2], bias.repeat_interleave(2)[::2]
    views = [t.detach().requires_grad_() for t in (x, residual, weight, bias)]
    outputs = add_layer_norm(views[0], views[1], scale, views[2], views[3])
    expected = ops.add_layer_norm(views[0], views[1], scale, views[2], views[3])
    gradients = [torch.randn(9, device=DEVICE).expand(x.shape), torch.randn(9, 6, 4, device=DEVICE).permute(1, 2, 0)]
    results = [torch.autograd.grad(o, views, gradients) for o in (outputs, expected)]
    for ours, truth in zip((*outputs, *results[0]), (*expected, *results[1]), strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5)


def test_affine_in_float32_beside_a_float16_signal():
    inputs, gradients = make_inputs((9, 40))
    x, residual, scale, weight, bias = on_device(inputs)
    leaves = [t.requires_grad_() for t in (x.half(), residual.half(), weight, bias)]
    outputs = add_layer_norm(leaves[0], leaves[1], scale, leaves[2], leaves[3])
    gradients = [g.to(DEVICE).half() for g in gradients]
    ours = torch.autograd.grad(outputs, leaves, gradients)
    doubles = [t.double() for t in leaves]
    exact = ops.add_layer_norm(doubles[0], doubles[1], scale, doubles[2], doubles[3])
    truths = torch.autograd.grad(exact, leaves, [g.double() for g in gradients])
    for y, truth in zip(outputs, exact, strict=True):
        assert y.dtype == torch.float16
        torch.testing.assert_close(y.double(), truth, rtol=2e-3, atol=2e-3)
    for gradient, truth, leaf in zip(ours, truths, leaves, strict=True):
        assert gradient.dtype == leaf.dtype
        torch.testing.assert_close(gradient, truth, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("dtypes", [pair for pair in permutations(DTYPES, 2) if torch.float32 in pair], ids=str)
def test_a_signal_and_a_residual_of_two_dtypes(dtypes, scale):
    """As under autocast: both outputs are float32, each gradient has the dtype of its input."""
    (x, residual, _, weight, bias), gradients = make_inputs((9, 40))
    tensors = on_device([x.to(dtypes[0]), residual.to(dtypes[1]), weight, bias])
    results = []
    for function in (add_layer_norm, ops.add_layer_norm):
        leaves = [t.detach().requires_grad_() for t in tensors]
        signals = leaves[:2] if function is add_layer_norm else [t.float() for t in leaves[:2]]
        outputs = function(*signals, scale, *leaves[2:])
        results.append([*outputs, *torch.autograd.grad(outputs, leaves, on_device(gradients))])
    for ours, truth in zip(*results, strict=True):
        assert ours.dtype == truth.dtype
        torch.testing.assert_close(ours, truth, rtol=max(1e-5, torch.finfo(ours.dtype).eps), atol=1e-5)


def test_range_ends_of_float16_stay_finite():
    """Squares of these overflow float16, and constant rows have no variance."""
    x = torch.tensor([[65504.0, -65504.0, 60000.0, 0.0], [6e-8, -6e-8, 0.0, 0.0], [1000.0] * 4]).to(DEVICE).half()
    weight, bias = torch.ones(4, device=DEVICE).half(), torch.zeros(4, device=DEVICE).half()
    leaves = [t.requires_grad_() for t in (x, torch.zeros_like(x), weight, bias)]
    total, normed = add_layer_norm(leaves[0], leaves[1], 0.5, leaves[2], leaves[3])
    assert torch.equal(total, x)
    assert normed[2].tolist() == [0.0] * 4
    torch.testing.assert_close(normed.double(), F.layer_norm(x.double(), (4,)), rtol=1e-3, atol=1e-3)
    gradients = torch.autograd.grad(normed, leaves, torch.randn(3, 4, device=DEVICE).half())
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)], ids=str)
def test_empty_gives_empty_and_zero_gradients(shape):
    inputs, _ = make_inputs(shape)
    x, residual, scale, weight, bias = on_device(inputs)
    leaves = [t.requires_grad_() for t in (x, residual, weight, bias)]
    outputs = add_layer_norm(x, residual, scale, weight, bias)
    assert [o.shape for o in outputs] == [o.shape for o in ops.add_layer_norm(x, residual, scale, weight, bias)]
    gradients = torch.autograd.grad(sum(o.sum() for o in outputs), leaves)
    assert [g.shape for g in gradients] == [t.shape for t in leaves]
    assert gradients[2].tolist() == gradients[3].tolist() == [0.0] * shape[-1]


def test_nothing_given_is_written_and_runs_are_equal():
    inputs, gradients = make_inputs((30, 40))
    inputs, gradients = on_device(inputs), on_device(gradients)
    tensors = [t for t in (*inputs, *gradients) if isinstance(t, torch.Tensor)]
    copies = [t.clone() for t in tensors]
    results = []
    for _ in range(2):
        leaves = [t.requires_grad_() for t in tensors[:4]]
        outputs = add_layer_norm(*inputs)
        kept = outputs[0].clone()
        results.append([*outputs, *torch.autograd.grad(outputs, leaves, gradients)])
        assert torch.equal(outputs[0], kept)  # saved for the backward pass
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("scale", [1.0, -0.3])
def test_gradcheck(scale):
    (x, residual, _, weight, bias), _ = make_inputs((2, 5))
    leaves = [t.to(DEVICE, torch.float64).requires_grad_() for t in (x, residual, weight, bias)]
    assert torch.autograd.gradcheck(lambda x, r, w, b: add_layer_norm(x, r, scale, w, b), leaves)


@of_pytorch
def test_registration_is_sound():
    inputs, gradients = make_inputs((2, 3, 5))
    x, residual, scale, weight, bias = on_device(inputs)
    dsum, dnormed = on_device(gradients)
    leaves = [t.clone().requires_grad_() for t in (x, residual, weight, bias)]
    torch.library.opcheck(add_layer_norm, (leaves[0], leaves[1], scale, leaves[2], leaves[3]))
    torch.library.opcheck(add_layer_norm, (x.transpose(0, 1), residual.transpose(0, 1), 1.0, weight, bias, 1e-3))
    backward = torch.ops.silk_fast.add_layer_norm_backward.default
    torch.library.opcheck(backward, (dsum, dnormed, x, scale, weight, 1e-5, x.dtype, x.dtype))
    torch.library.opcheck(backward, (None, dnormed, x, 1.0, weight, 1e-5, x.dtype, x.dtype))
    torch.library.opcheck(backward, (None, dnormed, x, 1.0, weight, 1e-5, x.dtype, torch.float16))


@pytest.mark.parametrize("outputs", [1, 2])
def test_compiles_without_graph_breaks(outputs):
    inputs, _ = make_inputs((4, 6))
    x, residual, scale, weight, bias = on_device(inputs)
    leaves = [t.requires_grad_() for t in (x, residual, weight, bias)]

    def loss(x, residual, weight, bias):
        return sum(y.square().sum() for y in add_layer_norm(x, residual, scale, weight, bias)[-outputs:])

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(*leaves), leaves)
    for ours, truth in zip(torch.autograd.grad(compiled(*leaves), leaves), expected, strict=True):
        torch.testing.assert_close(ours, truth)


BAD = [
    ({"residual": torch.zeros(3)}, ValueError, r"residual must be \[2, 3\], got \[3\]"),
    ({"residual": torch.zeros(2, 3).int()}, TypeError, "residual must be float32.*int32"),
    ({"weight": torch.zeros(2)}, ValueError, r"weight must be \[3\], got \[2\]"),
    ({"bias": torch.zeros(1, 3)}, ValueError, r"bias must be \[3\], got \[1, 3\]"),
    ({"bias": torch.zeros(3, dtype=torch.int32)}, TypeError, "bias must be float32.*int32"),
    ({"weight": torch.zeros(3, device="meta")}, ValueError, "weight must be on the device of x"),
    ({"x": torch.zeros(())}, ValueError, r"x must be \[\.\.\., C\]"),
    ({"x": torch.zeros(1, 16385)}, ValueError, "C at most 16384"),
]


@pytest.mark.parametrize(("changed", "error", "message"), BAD)
def test_bad_input_is_refused_by_name(changed, error, message):
    good = {"x": torch.zeros(2, 3), "residual": torch.zeros(2, 3), "weight": torch.zeros(3), "bias": torch.zeros(3)}
    tensors = {name: t if t.is_meta else t.to(DEVICE) for name, t in (good | changed).items()}
    with pytest.raises(error, match=message):
        add_layer_norm(scale=1.0, **tensors)
