"""What serves the ops of ``silk_fast.kernels`` on tensors of a CPU: one schema, fake and gradient for both devices.

Forward it is the C library, backward PyTorch's operations (:mod:`silk_fast.cpu.gradients`). Both compute in float32 and
round once, as the kernels do; float64 is refused.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from silk_fast.cpu import gradients, ops
from silk_fast.cpu.library import available


def _in_float32(values: Any) -> tuple:
    """Give ``values`` with their floating-point tensors in float32."""
    return tuple(x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in values)


def _forward(operation: Callable) -> Callable:
    """Serve float16, which the C library does not know, in float32, rounded once."""

    def serve(x: Tensor, *arguments):
        if x.dtype != torch.float16:
            return operation(x, *arguments)
        result = operation(*_in_float32((x, *arguments)))
        return tuple(y.half() for y in result) if isinstance(result, tuple) else result.half()

    return serve


def _add_layer_norm(x: Tensor, residual: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    if x.dtype != residual.dtype:
        x, residual = _in_float32((x, residual))
    return _forward(ops.add_layer_norm)(x, residual, *arguments)


def _polar_spectrum(log_magnitude: Tensor, phase: Tensor) -> Tensor:
    if log_magnitude.dtype == phase.dtype == torch.float16:
        log_magnitude, phase = _in_float32((log_magnitude, phase))
    return ops.polar_spectrum(log_magnitude, phase)


def _add_harmonics(log_magnitude: Tensor, phase: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    if log_magnitude.dtype in (torch.float16, torch.bfloat16) and phase.dtype == log_magnitude.dtype:
        results = ops.add_harmonics(log_magnitude.float(), phase.float(), *arguments)
        return results[0].to(phase.dtype), results[1].to(phase.dtype)
    return ops.add_harmonics(log_magnitude, phase, *arguments)


def _backward(gradient: Callable, *like: int | None) -> Callable:
    """Serve in float32; result i is rounded to the dtype of argument ``like[i]``, if that is not None."""

    def serve(*arguments):
        results = gradient(*_in_float32(arguments))
        single = isinstance(results, Tensor)
        pairs = zip((results,) if single else results, like, strict=True)
        rounded = tuple((y if i is None else y.to(arguments[i].dtype)).contiguous() for y, i in pairs)
        return rounded[0] if single else rounded

    return serve


_OPS: dict[str, Callable] = {
    "snake": _forward(ops.snake),
    "snake_backward": _backward(gradients.snake, 1, None),
    "elu": _forward(ops.elu),
    "elu_backward": _backward(gradients.elu, 1, None),
    "bias_silu": _forward(ops.bias_silu),
    "bias_silu_backward": _backward(gradients.bias_silu, 1, 2),
    "add_layer_norm": _add_layer_norm,
    "add_layer_norm_backward": _backward(gradients.add_layer_norm, None, None, None),
    "glu_conv_norm_silu": _forward(ops.glu_conv_norm_silu),
    "glu_conv_norm_silu_backward": _backward(gradients.glu_conv_norm_silu, 1, None, None),
    "fsq_pack": ops.fsq_pack,
    "fsq_unpack": ops.fsq_unpack,
    "fsq_quantize": ops.fsq_quantize,
    "fsq_quantize_backward": _backward(gradients.fsq_quantize, 1),
    "add_harmonics": _add_harmonics,
    "add_harmonics_backward": gradients.add_harmonics,
    "polar_spectrum": _polar_spectrum,
    "polar_spectrum_backward": _backward(gradients.polar_spectrum, 1, 2),
    "overlap_add": ops.overlap_add,
    "overlap_add_backward": _backward(gradients.overlap_add, 0),
}

OPS: dict[str, Callable] = _OPS if available() else {}
"""By the name of the op; empty where the C library was not built."""
