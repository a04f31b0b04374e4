"""What launchers share: checks of operands, the device guard, dtypes, the card."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.int32, torch.int64)
# Of every launch: no compiler contracts a * b + c, differently for each layout; kernels say `fma` where they want one.
AS_WRITTEN = {"enable_fp_fusion": False}


@triton.jit
def _probe():
    pass


INTERPRETED = not isinstance(_probe, triton.JITFunction)  # the interpreter has no libdevice and no inline assembly

DEVICES = {"cuda", "cpu"} if INTERPRETED else {"cuda"}
"""Types of the devices on which kernels run; what compiles or executes them without a GPU adds "cpu"."""


def runs_on(x: Tensor) -> bool:
    """Tell whether Triton can run on the device of ``x``: a GPU or, in its interpreter, a CPU."""
    return x.device.type in DEVICES


def on_device(name: str, x: Tensor) -> AbstractContextManager:
    """Launch on the GPU that holds the argument ``x`` called ``name``; on a CPU there is nothing to choose.

    Raises:
        ValueError: Triton cannot run there.
    """
    if not runs_on(x):
        raise ValueError(f"{name} must be on a CUDA GPU, where Triton kernels run, got a tensor on {x.device}")
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def define_op(name: str) -> Callable[[Callable], torch.library.CustomOpDef]:
    """Define the op ``silk_fast::name`` by its Triton launcher, whose annotations are its schema.

    Where Triton cannot run on a CPU, tensors there are served by :mod:`silk_fast.cpu.registered`, if it has the op.
    """

    def define(launcher: Callable) -> torch.library.CustomOpDef:
        op = torch.library.custom_op(f"silk_fast::{name}", launcher, mutates_args=(), device_types="cuda")

        @op.register_kernel("cpu")
        def on_cpu(*arguments):
            if "cpu" in DEVICES:
                return launcher(*arguments)
            from silk_fast.cpu.registered import OPS

            return OPS.get(name, launcher)(*arguments)

        return op

    return define


def compute_dtype(dtype: torch.dtype) -> tl.constexpr:
    """Choose what a kernel computes in: float32; float64 for float64 inputs, which serve gradient checks."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Choose in what sums and spectra are stored: float32, or float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def capability() -> int:
    """Name the compute capability of the current device as Triton does: 86, 90, ...; 0 in the interpreter."""
    return 0 if INTERPRETED else triton.runtime.driver.active.get_current_target().arch


def processors(device: torch.device) -> int:
    """Count the multiprocessors of a card; where there is none, those of an RTX 3090."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 82


def contiguous(x: Tensor | None) -> Tensor | None:
    """Make ``x`` contiguous; None stays None."""
    return None if x is None else x.contiguous()


def check_dtype(name: str, tensor: Tensor, dtypes: Sequence[torch.dtype] = FLOATS) -> None:
    """Refuse, by name and before any launch, a tensor of another kind than ``dtypes``.

    Raises:
        TypeError: the dtype is none of them.
    """
    if tensor.dtype not in dtypes:
        *names, last = (str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(f"{name} must be {' or '.join(filter(None, (', '.join(names), last)))}, got {tensor.dtype}")


def check_operand(
    name: str,
    tensor: Tensor,
    shape: Sequence[int],
    like: Tensor,
    main: str = "x",
    dtypes: Sequence[torch.dtype] | None = FLOATS,
) -> None:
    """Refuse, by name and before any launch, an operand that does not fit ``like``, the argument called ``main``.

    Args:
        dtypes: those allowed; None for that of ``like`` alone.

    Raises:
        TypeError: the dtype is not allowed.
        ValueError: the shape is not ``shape``, or the device not that of ``like``.
    """
    if dtypes is not None:
        check_dtype(name, tensor, dtypes)
    elif tensor.dtype != like.dtype:
        raise TypeError(f"{name} must be {like.dtype} as {main}, got {tensor.dtype}")
    if tensor.shape != tuple(shape):
        raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on the device of {main}, {like.device}, got {tensor.device}")
