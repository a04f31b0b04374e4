"""Bytes and arithmetic by formula of every operation that has a kernel, and the time that a machine needs for them.

Bytes are the least traffic with memory: each input read once, each output written once. Where a cost is of matrix
products (``matmul``), flops are those of the products and convolutions alone, 2 per multiply-add, as
``torch.utils.flop_counter`` counts them; else one for each addition, multiplication, division, comparison or
elementary function of an element, as ``silk_fast/reference/ops.py`` writes them, and 2.5 n log2 n for a real Fourier
transform of n points. Both are lower bounds, so the time that they allow is one: a floor, whatever the program.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

import torch

Window = tuple[int | None, int | None]
TAPS = 7  # of the dilated convolution of a residual unit


@dataclass(frozen=True)
class Cost:
    """What a computation costs on any machine.

    Args:
        bytes: traffic with memory.
        flops: arithmetic operations; see the head of this file.
        matmul: whether the arithmetic is that of matrix products, which have units of their own.
    """

    bytes: int
    flops: int
    matmul: bool


@dataclass(frozen=True)
class Ceilings:
    """What a machine reaches: bytes per second, and operations per second in matrix products and elsewhere."""

    bandwidth: float
    matmul_rate: float
    flop_rate: float

    def floor(self, costs: Iterable[Cost]) -> tuple[float, str]:
        """Seconds that steps take at least, one after another, and ``"bandwidth"`` or ``"compute"``, which bounds most.

        Each takes the longer of its traffic and its arithmetic (Williams et al., 2009).
        """
        floors = {"bandwidth": 0.0, "compute": 0.0}
        for cost in costs:
            traffic = cost.bytes / self.bandwidth
            arithmetic = cost.flops / (self.matmul_rate if cost.matmul else self.flop_rate)
            floors["bandwidth" if traffic >= arithmetic else "compute"] += max(traffic, arithmetic)
        return sum(floors.values()), max(floors, key=lambda name: floors[name])


def op_cost(op: str, direction: str, dtype: torch.dtype, **sizes) -> Cost:
    """Least traffic and arithmetic of one call.

    A backward pass reads the incoming gradient and the inputs it needs, and writes every gradient; it is not given
    what the forward pass may have kept, but its arithmetic includes recomputing only where keeping would cost more.

    In a stream an op also reads what earlier calls left: ``context`` samples or frames of its input, ``cached`` keys
    and values of each signal, or the overlap of the inverse STFT.

    Args:
        op: of ``FORMULAS``.
        direction: ``"forward"`` or ``"backward"``.
        dtype: of the main input. Codes, tokens, windows and decoded audio have 4 bytes whatever it is.
        sizes: arguments of the formula, by name.
    """
    assert direction == "forward" or (direction == "backward" and op not in NO_GRADIENT), (op, direction)
    return FORMULAS[op](direction == "backward", dtype.itemsize, **sizes)


def _snake(backward: bool, size: int, *, B: int, C: int, T: int, bias: bool = False, residual: bool = False) -> Cost:
    n, parameters = B * C * T, C * (2 + bias)
    if backward:  # the gradient of the residual is the incoming one, nothing to write
        return Cost(size * (3 * n + 2 * parameters), (13 + 2 * bias) * n, False)
    return Cost(size * ((2 + residual) * n + parameters), (5 + bias + residual) * n, False)


def _elu(backward: bool, size: int, *, B: int, C: int, T: int, bias: bool = False, residual: bool = False) -> Cost:
    n = B * C * T
    if backward:  # from the output, which stands for x, bias and residual; the gradients of x and residual are one
        return Cost(size * (3 * n + bias * C), (3 + bias) * n, False)
    return Cost(size * ((2 + residual) * n + bias * C), (2 + bias + residual) * n, False)


def _fsq_quantize(backward: bool, size: int, *, N: int, D: int, group_size: int = 1) -> Cost:
    return Cost((4 + (1 + backward) * size) * N * D, 6 * N * D, False)


def _fsq_pack(backward: bool, size: int, *, N: int, D: int, group_size: int) -> Cost:
    return Cost(size * N * D + 4 * N * math.ceil(D / group_size), 8 * N * D, False)


def _fsq_unpack(backward: bool, size: int, *, N: int, D: int, group_size: int) -> Cost:
    return Cost(4 * N * math.ceil(D / group_size) + 4 * N * D, 4 * N * D, False)


def _rvq_encode(backward: bool, size: int, *, N: int, Q: int, K: int, D: int) -> Cost:
    return Cost(size * (N * D + Q * K * D) + 8 * N * Q, 2 * N * Q * K * D, True)


def _rvq_decode(backward: bool, size: int, *, N: int, Q: int, K: int, D: int) -> Cost:
    return Cost(size * (N * D + Q * K * D) + 8 * N * Q, N * Q * D, False)


def _factorized_rvq_encode(backward: bool, size: int, *, N: int, Q: int, K: int, D: int) -> Cost:
    return Cost(size * (N + K + Q * K) * Q * D + N * Q * (8 + 4 * D), 2 * N * Q * K * D, True)


@cache
def visible_pairs(n_queries: int, left: int | None, right: int | None, n_cached: int = 0) -> int:
    """Pairs of a query and a key at most ``left`` before and ``right`` after it; None for all.

    Args:
        n_cached: keys before the first query.
    """
    n_keys = n_cached + n_queries
    left, right = (n_keys if extent is None else extent for extent in (left, right))
    return sum(1 + min(i_query, left) + min(n_keys - 1 - i_query, right) for i_query in range(n_cached, n_keys))


def _attention(
    backward: bool, size: int, n_heads: int, T: int, D: int, pairs: int, rows: int, parameters: int, cached: int = 0
) -> Cost:
    """``n_heads`` over all samples; ``rows``: pairs of a query and a distinct row of positions it meets."""
    flops = n_heads * 2 * D * ((5 if backward else 2) * pairs + (3 if backward else 1) * rows)
    # Queries and outputs, keys and values; backward a gradient of each, and no output.
    vectors = (3 if backward else 2) * T + (4 if backward else 2) * (T + cached)
    return Cost(size * (n_heads * D * vectors + (1 + backward) * parameters), flops, True)


def _rel_attention(
    backward: bool, size: int, *, B: int, H: int, T: int, D: int, window: Window = (None, None), cached: int = 0
) -> Cost:
    pairs = visible_pairs(T, *window, cached)
    left, right = (T + cached - 1 if extent is None else extent for extent in window)
    cost = _attention(backward, size, B * H, T, D, pairs, pairs, H * D * (left + right + 1 + 2), cached)
    return replace(cost, bytes=cost.bytes + (8 * B if cached else 0))  # a cache comes with its first valid keys, int64


def _rel_key_attention(backward: bool, size: int, *, B: int, H: int, T: int, D: int, left: int, right: int) -> Cost:
    return _attention(backward, size, B * H, T, D, T * T, visible_pairs(T, left, right), D * (left + right + 1))


def _bias_silu(backward: bool, size: int, *, N: int, C: int) -> Cost:
    if backward:
        return Cost(size * (3 * N * C + 2 * C), 8 * N * C, False)
    return Cost(size * (2 * N * C + C), 3 * N * C, False)


def _add_layer_norm(backward: bool, size: int, *, N: int, C: int) -> Cost:
    if backward:  # from the sum, which both outputs share: it stands for x and residual
        return Cost(size * (5 * N * C + 3 * C), 18 * N * C, False)
    return Cost(size * (4 * N * C + 2 * C), 9 * N * C, False)


def _glu_conv_norm_silu(backward: bool, size: int, *, B: int, T: int, C: int, K: int, context: int = 0) -> Cost:
    n, n_before, parameters = B * T * C, B * context * C, C * (K + 3)
    if backward:
        return Cost(size * (5 * n + 4 * n_before + 2 * parameters), (6 * K + 33) * n + 8 * n_before, False)
    return Cost(size * (3 * n + 2 * n_before + parameters), (2 * K + 11) * n + 2 * n_before, False)


def _add_harmonics(backward: bool, size: int, *, B: int, N: int, K: int) -> Cost:
    """Backward, the gradient of the log-magnitude is the one that comes in."""
    n, frames = B * N * K, 8 * B * N
    if backward:
        return Cost(size * 3 * n + 3 * frames, 26 * n, False)
    return Cost(size * 4 * n + 3 * frames, 28 * n, False)


def _polar_istft(backward: bool, size: int, *, B: int, N: int, n_fft: int, hop: int) -> Cost:
    bins = n_fft // 2 + 1
    frame = (12 if backward else 6) * bins + 2.5 * n_fft * math.log2(n_fft) + (1 if backward else 2) * n_fft + hop
    spectra = (4 if backward else 2) * B * N * bins
    return Cost(size * spectra + 4 * (B * N * hop + n_fft), round(B * N * frame), False)


def _polar_istft_stream(backward: bool, size: int, *, B: int, N: int, n_fft: int, hop: int) -> Cost:
    """As the whole one; the overlap of earlier frames is read and added, a new one divided and written."""
    whole, n_overlap = _polar_istft(backward, size, B=B, N=N, n_fft=n_fft, hop=hop), B * (n_fft - hop)
    return Cost(whole.bytes + 2 * 4 * n_overlap, whole.flops + (1 if backward else 2) * n_overlap, False)


def _residual_unit(backward: bool, size: int, *, B: int, C: int, T: int, context: int = 0) -> Cost:
    n, n_before, flops = B * C * T, B * C * context, 2 * (TAPS + 1) * C * C * B * T
    parameters = (TAPS + 1) * C * C + 6 * C
    if backward:
        return Cost(size * (3 * n + 2 * n_before + 2 * parameters), 2 * flops, True)
    return Cost(size * (2 * n + n_before + parameters), flops, True)


FORMULAS: dict[str, Callable[..., Cost]] = {
    formula.__name__[1:]: formula
    for formula in (
        *(_snake, _elu, _fsq_pack, _fsq_unpack, _fsq_quantize, _rel_attention, _rel_key_attention, _bias_silu),
        *(_add_layer_norm, _glu_conv_norm_silu, _add_harmonics, _polar_istft, _polar_istft_stream, _residual_unit),
        *(_rvq_encode, _rvq_decode, _factorized_rvq_encode),
    )
}
"""What :func:`op_cost` knows."""

NO_GRADIENT = ("fsq_pack", "fsq_unpack", "rvq_encode", "rvq_decode", "factorized_rvq_encode")
"""Of those, what has no backward pass: tokens and indices are integers."""
