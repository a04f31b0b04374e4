"""Snake: three-way bound, float64 truth for large arguments, the peers' own modules."""

import pytest
import torch
from silk_fast.kernels import snake

from silk_fast.reference import ops
from tests.kernels.support import DEVICE, DTYPES, assert_op_matches, of_pytorch

SHAPES = [(1, 1, 1), (2, 3, 7), (3, 5, 63), (2, 1, 256), (2, 3, 500), (1, 4, 1000), (2, 3, 2100)]
CASES = [  # neighbours in shape or dtype differ in whether bias and residual are fused
    (shape, dtype, bool((i + j) % 2))
    for i, shape in enumerate(SHAPES)
    for j, dtype in enumerate([*DTYPES, torch.float64])
]


def reference(x, alpha, beta, bias=None, residual=None):
    y = ops.snake(x if bias is None else x + bias[:, None], alpha, beta)
    return y if residual is None else residual + y


def make_inputs(shape, dtype=torch.float32):
    """x, alpha, beta, bias, residual and dy, as ``dtype`` holds them; sums over B and T are of order 1."""
    generator = torch.Generator().manual_seed(0)
    x, residual, dy = torch.randn(3, *shape, generator=generator)
    alpha, beta, bias = torch.rand(3, shape[1], generator=generator)
    inputs = [3 * x, 2 * alpha + 0.2, beta + 0.5, bias - 0.5, residual, dy * max(1, dy[:, 0].numel()) ** -0.5]
    return [t.to(dtype).float() for t in inputs]


@pytest.mark.parametrize(("shape", "dtype", "fused"), CASES, ids=str)
def test_matches_reference_forward_and_backward(shape, dtype, fused):
    *inputs, dy = make_inputs(shape, dtype)
    assert_op_matches(snake, reference, inputs if fused else inputs[:3], [dy], dtype)


@pytest.mark.parametrize("given", ["bias", "residual"])
def test_bias_and_residual_are_independent(given):
    x, alpha, beta, bias, residual, _ = (t.to(DEVICE) for t in make_inputs((2, 3, 300)))
    keyword = {given: {"bias": bias, "residual": residual}[given]}
    torch.testing.assert_close(snake(x, alpha, beta, **keyword), reference(x, alpha, beta, **keyword))


@pytest.mark.parametrize("beta", [1.0, 0.05, 20.0])
@pytest.mark.parametrize(("alpha_scale", "x_scale"), [(1.0, 1.0), (1.0, 1e4), (100.0, 100.0), (1e4, 1.0)])
def test_error_does_not_grow_with_the_argument(alpha_scale, x_scale, beta):
    """At most 1e-6 of the largest of 1, ``|x|`` and ``1 / beta``, which scales sin^2 and its error."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(1, 32, 1000, generator=generator) * 2 - 1) * x_scale
    alpha = (torch.rand(32, generator=generator) * 0.9 + 0.1) * alpha_scale
    betas = torch.full((32,), beta)
    y = snake(x.to(DEVICE), alpha.to(DEVICE), betas.to(DEVICE)).double().cpu()
    truth = ops.snake(x.double(), alpha.double(), betas.double())
    assert ((y - truth).abs() / x.double().abs().clamp(min=max(1, 1 / beta))).max() <= 1e-6


def test_gradient_does_not_degrade_with_the_argument():
    """At ``|alpha * x|`` of 1e4 rounding the product first would lose 5e-4."""
    x = torch.linspace(-1e4, 1e4, 2000)[None, None]
    leaf = x.to(DEVICE).requires_grad_()
    one = torch.ones(1, device=DEVICE)
    (dx,) = torch.autograd.grad(snake(leaf, one, one).sum(), leaf)
    truth = 1 + torch.sin(2 * x.double())
    assert (dx.double().cpu() - truth).abs().max() <= 1e-6


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != torch.float32], ids=str)
@pytest.mark.parametrize("n_time", [63, 500])
def test_half_precision_is_rounded_once(n_time, dtype):
    x, alpha, beta, *_, dy = make_inputs((2, 3, n_time), dtype)
    results = []
    for function, kind, device in ((snake, dtype, DEVICE), (ops.snake, torch.float64, "cpu")):
        leaf, a, b, dv = (t.to(device, kind) for t in (x, alpha, beta, dy))
        y = function(leaf.requires_grad_(), a, b)
        results.append([y.double().cpu(), torch.autograd.grad(y, leaf, dv)[0].double().cpu()])
    for ours, truth in zip(*results, strict=True):
        assert ((ours - truth).abs() <= truth.abs() * torch.finfo(dtype).eps / 2 + 1e-6).all()


def test_half_precision_range_ends_are_exact():
    """The product alpha * x would overflow float16; y does only where the true value does."""
    x = torch.tensor([65504.0, -65504.0, 60000.0, 6e-8, 0.0]).repeat(1, 3, 1).half()
    alpha, beta = torch.tensor([[0.01, 1.0, 60000.0], [1e-4, 1.0, 60000.0]]).half()
    truth = ops.snake(x.double(), alpha.double(), beta.double()).half()
    leaves = [t.to(DEVICE).requires_grad_() for t in (x, alpha, beta)]
    y = snake(*leaves)
    torch.testing.assert_close(y.cpu(), truth, rtol=1e-3, atol=0)
    assert not any(g.isnan().any() for g in torch.autograd.grad(y, leaves, torch.ones_like(y)))


def test_float32_range_ends_give_no_nan():
    x = torch.tensor([3e38, -3e38, 1e30, 1e10, 1e-45, 0.0], device=DEVICE).repeat(1, 2, 1).requires_grad_()
    alpha, beta = torch.tensor([[1.0, 1e30], [1.0, 1.0]], device=DEVICE)
    y = snake(x, alpha.clone(), beta.clone())
    assert y[:, 0].isfinite().all()
    assert not torch.autograd.grad(y[:, 0].sum(), x)[0][:, 0].isnan().any()


def test_inputs_of_other_dtypes_and_layouts():
    """Parameters in float32 beside float16 signals; transposed x, broadcast dy."""
    x, alpha, beta, bias, *_ = (t.to(DEVICE) for t in make_inputs((2, 9, 63)))
    x = x.half().transpose(1, 2).contiguous().transpose(1, 2)
    leaves = [t.requires_grad_() for t in (x, alpha, beta, bias)]
    y = snake(*leaves)
    assert y.dtype == torch.float16
    assert y.is_contiguous()
    gradients = torch.autograd.grad(y.sum(), leaves)
    exact = torch.autograd.grad(reference(*(t.double() for t in leaves)).sum(), leaves)
    for leaf, ours, truth in zip(leaves, gradients, exact, strict=True):
        assert ours.dtype == leaf.dtype
        torch.testing.assert_close(ours, truth, rtol=1e-3, atol=1e-3)


def test_only_some_inputs_need_gradients():
    x, alpha, beta, *_ = (t.to(DEVICE) for t in make_inputs((1, 2, 9)))
    alpha.requires_grad_()
    (ours,) = torch.autograd.grad(snake(x, alpha, beta).sum(), alpha)
    (expected,) = torch.autograd.grad(ops.snake(x, alpha, beta).sum(), alpha)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 3, 0)], ids=str)
def test_empty_gives_empty_and_zero_gradients(shape):
    x, alpha, beta, *_ = (t.to(DEVICE).requires_grad_() for t in make_inputs(shape))
    y = snake(x, alpha, beta)
    assert y.shape == shape
    dx, dalpha, dbeta = torch.autograd.grad(y.sum(), (x, alpha, beta))
    assert dx.shape == shape
    assert dalpha.tolist() == dbeta.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("n_time", [70, 300])
def test_nothing_given_is_written_and_runs_are_equal(n_time):
    tensors = [t.to(DEVICE) for t in make_inputs((2, 3, n_time))]
    copies = [t.clone() for t in tensors]
    results = []
    for _ in range(2):
        leaves = [t.requires_grad_() for t in tensors[:5]]
        y = snake(*leaves)
        results.append([y, *torch.autograd.grad(y, leaves, tensors[5])])
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_gradcheck():
    inputs = [t.to(DEVICE, torch.float64).requires_grad_() for t in make_inputs((2, 2, 3))[:5]]
    assert torch.autograd.gradcheck(snake, inputs)


@of_pytorch
@pytest.mark.parametrize("n_time", [5, 300])
def test_registration_is_sound(n_time):
    x, alpha, beta, bias, residual, dy = (t.to(DEVICE).requires_grad_() for t in make_inputs((2, 3, n_time)))
    torch.library.opcheck(torch.ops.silk_fast.snake.default, (x, alpha, beta, bias, residual))
    torch.library.opcheck(torch.ops.silk_fast.snake.default, (x.transpose(0, 1), bias[:2], beta[:2]))
    plain = [t.detach() for t in (dy, x, alpha, beta, bias)]
    torch.library.opcheck(torch.ops.silk_fast.snake_backward.default, tuple(plain))


def test_compiles_without_a_graph_break():
    *inputs, dy = (t.to(DEVICE) for t in make_inputs((2, 3, 20)))
    leaves = [t.requires_grad_() for t in inputs]
    compiled = torch.compile(lambda *args: snake(*args) * 2, fullgraph=True, backend="aot_eager")
    y = compiled(*leaves)
    expected = snake(*leaves) * 2
    assert torch.equal(y, expected)
    ours, theirs = (torch.autograd.grad(o, leaves, dy) for o in (y, expected))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_equals_snake_of_transformers_dac():
    modeling_dac = pytest.importorskip("transformers.models.dac.modeling_dac")
    module = modeling_dac.Snake1d(6)
    x, alpha, *_ = make_inputs((2, 6, 333))
    with torch.no_grad():
        module.alpha.copy_(alpha[:, None])
        expected = module(x)
    alpha = alpha.to(DEVICE)
    torch.testing.assert_close(snake(x.to(DEVICE), alpha, alpha).cpu(), expected, rtol=1e-5, atol=1e-5)


def test_equals_snake_of_diffusers_oobleck():
    oobleck = pytest.importorskip("diffusers.models.autoencoders.autoencoder_oobleck")
    module = oobleck.Snake1d(6)
    x, alpha, beta, *_ = make_inputs((2, 6, 333))
    with torch.no_grad():
        module.alpha.copy_(alpha.log()[:, None])
        module.beta.copy_(beta.log()[:, None])
        expected = module(x)
    ours = snake(x.to(DEVICE), alpha.to(DEVICE), beta.to(DEVICE)).cpu()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


BAD = {
    "x must be \\[B, C, T\\]": (ValueError, {"x": torch.zeros(3, 5)}),
    "alpha must be \\[3\\], got \\[4\\]": (ValueError, {"alpha": torch.zeros(4)}),
    "beta must be \\[3\\], got \\[3, 1\\]": (ValueError, {"beta": torch.zeros(3, 1)}),
    "bias must be \\[3\\]": (ValueError, {"bias": torch.zeros(5)}),
    "residual must be \\[2, 3, 5\\]": (ValueError, {"residual": torch.zeros(2, 3, 6)}),
    "residual must be torch.float32": (TypeError, {"residual": torch.zeros(2, 3, 5).half()}),
    "x must be float32": (TypeError, {"x": torch.zeros(2, 3, 5, dtype=torch.int32)}),
    "alpha must be float32": (TypeError, {"alpha": torch.zeros(3, dtype=torch.int64)}),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_by_name(message):
    error, changed = BAD[message]
    good = {"x": torch.zeros(2, 3, 5), "alpha": torch.ones(3), "beta": torch.ones(3)}
    arguments = {name: t.to(DEVICE) for name, t in (good | changed).items()}
    with pytest.raises(error, match=message):
        snake(**arguments)


@pytest.mark.skipif(DEVICE == "cpu", reason="needs two devices")
def test_parameters_on_another_device_are_refused():
    with pytest.raises(ValueError, match="beta must be on the device of x"):
        snake(torch.zeros(2, 3, 5, device=DEVICE), torch.ones(3, device=DEVICE), torch.ones(3))
