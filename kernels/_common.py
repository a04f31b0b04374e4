"""What several kernels share: checks, the device guard of a launch, the compute dtype, the card, SiLU."""

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@triton.jit
def _probe():
    pass


INTERPRETED = not isinstance(_probe, triton.JITFunction)  # the interpreter has no libdevice and no inline assembly


def runs_on(x: Tensor) -> bool:
    """Whether Triton can run on the device of ``x``: a GPU or, in its interpreter, anywhere."""
    return x.is_cuda or INTERPRETED


def on_device(name: str, x: Tensor) -> AbstractContextManager:
    """Launch on the GPU that holds the argument ``x`` called ``name``; in the interpreter there is nothing to choose.

    Raises:
        ValueError: Triton cannot run there.
    """
    if not runs_on(x):
        raise ValueError(f"{name} must be on a CUDA GPU, where Triton kernels run, got a tensor on {x.device}")
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def compute_dtype(dtype: torch.dtype) -> tl.constexpr:
    """Kernels compute in float32; in float64 for float64 inputs, which serve gradient checks."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which sums over many elements are stored: float32, or float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def capability() -> int:
    """Compute capability of the current device as Triton names it: 86, 90, ...; 0 in the interpreter."""
    return 0 if INTERPRETED else triton.runtime.driver.active.get_current_target().arch


def check_operand(name: str, tensor: Tensor, shape: tuple[int, ...], device: torch.device, main: str = "x") -> None:
    """Refuse, by name and before any launch, a tensor of another kind, shape or device than that of ``main``."""
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name} must be float32, float16, bfloat16 or float64, got {tensor.dtype}")
    if tensor.shape != shape:
        raise ValueError(f"{name} must be {list(shape)}, got {list(tensor.shape)}")
    if tensor.device != device:
        raise ValueError(f"{name} must be on the device of {main}, {device}, got {tensor.device}")


@triton.jit
def silu(b_v):
    """``v * sigmoid(v)`` (Elfwing et al., 2018)."""
    return b_v * tl.sigmoid(b_v)


@triton.jit
def silu_slope(b_v):
    """Derivative of :func:`silu`."""
    b_s = tl.sigmoid(b_v)
    return b_s * (1.0 + b_v * (1.0 - b_s))
