"""What several kernels share: the device guard of a launch, and the sizes of the card."""

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _probe():
    pass


INTERPRETED = not isinstance(_probe, triton.JITFunction)  # the interpreter has no libdevice and no inline assembly


def on_device(x: Tensor) -> AbstractContextManager:
    """Launch on the GPU that holds ``x``; on a CPU there is nothing to choose."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def compute_dtype(dtype: torch.dtype) -> tl.constexpr:
    """Kernels compute in float32; in float64 for float64 inputs, which serve gradient checks."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def capability() -> int:
    """Compute capability of the current target as Triton names it: 86, 90, ...; 0 in the interpreter."""
    return 0 if INTERPRETED else triton.runtime.driver.active.get_current_target().arch
