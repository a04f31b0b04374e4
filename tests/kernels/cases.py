"""Small calls of every kernel in its forms, for checks that are the same for all: streams, graphs, sanitizer.

CONTRIBUTING.md says how the sanitizer runs it on a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from silk_fast.kernels._launch import processors
from torch import Tensor

from silk_fast import kernels
from tests.kernels.support import DEVICE, hann

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


def integers(*values: int) -> Tensor:
    return torch.tensor(values, device=DEVICE)


def residual_unit_inputs(n_time: int, context: int | None = None) -> list[Tensor]:
    half = torch.float16
    weight1, weight2 = normal(32, 32, 7) / 15, normal(32, 32, 1) / 6
    first = [positive(32), positive(32), weight1.to(half), normal(32)]
    second = [positive(32), positive(32), weight2.to(half), normal(32)]
    contexts = [] if context is None else [normal(2, 32, context).to(half)]
    return [normal(2, 32, n_time).to(half), *first, *second, *contexts]


def filling_time() -> int:
    """Frames of two samples with which the residual unit takes its one-kernel form on this card."""
    return 32 * processors(torch.device(DEVICE))


# Named by the kernel, and after a comma by what else is exercised.
CALLS: dict[str, Call] = {
    "snake": Call(kernels.snake, lambda: [normal(2, 8, 1000), positive(8), positive(8), normal(8), normal(2, 8, 1000)]),
    "snake, short rows": Call(kernels.snake, lambda: [normal(2, 6, 7), positive(6), positive(6), normal(6)]),
    "elu": Call(kernels.elu, lambda: [normal(2, 8, 1000), normal(8), normal(2, 8, 1000)]),
    "elu, short rows": Call(kernels.elu, lambda: [normal(2, 6, 7), normal(6)]),
    "elu, no bias": Call(kernels.elu, lambda: [normal(2, 6, 7)]),
    "add_harmonics": Call(
        lambda m, p, cutoff: kernels.add_harmonics(m, p, 3 + cutoff / 1e3, cutoff, cutoff.long() << 20, 18.75),
        lambda: [normal(2, 33, 65), normal(2, 33, 65), torch.rand(2, 33, device=DEVICE, dtype=torch.float64) * 2e3],
    ),
    "fsq_pack": Call(lambda z: kernels.fsq_pack(z, LEVELS, 7), lambda: [normal(2, 33, 16)], differentiable=False),
    "fsq_pack, channels first": Call(
        lambda z: kernels.fsq_pack(z, LEVELS, 7, dim=1), lambda: [normal(2, 16, 33)], differentiable=False
    ),
    "fsq_unpack": Call(
        lambda tokens: kernels.fsq_unpack(tokens, LEVELS, 7),
        lambda: [torch.randint(0, 64, (2, 33, 3), dtype=torch.int32, device=DEVICE)],
        differentiable=False,
    ),
    "fsq_unpack, channels first": Call(
        lambda tokens: kernels.fsq_unpack(tokens, LEVELS, 7, dim=1),
        lambda: [torch.randint(0, 64, (2, 33, 3), dtype=torch.int32, device=DEVICE)],
        differentiable=False,
    ),
    "fsq_quantize": Call(lambda z: kernels.fsq_quantize(z, LEVELS), lambda: [normal(2, 33, 16)]),
    "fsq_quantize, channels first": Call(lambda z: kernels.fsq_quantize(z, LEVELS, dim=1), lambda: [normal(2, 16, 33)]),
    "bias_silu": Call(kernels.bias_silu, lambda: [normal(2, 33, 64), normal(64)]),
    "add_layer_norm": Call(
        lambda x, residual, weight, bias: kernels.add_layer_norm(x, residual, 0.5, weight, bias),
        lambda: [normal(2, 33, 64), normal(2, 33, 64), positive(64), normal(64)],
    ),
    "glu_conv_norm_silu": Call(
        kernels.glu_conv_norm_silu, lambda: [normal(2, 18, 64), normal(32, 5) / 2, normal(32), positive(32), normal(32)]
    ),
    "glu_conv_norm_silu, context": Call(
        lambda x, weight, bias, gain, shift, context: kernels.glu_conv_norm_silu(
            x, weight, bias, gain, shift, context=context
        ),
        lambda: [normal(2, 5, 64), normal(32, 5) / 2, normal(32), positive(32), normal(32), normal(2, 4, 64)],
    ),
    "rel_attention": Call(
        lambda q, k, v, pos, u, v_bias: kernels.rel_attention(q, k, v, pos, u, v_bias, (15, 0)),
        lambda: [*(normal(2, 2, 20, 16) for _ in range(3)), normal(2, 16, 16), normal(2, 16), normal(2, 16)],
    ),
    "rel_attention, lengths and starts": Call(
        lambda q, k, v, pos, u, v_bias, lengths, starts: kernels.rel_attention(
            q, k, v, pos, u, v_bias, (15, 0), lengths, starts
        ),
        lambda: [
            *(normal(2, 2, n, 16) for n in (7, 20, 20)),
            *(normal(2, 16, 16), normal(2, 16), normal(2, 16)),
            *(integers(20, 16), integers(0, 18)),  # the second sample has no key
        ],
    ),
    "rel_key_attention": Call(
        lambda q, k, v, table: kernels.rel_key_attention(q, k, v, table, 6, 3),
        lambda: [*(normal(2, 2, 20, 16) for _ in range(3)), normal(10, 16)],
    ),
    "rel_key_attention, lengths": Call(
        lambda q, k, v, table, lengths: kernels.rel_key_attention(q, k, v, table, 6, 3, lengths),
        lambda: [*(normal(2, 2, 20, 16) for _ in range(3)), normal(10, 16), integers(20, 0)],
    ),
    "polar_istft": Call(
        lambda m, p: kernels.polar_istft(m, p, hann(64), 16, "causal"),
        lambda: [normal(2, 20, 33), 3 * normal(2, 20, 33)],
    ),
    "polar_istft_stream": Call(
        lambda m, p, overlap: kernels.polar_istft_stream(m, p, hann(64), 16, overlap),
        lambda: [normal(2, 3, 33), 3 * normal(2, 3, 33), normal(2, 48)],
    ),
    "rvq_encode": Call(kernels.rvq_encode, lambda: [normal(2, 33, 24), normal(3, 100, 24)], differentiable=False),
    "rvq_decode": Call(
        kernels.rvq_decode,
        lambda: [torch.randint(0, 100, (2, 3, 33), device=DEVICE), normal(3, 100, 24)],
        differentiable=False,
    ),
    "factorized_rvq_encode": Call(
        kernels.factorized_rvq_encode,
        lambda: [normal(2, 32, 24), normal(3, 100, 8), normal(3, 100, 24)],
        differentiable=False,
    ),
    "factorized_rvq_encode, strides": Call(
        lambda *inputs: kernels.factorized_rvq_encode(*inputs, [4, 2, 1], "snac"),
        lambda: [normal(2, 32, 24), normal(3, 100, 8), normal(3, 100, 24)],
        differentiable=False,
    ),
    "residual_unit": Call(
        lambda *inputs: kernels.residual_unit(*inputs, dilation=3),
        lambda: residual_unit_inputs(200),
        differentiable=False,
    ),
    "residual_unit, one kernel": Call(
        lambda *inputs: kernels.residual_unit(*inputs, dilation=9),
        lambda: residual_unit_inputs(filling_time()),
        differentiable=False,
    ),
    "residual_unit, context": Call(
        lambda *inputs: kernels.residual_unit(*inputs[:-1], 3, inputs[-1]),
        lambda: residual_unit_inputs(30, context=18),
        differentiable=False,
    ),
}


def outputs_and_gradients(call: Call, inputs: list[Tensor]) -> list[Tensor]:
    """Results of one call and, where there are any, the gradients of their sum of squares."""
    inputs = [t.detach().requires_grad_(call.differentiable and t.is_floating_point()) for t in inputs]
    leaves = [t for t in inputs if t.requires_grad]
    results = call.function(*inputs)
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
