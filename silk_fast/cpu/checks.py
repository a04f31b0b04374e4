"""Checks of operands before the C library reads their memory, and the form in which it takes them.

What fits costs a fraction of a microsecond; messages are those of the Triton kernels, whose operations these are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SIGNALS = (torch.float32, torch.bfloat16)
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int32, torch.int64)
SMALL = 32768  # elements that one thread computes sooner than two agree on who does what


def check_dtype(name: str, tensor: Tensor, dtypes: Sequence[torch.dtype] = SIGNALS) -> None:
    """Refuse a tensor of another kind than ``dtypes``, or elsewhere than in the memory of the CPU.

    Raises:
        TypeError: the dtype is none of them.
        ValueError: the tensor is on another device, or its elements are the negatives of what its memory holds.
    """
    if tensor.dtype not in dtypes:
        names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
        raise TypeError(
            f"{name} must be {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}, got {tensor.dtype}"
        )
    if not tensor.is_cpu:
        raise ValueError(f"{name} must be on the CPU, got a tensor on {tensor.device}")
    if tensor.is_neg():
        raise ValueError(f"{name} must be in memory as it is, got a view of its negative: call resolve_neg()")


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse another shape.

    Raises:
        ValueError: the shape is not ``shape``.
    """
    if tensor.shape != shape:
        raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}")


def operand(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor, main: str = "x") -> Tensor:
    """Give an operand of the dtype of ``like``, the argument called ``main``, contiguous.

    Raises:
        TypeError: the dtype is another.
        ValueError: the shape is not ``shape``, or the tensor is on another device.
    """
    if tensor.dtype is not like.dtype:
        raise TypeError(f"{name} must be {like.dtype} as {main}, got {tensor.dtype}")
    if not tensor.is_cpu:
        check_dtype(name, tensor)
    if tensor.shape != shape:
        check_shape(name, tensor, shape)
    return tensor.contiguous()


def destination(out: Tensor | None, x: Tensor) -> Tensor:
    """Give where a result of the shape and dtype of ``x``, which is contiguous, goes: ``out``, or new memory for None.

    Raises:
        TypeError: the dtype of ``out`` is another.
        ValueError: ``out`` has another shape, is on another device or not contiguous.
    """
    if out is None:
        return torch.empty_like(x)
    if operand("out", out, x.shape, x) is not out:
        raise ValueError(f"out must be contiguous, got strides {list(out.stride())}")
    return out


def parameters(name: str, tensor: Tensor, *shape: int) -> Tensor:
    """Give parameters of any floating dtype as float32, contiguous.

    Raises:
        TypeError: they are not floating-point.
        ValueError: the shape is not ``shape``, or they are on another device.
    """
    if tensor.dtype is not torch.float32 or not tensor.is_cpu:
        check_dtype(name, tensor, FLOATS)
        tensor = tensor.float()
    if tensor.shape != shape:
        check_shape(name, tensor, shape)
    return tensor.contiguous()


def address(tensor: Tensor | None) -> int | None:
    """Give where the elements of a contiguous tensor lie; None for None."""
    return None if tensor is None else tensor.data_ptr()


def is_half(x: Tensor) -> bool:
    """Tell whether a signal is bfloat16; float32 otherwise."""
    return x.dtype is torch.bfloat16


def threads(n_elements: int) -> int:
    """Choose how many threads share the work: PyTorch's, or one for little of it."""
    return torch.get_num_threads() if n_elements >= SMALL else 1
