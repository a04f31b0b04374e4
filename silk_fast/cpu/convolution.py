"""Convolutions along time with packed weights, and residual units: ``convolution.c``."""

import ctypes
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.cpu.checks import address, check_dtype, operand, parameters
from silk_fast.cpu.library import load, why_not
from silk_fast.reference.ops import SNAKE_EPSILON

ROWS = 4  # as in convolution.c
SMALL = 2_000_000  # operations that one thread does sooner than two agree on who does what


@cache
def why_no_bfloat16() -> str:
    """Say why no convolution can be made with ``half``; empty if one can."""
    if reason := why_not():
        return reason
    return "" if load().silk_has_bfloat16() else "this processor does not multiply bfloat16 (AVX-512 BF16)"


class _Convolution(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "alpha", "scale")),
        *((name, ctypes.c_int64) for name in ("n_in", "n_out", "taps", "stride", "dilation", "half")),
    ]


class PackedConvolution:
    """A convolution in the form that C reads, and the Snake before it, if any; copies of what it was made of.

    Args:
        weight: ``[C', C, K]``.
        bias: ``[C']``, or None.
        stride, dilation: one of them is 1.
        snake: alpha and beta ``[C]`` of a Snake that the input passes first; None for none.
        half: round weights and inputs to bfloat16; products are added up in float32. Not where
            :func:`why_no_bfloat16` says why.

    Raises:
        TypeError: an argument is not floating-point.
        ValueError: a shape or device does not match, stride and dilation are both above 1, or ``half`` where this
            processor cannot, or with a stride that does not divide K.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int = 1,
        dilation: int = 1,
        snake: tuple[Tensor, Tensor] | None = None,
        half: bool = False,
    ) -> None:
        if weight.ndim != 3 or not weight.numel():
            raise ValueError(f"weight must be [C', C, K] and not empty, got {list(weight.shape)}")
        if min(stride, dilation) != 1:
            raise ValueError(f"stride or dilation must be 1, got {stride} and {dilation}")
        self.n_out, self.n_in, self.taps = weight.shape
        self.stride, self.dilation = stride, dilation
        if half and (reason := why_no_bfloat16()):
            raise ValueError(f"half must be False: {reason}")
        if half and self.taps % stride:
            raise ValueError(f"half needs a stride that divides the {self.taps} taps, got {stride}")
        pack = _packed_pairs if half else _packed
        self._tensors = [pack(parameters("weight", weight, *weight.shape), stride), None, None, None]
        if bias is not None:
            self._tensors[1] = parameters("bias", bias, self.n_out).clone()
        if snake is not None:
            alpha, beta = (parameters(n, x, self.n_in) for n, x in zip(("alpha", "beta"), snake, strict=True))
            self._tensors[2:] = alpha.clone(), 1.0 / (beta + SNAKE_EPSILON)
        sizes = (self.n_in, self.n_out, self.taps, stride, dilation, half)
        self._struct = _Convolution(*map(address, self._tensors), *sizes)
        self.address = ctypes.addressof(self._struct)

    @property
    def reach(self) -> int:
        """Samples before the first of an output's own ``stride`` that it reads."""
        return (self.taps - 1) * self.dilation + 1 - self.stride


def _packed(weight: Tensor, stride: int) -> Tensor:
    """``[C' / ROWS, C, stride, K / stride, ROWS]``: taps by their position modulo the stride."""
    weight = F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[0] % ROWS))
    weight = torch.cat([weight[..., j::stride] for j in range(min(stride, weight.shape[2]))], -1)
    return weight.unflatten(0, (-1, ROWS)).permute(0, 2, 3, 1).contiguous()


def _packed_pairs(weight: Tensor, stride: int) -> Tensor:
    """bfloat16 ``[C' / ROWS, ceil(C * stride / 2), K / stride, ROWS, 2]``: pairs of the rows of :func:`_packed`."""
    weight = F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[0] % ROWS)).unflatten(2, (-1, stride)).transpose(2, 3)
    weight = F.pad(weight.flatten(1, 2), (0, 0, 0, weight.shape[1] * stride % 2))  # [C', C * stride, K / stride]
    weight = weight.unflatten(1, (-1, 2)).unflatten(0, (-1, ROWS)).permute(0, 2, 4, 1, 3)
    return weight.to(torch.bfloat16, memory_format=torch.contiguous_format).contiguous()


def conv1d(
    x: Tensor,
    convolution: PackedConvolution,
    context: Tensor | None = None,
    residual: Tensor | None = None,
    padding: tuple[int, int] | None = None,
) -> Tensor:
    """Convolve along time; an output is the same bits wherever its input lies in ``x``.

    Args:
        x: float32 ``[B, C, T]``.
        convolution: made of the weight.
        context: float32 ``[B, C, left]``, what comes before ``x``; None for zeros.
        residual: float32 ``[B, C', T']``, added to the result, or None.
        padding: samples before and after ``x``, the latter zeros; None for causal: the convolution's reach, and none.

    Returns:
        float32 ``[B, C', T']`` with ``T' = (left + T + right - (K - 1) * dilation - 1) // stride + 1``.
    """
    c = convolution
    n_batch, _, n_time = _check(x, c)
    left, right = padding or (c.reach, 0)
    n_columns = max(0, (left + n_time + right - (c.taps - 1) * c.dilation - 1) // c.stride + 1)
    y = x.new_empty((n_batch, c.n_out, n_columns))
    if context is not None:
        context = operand("context", context, (n_batch, c.n_in, left), x)
    if residual is not None:
        residual = operand("residual", residual, y.shape, x)
    x = x.contiguous()
    if y.numel():
        threads = _threads(y.numel() * c.n_in * c.taps)
        addresses = (c.address, x.data_ptr(), address(context), address(residual), y.data_ptr())
        _done(load().silk_conv1d(*addresses, n_batch, n_time, left, n_columns, threads))
    return y


def residual_unit(
    x: Tensor,
    dilated: PackedConvolution,
    pointwise: PackedConvolution,
    context: Tensor | None = None,
    padding: str = "causal",
) -> Tensor:
    """Compute ``x + pointwise(snake(dilated(snake(x))))``; the intermediate results never leave the cache.

    Args:
        x: float32 ``[B, C, T]``.
        dilated, pointwise: convolutions of C to C channels, each with its Snake; the latter of one tap.
        context: float32 ``[B, C, (K - 1) * dilation]``, what comes before ``x``; None for zeros.
        padding: ``"causal"``, or ``"symmetric"``: half of the context before ``x``, as many zeros after.

    Returns:
        float32 ``[B, C, T]``.
    """
    n_batch, n_channels, n_time = _check(x, dilated)
    left = dilated.reach if padding == "causal" else dilated.reach // 2
    if context is not None:
        context = operand("context", context, (n_batch, n_channels, left), x)
    x = x.contiguous()
    y = x.new_empty((n_batch, n_channels, n_time))
    if y.numel():
        threads = _threads(y.numel() * n_channels * (dilated.taps + 1))
        addresses = (dilated.address, pointwise.address, x.data_ptr(), address(context), y.data_ptr())
        _done(load().silk_residual_unit(*addresses, n_batch, n_time, left, threads))
    return y


def _check(x: Tensor, convolution: PackedConvolution) -> torch.Size:
    check_dtype("x", x, (torch.float32,))
    if x.ndim != 3 or x.shape[1] != convolution.n_in:
        raise ValueError(f"x must be [B, {convolution.n_in}, T], got {list(x.shape)}")
    return x.shape


def _threads(n_operations: int) -> int:
    return torch.get_num_threads() if n_operations >= SMALL else 1


def _done(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the tiles of a convolution")
