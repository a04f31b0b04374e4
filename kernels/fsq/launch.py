"""Launches of FSQ: checks of levels and frames, tiles of whole frames."""

from collections.abc import Sequence

import triton
from torch import Tensor

from .._launch import AS_WRITTEN, on_device

TILE, LARGEST_TILE = 1024, 4096  # elements per program
SECTOR = 32  # bytes that memory moves at once
MAX_LEVEL = 2**22  # beyond, float32 no longer tells neighbouring digits apart


def checked_levels(levels: Sequence[int]) -> list[int]:
    """Return ``levels`` as a list, or raise TypeError or ValueError."""
    if not all(isinstance(level, int) for level in levels):
        raise TypeError(f"levels must be integers, got {list(levels)}")
    if len(levels) == 0 or not all(2 <= level <= MAX_LEVEL for level in levels):
        raise ValueError(f"levels must be one or more integers of 2 to {MAX_LEVEL}, got {list(levels)}")
    return list(levels)


def period(values: Sequence[int]) -> tuple[int, ...]:
    """Find the shortest prefix whose repetition gives ``values``."""
    n = next(n for n in range(1, len(values) + 1) if all(v == values[i % n] for i, v in enumerate(values)))
    return tuple(values[:n])


def check_frames(name: str, tensor: Tensor, dim: int, axis: int, n_values: int) -> None:
    """Refuse a ``dim`` that ``tensor`` has not, or other than ``n_values`` values along ``axis``."""
    if dim != -1 and (dim != 1 or tensor.ndim != 3):
        raise ValueError(f"dim must be -1, or 1 if {name} has three dimensions, got {dim} and {list(tensor.shape)}")
    if tensor.ndim == 0 or tensor.shape[axis] != n_values:
        raise ValueError(f"{name} must hold {n_values} values along dimension {axis}, got {list(tensor.shape)}")


def as_frames(tensor: Tensor, dim: int) -> Tensor:
    """View as ``[B, F, D]``, without a copy if ``tensor`` is contiguous or ``dim`` is 1."""
    return tensor.transpose(1, 2) if dim == 1 else tensor.reshape(1, -1, tensor.shape[-1])


def launch(kernel, name: str, tensors: tuple[Tensor, ...], frames: Tensor, **constants) -> None:
    """Run ``kernel`` over the strided ``frames`` ``[B, F, D]``, made of the argument ``name``; none launch nothing."""
    n_batch, n_frames, n_dims = frames.shape
    dims = triton.next_power_of_2(n_dims)
    per_program = max(1, TILE // dims)
    if frames.stride(1) == 1:  # neighbouring frames are: take as many as fill a sector
        sector = min(SECTOR // min(x.element_size() for x in tensors), triton.next_power_of_2(n_frames))
        per_program = max(per_program, min(sector, LARGEST_TILE // dims))
    if frames.numel():
        with on_device(name, frames):
            kernel[(n_batch * triton.cdiv(n_frames, per_program),)](
                *tensors,
                n_frames,
                *frames.stride(),
                D=n_dims,
                ROWS=n_batch == 1 and frames.is_contiguous(),
                FRAMES=per_program,
                DIMS=dims,
                num_warps=min(max(4, per_program * dims // 256), 16),
                **AS_WRITTEN,
                **constants,
            )
