"""Convolution by cuDNN in IEEE float32 that always adds in one order: no TF32, no benchmark, deterministic algorithms.

Not a kernel of ours but an operation: PyTorch has these settings only as globals, which a backward pass would find
reset, and which neither ``torch.compile`` nor ``torch.export`` records. Inside an operation they hold for both passes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Sequence  # noqa: UP035 - torch 2.6 knows no other in the schema of an op

import torch
import torch.nn.functional as F
from torch import Tensor


@contextmanager
def _reproducible() -> Iterator[None]:
    """Set cuDNN up for one convolution; put back what was there."""
    cudnn = torch.backends.cudnn
    wanted: list[tuple[Any, str, object]] = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    if not hasattr(cudnn, "conv"):
        wanted.append((cudnn, "allow_tf32", False))
    elif cudnn.conv.fp32_precision == "tf32":  # since torch 2.9, where allow_tf32 cannot be read once this was set
        wanted.append((cudnn.conv, "fp32_precision", "ieee"))
    before = [getattr(owner, name) for owner, name, _ in wanted]
    try:
        for owner, name, value in wanted:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(wanted, before, strict=True):
            setattr(owner, name, value)


@torch.library.custom_op("silk_fast::conv1d_ieee", mutates_args=(), device_types=("cuda", "cpu"))
def _conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, dilation: int, groups: int) -> Tensor:
    with _reproducible(), torch.autocast(x.device.type, enabled=False):
        return F.conv1d(x, weight, bias, stride, 0, dilation, groups).contiguous()


@torch.library.custom_op("silk_fast::conv1d_ieee_backward", mutates_args=(), device_types=("cuda", "cpu"))
def _conv1d_backward(
    dy: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int, groups: int, needs: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias; empty where not needed."""
    geometry = ([stride], [0], [dilation], False, [0], groups)
    with _reproducible():
        gradients = torch.ops.aten.convolution_backward(dy, x, weight, [weight.shape[0]], *geometry, needs)
    dx, dweight, dbias = (x.new_empty(0) if gradient is None else gradient.contiguous() for gradient in gradients)
    return dx, dweight, dbias


@_conv1d.register_fake
def _(x, weight, bias, stride, dilation, groups):
    reach = (weight.shape[2] - 1) * dilation
    return x.new_empty(x.shape[0], weight.shape[0], (x.shape[2] - reach - 1) // stride + 1)


@_conv1d_backward.register_fake
def _(dy, x, weight, stride, dilation, groups, needs):
    shapes = x.shape, weight.shape, weight.shape[:1]
    return tuple(x.new_empty(shape if need else (0,)) for shape, need in zip(shapes, needs, strict=True))


def _setup_context(ctx, inputs, output):
    x, weight, _, *ctx.geometry = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx, dy: Tensor):
    needs = list(ctx.needs_input_grad[:3])
    gradients = _conv1d_backward(dy, *ctx.saved_tensors, *ctx.geometry, needs)
    return *(g if need else None for g, need in zip(gradients, needs, strict=True)), None, None, None


_conv1d.register_autograd(_backward, setup_context=_setup_context)


def conv1d_ieee(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Tensor:
    """Apply ``F.conv1d`` without padding, in the wider dtype also under autocast; the same bits always.

    Args:
        x: ``[B, C, T]``; weight: ``[C', C / groups, K]``; bias: ``[C']`` or None.
        stride, dilation, groups: as in ``F.conv1d``.

    Returns:
        ``[B, C', (T - (K - 1) * dilation - 1) // stride + 1]``, contiguous. Differentiable to every tensor.

    Raises:
        RuntimeError: as ``F.conv1d``.
    """
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return _conv1d(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), stride, dilation, groups)
