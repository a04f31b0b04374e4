"""Residual units of the codecs' stages. The fused kernel is for inference in half precision.

Elsewhere, "ours" is what an accelerated model does: cuDNN convolutions between Snake kernels. That is also the rival
"cudnn" of the fused kernel. Signals are channels last where the kernel wants them, as in an accelerated model.

Static cases: T = 8192 fills a card with large tiles; T = 30 is one Silk frame at 75 Hz, as in streaming.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, frames, kernels
from silk_fast.reference import ops as reference

KERNELS = frozenset({"_residual_unit_fwd_kernel", "_conv_fwd_kernel"})
HALVES = (torch.float16, torch.bfloat16)
N_TAPS, DILATION = 7, 9
CONTEXT = (N_TAPS - 1) * DILATION

LAYERS = {  # channels, samples per second, padding
    "Silk small 75 Hz": (192, 75, "causal"),
    "Silk small 24 kHz": (32, 24_000, "causal"),
    "DAC 44.1 kHz": (96, 44_100, "symmetric"),
    "Silk small 3 kHz": (64, 3_000, "causal"),
    "Silk small 375 Hz": (96, 375, "causal"),
    "Silk base 24 kHz": (64, 24_000, "causal"),
    "Silk base 75 Hz": (512, 75, "causal"),
    "DAC 689 Hz": (768, 44_100 / 64, "symmetric"),
    "Oobleck 44.1 kHz": (128, 44_100, "symmetric"),
    "Silk small 75 Hz stream": (192, 75, "causal"),
    "Silk small 24 kHz stream": (32, 24_000, "causal"),
}
MAIN = ("Silk small 75 Hz", "Silk small 24 kHz", "DAC 44.1 kHz")


def static_cases() -> list[StaticCase]:
    shapes = [
        *((c, 8192, torch.float16, 0) for c in (32, 64, 96, 128, 192, 512)),
        *((c, 8192, torch.bfloat16, 0) for c in (64, 192)),
        *((192, 30, dtype, CONTEXT) for dtype in HALVES),
    ]
    return [_static_case(*shape) for shape in shapes]


def _static_case(n_channels: int, n_time: int, dtype: torch.dtype, n_before: int) -> StaticCase:
    shape = f"[1, {n_time}, {n_channels}] {'context' if n_before else 'plain'}"

    def make(source: Source) -> list:
        return _packed(*_inputs((1, n_channels, n_time), n_before, source))

    sizes = {"B": 1, "C": n_channels, "T": n_time, "context": n_before}
    return StaticCase("residual_unit", shape, dtype, make, partial(_fused, "causal"), KERNELS, KERNELS, False, sizes)


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("residual_unit", _describe, [*LAYERS], points, dtypes, MAIN)


def _inputs(dims: tuple[int, int, int], n_before: int, source: Source) -> list[Tensor | None]:
    n_batch, n_channels, _ = dims
    weight1 = source.normal(n_channels, n_channels, N_TAPS, scale=(N_TAPS * n_channels) ** -0.5)
    weight2 = source.normal(n_channels, n_channels, 1, scale=n_channels**-0.5)
    snakes = [[source.positive(n_channels), source.positive(n_channels)] for _ in range(2)]
    biases = [source.normal(n_channels) for _ in range(2)]
    context = source.normal(n_batch, n_channels, n_before) if n_before else None
    return [source.normal(*dims), *snakes[0], weight1, biases[0], *snakes[1], weight2, biases[1], context]


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    n_channels, rate, padding = LAYERS[layer]
    dims = (point[0], n_channels, frames(point[1], rate))
    n_before = CONTEXT if layer.endswith("stream") else 0
    by_cudnn = partial(_by_cudnn, padding)
    calls = {"eager": lambda *inputs: reference.residual_unit(*inputs[:-1], DILATION, inputs[-1], padding)}
    is_fused = direction == "forward" and dtype != torch.float32
    calls |= {"ours": lambda *inputs: _fused(padding, kernels(), *inputs), "cudnn": by_cudnn} if is_fused else {}
    return {
        "sizes": {"B": dims[0], "C": n_channels, "T": dims[2], "context": n_before},
        "dims": dims,
        "make": partial(_inputs, dims, n_before),
        "calls": {"ours": by_cudnn, **calls},
        "layouts": {"ours": _packed} if is_fused else {},
    }


def _packed(x: Tensor, *inputs: Tensor | None) -> list:
    """Inputs of the fused kernel: rows ``[B, T, C]``, packed weights, and the context as a stream remembers it."""
    *parameters, context = inputs
    return [x.transpose(1, 2).contiguous(), kernels().pack_weights(*parameters), context]


def _fused(padding: str, ops, rows: Tensor, packed, context: Tensor | None) -> Tensor:
    before = None if context is None else context.transpose(1, 2)
    return ops.residual_unit_channels_last(rows, packed, DILATION, before, padding).transpose(1, 2)


def _by_cudnn(padding: str, *inputs: Tensor | None) -> Tensor:
    """cuDNN convolutions between Snake kernels."""
    kernels()  # finds the kernels of a checkout
    from silk_fast.acceleration.kernel_forms import KernelOps

    return KernelOps.residual_unit(*inputs[:-1], dilation=DILATION, context=inputs[-1], padding=padding)
