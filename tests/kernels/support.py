"""How every kernel is tested: device, dtypes, the three-way bound."""

import itertools
import os
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from bench.bound import ATOL as ATOL  # the tests import it from here
from bench.bound import assert_matches

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter is silently wrong for bfloat16 arithmetic, so bfloat16 is tested on a GPU only.
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])
SIZES = [1, 7, 63, 500, 1000]
# Of an attention, in tiles of 16 or more; triton is not imported here, as the emulator comes before it.
MANY_KEYS = 2_000 if os.environ.get("TRITON_INTERPRET") == "1" else 20_000
of_pytorch = pytest.mark.not_emulated("what it asks of PyTorch it asks where kernels are interpreted, too")


def in_turn(cases: Sequence, others: Sequence) -> list[tuple]:
    """Pair every case with one of the others, in turn: what does not depend on both need not see every pair."""
    return list(zip(cases, itertools.cycle(others)))


def single_and_half(cases: Sequence) -> list[tuple]:
    """Pair every case with float32, and with one half precision in turn: these share tiles and paths of a kernel."""
    return in_turn(cases, [torch.float32]) + in_turn(cases, [dtype for dtype in DTYPES if dtype != torch.float32])


def run(function: Callable, inputs: Sequence, grads: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor | None]:
    """Outputs of ``function`` and its gradients to every floating-point input.

    Args:
        inputs: tensors (floating ones are cast to ``dtype``) and other arguments, in order.
        grads: one incoming gradient per floating-point output; empty to skip the backward pass.
    """
    cast = [t.detach().to(DEVICE, dtype).requires_grad_(bool(grads)) if is_float(t) else to_device(t) for t in inputs]
    # oneDNN of torch 2.13 never ends with a grouped convolution in float16 on processors with AVX-512 FP16.
    with torch.backends.mkldnn.flags(enabled=dtype != torch.float16):
        return _outputs_and_gradients(function, cast, grads)


def _outputs_and_gradients(function: Callable, cast: list, grads: Sequence[Tensor]) -> list[Tensor | None]:
    outputs = function(*cast)
    outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
    if not grads:
        return [o.detach() for o in outputs]
    leaves = [t for t in cast if is_float(t)]
    floating = [o for o in outputs if is_float(o)]
    cast_grads = [g.to(o) for g, o in zip(grads, floating, strict=True)]
    return [o.detach() for o in outputs] + list(torch.autograd.grad(floating, leaves, cast_grads))


def assert_op_matches(
    ours: Callable,
    reference: Callable,
    inputs: Sequence,
    grads: Sequence[Tensor],
    dtype: torch.dtype,
    exact_dtype: torch.dtype = torch.float64,
) -> None:
    """The three-way bound on every output and every gradient of one call."""
    exact, eager, mine = (
        run(f, inputs, grads, d) for f, d in ((reference, exact_dtype), (reference, dtype), (ours, dtype))
    )
    for i, (o, e, x) in enumerate(zip(mine, eager, exact, strict=True)):
        assert_matches(o, e, x.double(), dtype, f"result {i}")


def hann(n_fft: int) -> Tensor:
    return torch.hann_window(n_fft, device=DEVICE)


def head_layouts(x: Tensor) -> dict[str, Tensor]:
    """``x`` [B, H, T, D] as a module may hand it over: heads of joined frames, one of three projections, unaligned."""
    frames = x.transpose(1, 2)
    return {
        "joined": frames.contiguous().transpose(1, 2),
        "projections": torch.stack([frames] * 3, dim=2)[:, :, 1].transpose(1, 2),
        "unaligned": torch.nn.functional.pad(x, (1, 2))[..., 1:-2],
    }


def assert_same_bits(function: Callable, inputs: Sequence[Tensor], others: Sequence[Tensor], grad: Tensor) -> None:
    """Check that ``others``, the values of ``inputs`` in other layouts, give the same output and gradients."""
    results = []
    for tensors in (inputs, others):
        leaves = [x.detach().requires_grad_() for x in tensors]
        output = function(*leaves)
        results.append([output, *torch.autograd.grad(output, leaves, grad)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def to_device(value: object) -> object:
    return value.to(DEVICE) if isinstance(value, Tensor) else value
