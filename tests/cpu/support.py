"""A small call of every operation, and the three-way bound."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.bound import assert_matches
from silk_fast.cpu import ops
from silk_fast.reference import ops as reference

DTYPES = [torch.float32, torch.bfloat16]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positive(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 0.2


def many(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def to(dtype: torch.dtype, arguments: Sequence) -> list:
    return [x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments]


def assert_op_matches(ours: Callable, theirs: Callable, arguments: Sequence, dtype: torch.dtype) -> None:
    """The three-way bound on every output of one call; ``arguments`` are exact in ``dtype``."""
    exact, eager = (many(theirs(*to(d, arguments))) for d in (torch.float64, dtype))
    for i, (o, e, x) in enumerate(zip(many(ours(*to(dtype, arguments))), eager, exact, strict=True)):
        assert_matches(o, e, x, o.dtype, f"result {i}")


# ---------------------------------------------------------------- every operation, with all of its arguments


def fused_snake(x: Tensor, alpha: Tensor, beta: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    return residual + reference.snake(x + bias[:, None], alpha, beta)


def in_float(istft: Callable) -> Callable:
    """An inverse STFT whose result is float32, from whatever it is given."""

    def function(log_magnitude: Tensor, phase: Tensor, window: Tensor, hop: int, *rest: Tensor | str):
        wide = log_magnitude.dtype if log_magnitude.dtype == torch.float64 else torch.float32
        return istft(log_magnitude.to(wide), phase.to(wide), window.to(wide), hop, *to(wide, rest))

    return function


def polar(n_batch: int, n_frames: int, n_fft: int) -> tuple[Tensor, Tensor]:
    """Log-magnitudes of audio near 1, some of them beyond the limit, and phases of many turns; exact in bfloat16."""
    log_magnitude = 0.5 * normal(n_batch, n_frames, n_fft // 2 + 1) + math.log(n_fft) / 2 - 1
    log_magnitude[..., 100::50] += 2
    phase = 30 * normal(*log_magnitude.shape, seed=1)
    return log_magnitude.bfloat16().float(), phase.bfloat16().float()


def of_harmonics(operation: Callable) -> Callable:
    """The operation on signals in float32 at least, with what is always float64 in that."""

    def function(log_magnitude: Tensor, phase: Tensor, spacing: Tensor, cutoff: Tensor, turns: Tensor):
        wide = log_magnitude.dtype if log_magnitude.dtype == torch.float64 else torch.float32
        contours = spacing.double(), cutoff.double(), turns
        return operation(log_magnitude.to(wide), phase.to(wide), *contours, 62.5)

    return function


@dataclass(frozen=True)
class Case:
    """One operation; the first dimension of its first ``n_batched`` arguments and of ``also`` is the batch."""

    ours: Callable
    reference: Callable
    make: Callable[[int, int], list]  # of batch and length
    n_batched: int = 1
    also: tuple[int, ...] = ()


LEVELS = (8, 5, 2, 3, 7)
CASES = {
    "snake": Case(ops.snake, reference.snake, lambda b, n: [3 * normal(b, 5, n), positive(5), positive(5, seed=1)]),
    "fused snake": Case(
        lambda x, a, b, bias, r: ops.snake(x, a, b, bias, r),
        fused_snake,
        lambda b, n: [3 * normal(b, 5, n), positive(5), positive(5, seed=1), normal(5), normal(b, 5, n, seed=1)],
        also=(4,),
    ),
    "elu": Case(ops.elu, reference.elu, lambda b, n: [3 * normal(b, 5, n)]),
    "fused elu": Case(
        ops.elu, reference.elu, lambda b, n: [3 * normal(b, 5, n), normal(5), normal(b, 5, n, seed=1)], also=(2,)
    ),
    "fsq_pack": Case(ops.fsq_pack, reference.fsq_pack, lambda b, n: [1.5 * normal(b, n, 5), LEVELS, 2]),
    "fsq_quantize": Case(ops.fsq_quantize, reference.fsq_quantize, lambda b, n: [1.5 * normal(b, n, 5), LEVELS]),
    "fsq_unpack": Case(
        ops.fsq_unpack, reference.fsq_unpack, lambda b, n: [reference.fsq_pack(normal(b, n, 5), LEVELS, 2), LEVELS, 2]
    ),
    "bias_silu": Case(ops.bias_silu, reference.bias_silu, lambda b, n: [3 * normal(b, n, 37), normal(37, seed=1)]),
    "add_layer_norm": Case(
        ops.add_layer_norm,
        reference.add_layer_norm,
        lambda b, n: [normal(b, n, 37), normal(b, n, 37, seed=1), 0.5, positive(37), normal(37, seed=2)],
        n_batched=2,
    ),
    "glu_conv_norm_silu": Case(
        ops.glu_conv_norm_silu,
        reference.glu_conv_norm_silu,
        lambda b, n: [
            *(normal(b, n, 2 * 37), normal(37, 15, seed=1), normal(37, seed=2)),
            *(positive(37), normal(37, seed=3), 1e-5, normal(b, 14, 2 * 37, seed=4)),
        ],
        also=(6,),
    ),
    "rel_attention": Case(
        ops.rel_attention,
        reference.rel_attention,
        lambda b, n: [
            *(normal(b, 2, n, 5), normal(b, 2, n + 3, 5, seed=1), normal(b, 2, n + 3, 5, seed=2)),
            *(normal(2, 22, 5, seed=3), normal(2, 5, seed=4), normal(2, 5, seed=5), (19, 2)),
            *(torch.full((b,), n + 2), torch.arange(b) % 3),
        ],
        n_batched=3,
        also=(7, 8),
    ),
    "add_harmonics": Case(
        of_harmonics(ops.add_harmonics),
        of_harmonics(reference.add_harmonics),
        lambda b, n: [
            *(normal(b, n, 33), normal(b, n, 33, seed=1), 3 * positive(b, n), 1500 * positive(b, n, seed=1) - 300),
            torch.arange(n * b).view(b, n) * 2**27 % 2**32,
        ],
        n_batched=5,
    ),
    "polar_istft": Case(
        ops.polar_istft,
        in_float(reference.polar_istft),
        lambda b, n: [*polar(b, n, 64), torch.hann_window(64), 16, "same"],
        n_batched=2,
    ),
    "polar_istft_stream": Case(
        ops.polar_istft_stream,
        in_float(reference.polar_istft_stream),
        lambda b, n: [*polar(b, n, 64), torch.hann_window(64), 16, normal(b, 48)],
        n_batched=2,
        also=(4,),
    ),
}
