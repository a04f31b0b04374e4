"""Residual units of the codecs' stages. The fused kernel is for inference in half precision.

Elsewhere, "ours" is what an accelerated model does: cuDNN convolutions between Snake kernels. That is also the rival
"cudnn" of the fused kernel. Signals are channels last where the kernel wants them, as in an accelerated model.

Static cases: T = 8192 fills a card with large tiles; T = 30 is one Silk frame at 75 Hz, as in streaming.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.cases import Point, Source, StaticCase, TimingCase, all_cases, frames, kernels
from silk_fast.reference import ops as reference

KERNELS = frozenset({"_residual_unit_fwd_kernel", "_conv_fwd_kernel"})
HALVES = (torch.float16, torch.bfloat16)
N_TAPS, DILATION = 7, 9

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
}
STREAMS = {f"{layer} stream": LAYERS[layer] for layer in ("Silk small 75 Hz", "Silk small 24 kHz")}
MAIN = ("Silk small 75 Hz", "Silk small 24 kHz", "DAC 44.1 kHz", *STREAMS)


def _case(n_channels: int, n_time: int, dtype: torch.dtype, form: str = "plain") -> StaticCase:
    """``form``: ``plain`` or ``context`` (streaming)."""
    from silk_fast.kernels import pack_weights, residual_unit_channels_last

    vector = torch.ones(n_channels, dtype=dtype)
    weight1 = torch.zeros(n_channels, n_channels, N_TAPS, dtype=dtype)
    packed = pack_weights(vector, vector, weight1, vector, vector, vector, weight1[..., :1], vector)
    x = torch.zeros(1, n_time, n_channels, dtype=dtype)
    context = torch.zeros(1, (N_TAPS - 1) * DILATION, n_channels, dtype=dtype) if form == "context" else None

    def run() -> None:
        residual_unit_channels_last(x, packed, DILATION, context)

    return StaticCase("residual_unit", f"[1, {n_time}, {n_channels}] {form}", dtype, run, KERNELS, KERNELS)


def static_cases() -> list[StaticCase]:
    shapes = [
        *((c, 8192, torch.float16) for c in (32, 64, 96, 128, 192, 512)),
        *((c, 8192, torch.bfloat16) for c in (64, 192)),
        *((192, 30, dtype, "context") for dtype in HALVES),
    ]
    return [_case(*shape) for shape in shapes]


def timing_cases(points: Sequence[Point], dtypes: Sequence[torch.dtype]) -> list[TimingCase]:
    return all_cases("residual_unit", _describe, LAYERS, points, dtypes, MAIN, STREAMS)


def _describe(layer: str, point: Point, dtype: torch.dtype, direction: str) -> dict:
    is_stream = layer in STREAMS
    n_channels, rate, padding = (LAYERS | STREAMS)[layer]
    dims = (point[0], n_channels, frames(point[1], rate))
    n_before = (N_TAPS - 1) * DILATION if is_stream else 0
    is_fused = direction == "forward" and dtype != torch.float32

    def make(source: Source) -> list[Tensor | None]:
        weight1 = source.normal(n_channels, n_channels, N_TAPS, scale=(N_TAPS * n_channels) ** -0.5)
        weight2 = source.normal(n_channels, n_channels, 1, scale=n_channels**-0.5)
        snakes = [[source.positive(n_channels), source.positive(n_channels)] for _ in range(2)]
        biases = [source.normal(n_channels) for _ in range(2)]
        context = source.normal(*dims[:2], n_before) if is_stream else None
        return [source.normal(*dims), *snakes[0], weight1, biases[0], *snakes[1], weight2, biases[1], context]

    calls = {"ours": _fused(padding), "cudnn": _by_cudnn(padding)} if is_fused else {"ours": _by_cudnn(padding)}
    calls["eager"] = lambda *inputs: reference.residual_unit(*inputs[:-1], DILATION, inputs[-1], padding)
    return {
        "sizes": {"B": dims[0], "C": n_channels, "T": dims[2], "context": n_before},
        "dims": dims,
        "make": make,
        "calls": calls,
        "layouts": {"ours": _packed} if is_fused else {},
    }


def _packed(x: Tensor, *inputs: Tensor | None) -> list:
    """Inputs of the fused kernel: rows ``[B, T, C]``, packed weights, and the context as a stream remembers it."""
    *parameters, context = inputs
    return [x.transpose(1, 2).contiguous(), kernels().pack_weights(*parameters), context]


def _fused(padding: str) -> Callable[..., Tensor]:
    def call(rows: Tensor, packed, context: Tensor | None) -> Tensor:
        before = None if context is None else context.transpose(1, 2)
        return kernels().residual_unit_channels_last(rows, packed, DILATION, before, padding).transpose(1, 2)

    return call


def _by_cudnn(padding: str) -> Callable[..., Tensor]:
    """cuDNN convolutions between Snake kernels."""

    def call(*inputs: Tensor | None) -> Tensor:
        kernels()  # finds the kernels of a checkout
        from silk_fast.acceleration.kernel_forms import KernelOps

        return KernelOps.residual_unit(*inputs[:-1], dilation=DILATION, context=inputs[-1], padding=padding)

    return call
