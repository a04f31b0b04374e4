"""One small call of every kernel, for checks that are the same for all: streams, graphs, sanitizer.

compute-sanitizer --error-exitcode 1 python -m tests.kernels.cases    # on a GPU, each kernel once
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from silk_fast.kernels import all as kernels
from torch import Tensor

from tests.kernels.support import DEVICE

LEVELS = (8,) * 16


@dataclass(frozen=True)
class Call:
    """A kernel's function and inputs that fit it; ``differentiable`` ones are also run backward."""

    function: Callable
    inputs: Callable[[], list]
    differentiable: bool = True


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, device=DEVICE)


def positive(*shape: int) -> Tensor:
    return torch.rand(shape, device=DEVICE) + 0.5


def residual_unit_inputs() -> list[Tensor]:
    half = torch.float16
    weight1, weight2 = normal(32, 32, 7) / 15, normal(32, 32, 1) / 6
    first = [positive(32), positive(32), weight1.to(half), normal(32)]
    return [normal(2, 32, 200).to(half), *first, positive(32), positive(32), weight2.to(half), normal(32)]


def hann(n_fft: int) -> Tensor:
    return torch.hann_window(n_fft, device=DEVICE)


CALLS: dict[str, Call] = {
    "snake": Call(kernels.snake, lambda: [normal(2, 8, 1000), positive(8), positive(8), normal(8), normal(2, 8, 1000)]),
    "fsq_pack": Call(lambda z: kernels.fsq_pack(z, LEVELS, 7), lambda: [normal(2, 33, 16)], differentiable=False),
    "fsq_unpack": Call(
        lambda tokens: kernels.fsq_unpack(tokens, LEVELS, 7),
        lambda: [torch.randint(0, 64, (2, 33, 3), dtype=torch.int32, device=DEVICE)],
        differentiable=False,
    ),
    "fsq_quantize": Call(lambda z: kernels.fsq_quantize(z, LEVELS), lambda: [normal(2, 33, 16)]),
    "bias_silu": Call(kernels.bias_silu, lambda: [normal(2, 33, 64), normal(64)]),
    "add_layer_norm": Call(
        lambda x, residual, weight, bias: kernels.add_layer_norm(x, residual, 0.5, weight, bias),
        lambda: [normal(2, 33, 64), normal(2, 33, 64), positive(64), normal(64)],
    ),
    "glu_conv_norm_silu": Call(
        kernels.glu_conv_norm_silu,
        lambda: [normal(2, 33, 64), normal(32, 15) / 4, normal(32), positive(32), normal(32)],
    ),
    "rel_attention": Call(
        lambda q, k, v, pos, u, v_bias: kernels.rel_attention(q, k, v, pos, u, v_bias, (15, 0)),
        lambda: [*(normal(2, 4, 40, 16) for _ in range(3)), normal(4, 16, 16), normal(4, 16), normal(4, 16)],
    ),
    "rel_key_attention": Call(
        lambda q, k, v, table: kernels.rel_key_attention(q, k, v, table, 6, 3),
        lambda: [*(normal(2, 4, 40, 16) for _ in range(3)), normal(10, 16)],
    ),
    "polar_istft": Call(
        lambda m, p: kernels.polar_istft(m, p, hann(64), 16, "causal"),
        lambda: [normal(2, 20, 33), 3 * normal(2, 20, 33)],
    ),
    "residual_unit": Call(
        lambda *inputs: kernels.residual_unit(*inputs, dilation=3), residual_unit_inputs, differentiable=False
    ),
}


def outputs_and_gradients(call: Call, inputs: list[Tensor]) -> list[Tensor]:
    """Results of one call and, where there are any, the gradients of their sum of squares."""
    leaves = [t.detach().requires_grad_(call.differentiable) if t.is_floating_point() else t for t in inputs]
    results = call.function(*leaves)
    results = list(results) if isinstance(results, tuple) else [results]
    gradients = []
    if call.differentiable:
        loss = sum(result.float().square().sum() for result in results)
        gradients = list(torch.autograd.grad(loss, leaves))
    return [result.detach() for result in results] + gradients


if __name__ == "__main__":
    for name, call in CALLS.items():
        outputs_and_gradients(call, call.inputs())
        torch.cuda.synchronize()
        print(name)
