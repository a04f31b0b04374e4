"""Operations in place give the reference's results bit for bit, and write nothing of the caller's."""

import pytest
import torch
from torch import Tensor, nn

from silk_fast.acceleration import cpu_forms
from silk_fast.reference import ops
from silk_fast.reference.layers import ResidualUnit, Snake

C, K = 6, 7


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def constants(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return tuple((normal(C, seed=seed) * 0.3).exp().to(dtype) for seed in (1, 2))


def unit_operands() -> tuple[Tensor, ...]:
    alpha, beta = constants()
    weights = normal(C, C, K, seed=3), normal(C, seed=4), normal(C, C, 1, seed=5), normal(C, seed=6)
    return (alpha, beta, *weights[:2], beta, alpha, *weights[2:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n_time", [1, 7, 500])
def test_snake(dtype, n_time):
    x = normal(2, C, n_time, seed=0, dtype=dtype) * 10
    before = x.clone()
    with torch.no_grad():
        y = cpu_forms.snake(x, *constants())
    expected = ops.snake(x, *constants())
    assert y.dtype == expected.dtype
    assert torch.equal(y, expected)
    assert torch.equal(x, before)


def test_snake_of_a_view():
    x = normal(2, 500, C, seed=0).transpose(1, 2)[..., ::2]
    with torch.no_grad():
        assert torch.equal(cpu_forms.snake(x, *constants()), ops.snake(x, *constants()))


@pytest.mark.parametrize("padding", ["causal", "symmetric", "context"])
def test_residual_unit(padding):
    x = normal(2, C, 300, seed=0)
    context = normal(2, C, (K - 1) * 3, seed=7) if padding == "context" else None
    operands = unit_operands()
    given = (x, *operands) if context is None else (x, *operands, context)
    before = [tensor.clone() for tensor in given]
    options = {"dilation": 3, "context": context, "padding": "causal" if context is not None else padding}
    with torch.no_grad():
        y = cpu_forms.residual_unit(x, *operands, **options)
    assert torch.equal(y, ops.residual_unit(x, *operands, **options))
    assert all(torch.equal(tensor, was) for tensor, was in zip(given, before, strict=True))


def test_autocast_gives_the_dtype_and_the_values_of_the_reference():
    x, operands = normal(1, C, 200, seed=0), unit_operands()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y, expected = (f(x, *operands, dilation=1) for f in (cpu_forms.residual_unit, ops.residual_unit))
    assert y.dtype == expected.dtype
    assert torch.equal(y, expected)


@pytest.mark.parametrize("replacement", [cpu_forms.InPlaceSnake, cpu_forms.InPlaceResidualUnit])
def test_gradients_are_those_of_the_reference(replacement):
    """With gradients on nothing is overwritten."""
    torch.manual_seed(0)
    module: nn.Module = Snake(C) if replacement is cpu_forms.InPlaceSnake else ResidualUnit(C, 3)
    gradients = []
    for _ in range(2):
        x = normal(1, C, 100, seed=0).requires_grad_()
        module.zero_grad()
        module(x).square().sum().backward()
        gradients.append([x.grad, *(parameter.grad.clone() for parameter in module.parameters())])
        module.__class__ = replacement
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_a_residual_unit_allocates_half_of_what_the_reference_does():
    module, x = ResidualUnit(C, 3), normal(1, C, 20_000, seed=0)

    def allocated() -> int:
        with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profiler:
            module(x)
        return sum(max(0, event.self_cpu_memory_usage) for event in profiler.events())

    reference = allocated()
    module.__class__ = cpu_forms.InPlaceResidualUnit
    assert allocated() < 0.55 * reference
