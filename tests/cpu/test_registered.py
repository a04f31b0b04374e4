"""The ops of ``silk_fast.kernels`` on tensors of a CPU where Triton cannot run: the C library and its gradients."""

import pytest
import torch
from torch import Tensor

from silk_fast import kernels
from silk_fast.cpu import gradients
from silk_fast.reference import ops as reference
from tests.cpu.support import LEVELS, fused_snake, in_float, normal, polar, positive
from tests.kernels.support import assert_op_matches

pytestmark = [
    pytest.mark.usefixtures("built"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="tests/kernels/support.py puts its tensors on the GPU"),
    pytest.mark.not_emulated("the CPU's own operations are meant"),
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
WINDOW = torch.hann_window(64)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """As outside of Triton's interpreter."""
    monkeypatch.setattr("silk_fast.kernels._launch.DEVICES", {"cuda"})


def istft(function, alignment):
    return lambda m, p: in_float(function)(m, p, WINDOW, 16, alignment)


CALLS = {
    "snake": (
        kernels.snake,
        fused_snake,
        [3 * normal(2, 5, 63), positive(5), positive(5, seed=1), normal(5), normal(2, 5, 63, seed=1)],
    ),
    "elu": (kernels.elu, reference.elu, [3 * normal(2, 5, 7)]),
    "elu, bias and residual": (kernels.elu, reference.elu, [3 * normal(2, 5, 7), normal(5), normal(2, 5, 7, seed=1)]),
    "bias_silu": (kernels.bias_silu, reference.bias_silu, [3 * normal(2, 9, 37), normal(37, seed=1)]),
    "add_layer_norm": (
        lambda x, r, w, b: kernels.add_layer_norm(x, r, 0.5, w, b),
        lambda x, r, w, b: reference.add_layer_norm(x, r, 0.5, w, b),
        [normal(2, 9, 37), normal(2, 9, 37, seed=1), positive(37), normal(37, seed=2)],
    ),
    "add_layer_norm, shared": (
        lambda x, r, w, b: kernels.add_layer_norm(x, r, 1.0, w, b),
        lambda x, r, w, b: reference.add_layer_norm(x, r, 1.0, w, b),
        [normal(2, 9, 37), normal(2, 9, 37, seed=1), positive(37), normal(37, seed=2)],
    ),
    "glu_conv_norm_silu": (
        lambda x, w, b, nw, nb: kernels.glu_conv_norm_silu(x, w, b, nw, nb),
        lambda x, w, b, nw, nb: reference.glu_conv_norm_silu(x, w, b, nw, nb),
        [normal(2, 21, 2 * 13), normal(13, 7, seed=1), normal(13, seed=2), positive(13), normal(13, seed=3)],
    ),
    "glu_conv_norm_silu, context": (
        lambda x, w, b, nw, nb, c: kernels.glu_conv_norm_silu(x, w, b, nw, nb, 1e-5, c),
        lambda x, w, b, nw, nb, c: reference.glu_conv_norm_silu(x, w, b, nw, nb, 1e-5, c),
        [
            *(normal(2, 4, 2 * 13), normal(13, 7, seed=1), normal(13, seed=2)),
            *(positive(13), normal(13, seed=3), normal(2, 6, 2 * 13, seed=4)),
        ],
    ),
    "fsq_quantize": (
        lambda z: kernels.fsq_quantize(z, LEVELS),
        lambda z: reference.fsq_quantize(z, LEVELS),
        [1.5 * normal(2, 9, 5)],
    ),
    "fsq_quantize, channels first": (
        lambda z: kernels.fsq_quantize(z, LEVELS, dim=1),
        lambda z: reference.fsq_quantize(z.transpose(1, 2), LEVELS).transpose(1, 2),
        [1.5 * normal(2, 5, 9)],
    ),
    **{
        f"polar_istft, {alignment}": (
            istft(kernels.polar_istft, alignment),
            istft(reference.polar_istft, alignment),
            list(polar(2, 9, 64)),
        )
        for alignment in ("same", "causal")
    },
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_matches_reference_forward_and_backward(name, dtype):
    ours, theirs, inputs = CALLS[name]
    results = theirs(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    grads = [normal(*result.shape, seed=9) for result in results]
    assert_op_matches(ours, theirs, [x.to(dtype).float() for x in inputs], grads, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_harmonics_match_the_reference_forward_and_backward(dtype):
    log_magnitude, phase, dm, dp = (normal(2, 9, 33, seed=seed).to(dtype) for seed in range(4))
    spacing, turns = 3 * positive(2, 9).double(), torch.arange(18).view(2, 9) << 27
    results = []
    for op, kind in ((kernels.add_harmonics, dtype), (reference.add_harmonics, torch.float64)):
        leaves = [x.to(kind).requires_grad_() for x in (log_magnitude, phase)]
        leaves.append((1500 * positive(2, 9, seed=1) - 300).double().requires_grad_())
        outputs = op(*leaves[:2], spacing, leaves[2], turns, 62.5)
        results.append([*outputs, *torch.autograd.grad(outputs, leaves, [dm.to(kind), dp.to(kind)])])
    for ours, exact in zip(*results, strict=True):
        tolerance = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=tolerance)


def test_tokens_are_those_of_the_reference():
    z = 1.5 * normal(2, 9, 5)
    tokens = kernels.fsq_pack(z, LEVELS, 2)
    assert torch.equal(tokens, reference.fsq_pack(z, LEVELS, 2))
    assert torch.equal(kernels.fsq_unpack(tokens, LEVELS, 2), reference.fsq_unpack(tokens, LEVELS, 2))


def test_mixed_signals_meet_in_float32():
    x, residual, weight, bias = normal(2, 37), normal(2, 37, seed=1).half(), positive(37), normal(37)
    for first, second in ((x, residual), (residual, x)):
        total, normed = kernels.add_layer_norm(first, second, 0.5, weight, bias)
        expected = reference.add_layer_norm(first.float(), second.float(), 0.5, weight, bias)
        torch.testing.assert_close((total, normed), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_schema_fake_and_gradient_are_those_of_the_op(dtype):
    x, alpha, beta = (t.requires_grad_() for t in (normal(2, 5, 21).to(dtype), positive(5), positive(5, seed=1)))
    torch.library.opcheck(torch.ops.silk_fast.snake.default, (x, alpha, beta, None, None))
    arguments = [t.requires_grad_() for t in (normal(2, 4, 14).to(dtype), normal(7, 3), *(positive(7) for _ in "012"))]
    torch.library.opcheck(torch.ops.silk_fast.glu_conv_norm_silu.default, tuple(arguments))


def test_compiled_whole():
    x, alpha, beta = normal(2, 5, 63), positive(5), positive(5, seed=1)

    def function(x: Tensor) -> Tensor:
        return kernels.snake(2 * x, alpha, beta) + 1

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), function(x))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"alpha must be \[5\], got \[4\]"):
        kernels.snake(normal(2, 5, 7).half(), positive(4), positive(5))
    with pytest.raises(TypeError, match=r"x must be float32 or bfloat16, got torch\.float64"):
        kernels.snake(normal(2, 5, 7).double(), positive(5), positive(5))


def test_the_gradient_passes_the_limit_of_a_magnitude_only_from_below():
    limit = reference.LOG_MAGNITUDE_LIMIT
    m = torch.tensor([limit - 1, limit + 1, limit - 1], dtype=torch.float64).expand(1, 1, 3).contiguous()
    dm, _ = gradients.polar_spectrum(torch.ones(1, 1, 2, 2, dtype=torch.float64), m, torch.zeros_like(m))
    assert dm[0, 0, 1] == 0
    assert dm[0, 0, 0] != 0
