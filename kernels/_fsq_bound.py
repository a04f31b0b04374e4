"""What the FSQ kernels share: the bound of Mentzer et al., 2023, tiles of frames, checks, the launch.

Tokens hang on roundings, so the arithmetic is that of the reference, operation by operation, without fusion. On a GPU
tanh and atanh are libdevice's, as PyTorch's are; the interpreter, which has none, takes them from float64.

Levels are compile-time constants, so no table lives on the device: nothing to copy, cache or capture.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from ._common import INTERPRETED, on_device

TILE = 1024  # elements per program
MAX_LEVEL = 2**22  # beyond, float32 no longer tells neighbouring digits apart
LIBDEVICE = tl.constexpr(not INTERPRETED)
STRETCH = tl.constexpr(1 + 1e-3)
ROUND_MAGIC = tl.constexpr(1.5 * 2.0**23)  # a float this large has no fraction bits: adding it rounds, half to even


@triton.jit
def _tanh(b_x):
    if LIBDEVICE:
        return libdevice.tanh(b_x)
    else:
        b_e = tl.exp(tl.abs(b_x.to(tl.float64)) * -2.0)
        b_tanh = (1.0 - b_e) / (1.0 + b_e)
        return tl.where(b_x < 0.0, -b_tanh, b_tanh).to(tl.float32)


@triton.jit
def _atanh(b_x):
    if LIBDEVICE:
        return libdevice.atanh(b_x)
    else:
        b_x = b_x.to(tl.float64)
        return (0.5 * tl.log((1.0 + b_x) / (1.0 - b_x))).to(tl.float32)


@triton.jit
def periodic(i_dim, VALUES: tl.constexpr):
    """``VALUES[i_dim % len(VALUES)]``."""
    b_value = tl.zeros_like(i_dim) + VALUES[0]
    for i in tl.static_range(1, len(VALUES)):
        b_value = tl.where(i_dim % len(VALUES) == i, VALUES[i], b_value)
    return b_value


@triton.jit
def frame_tile(
    n_frames,
    stride_b,
    stride_f,
    stride_d,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    FRAMES: tl.constexpr,
    DIMS: tl.constexpr,
):
    """Of a program: batch index, frames, dimensions, offsets and mask of its tile in a strided [B, F, D]."""
    n_blocks = tl.cdiv(n_frames, FRAMES)
    i_batch = (tl.program_id(0) // n_blocks).to(tl.int64)
    i_frame = (tl.program_id(0) % n_blocks).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    i_dim = tl.arange(0, DIMS)
    if ROWS:  # one run of contiguous rows: the compiler sees D, and how rows are aligned
        o_tile = i_frame[:, None] * D + i_dim[None, :]
    else:
        o_tile = i_batch * stride_b + i_frame[:, None] * stride_f + i_dim.to(tl.int64)[None, :] * stride_d
    return i_batch, i_frame, i_dim, o_tile, (i_frame < n_frames)[:, None] & (i_dim < D)[None, :]


@triton.jit
def squash(b_z, b_level):
    """``tanh(z + shift)``, ``half`` and ``offset`` for float32 ``z`` [FRAMES, DIMS] and levels [DIMS]."""
    b_half = (b_level - 1).to(tl.float32) * STRETCH * 0.5
    b_offset = tl.where(b_level % 2 == 0, 0.5, 0.0)
    b_shift = _atanh(tl.div_rn(b_offset, b_half))
    return _tanh(b_z + b_shift[None, :]), b_half[None, :], b_offset[None, :]


@triton.jit
def round_bound(b_z, b_level):
    """Nearest integer of the bound, ``-(L // 2) .. L - 1 - L // 2``; NaN for NaN."""
    b_tanh, b_half, b_offset = squash(b_z, b_level)
    b_rounded = (b_tanh * b_half - b_offset + ROUND_MAGIC) - ROUND_MAGIC
    b_low = -(b_level // 2)[None, :]
    b_high = b_low + b_level[None, :] - 1
    return tl.clamp(b_rounded, b_low.to(tl.float32), b_high.to(tl.float32), tl.PropagateNan.ALL)


def checked_levels(levels: Sequence[int]) -> list[int]:
    """``levels`` as a list, or TypeError or ValueError."""
    if not all(isinstance(level, int) for level in levels):
        raise TypeError(f"levels must be integers, got {list(levels)}")
    if len(levels) == 0 or not all(2 <= level <= MAX_LEVEL for level in levels):
        raise ValueError(f"levels must be one or more integers of 2 to {MAX_LEVEL}, got {list(levels)}")
    return list(levels)


def period(values: Sequence[int]) -> tuple[int, ...]:
    """Shortest prefix whose repetition gives ``values``."""
    n = next(n for n in range(1, len(values) + 1) if all(v == values[i % n] for i, v in enumerate(values)))
    return tuple(values[:n])


def check_frames(name: str, tensor: Tensor, dim: int, axis: int, n_values: int) -> None:
    """Refuse a ``dim`` that ``tensor`` has not, or other than ``n_values`` values along ``axis``."""
    if dim != -1 and (dim != 1 or tensor.ndim != 3):
        raise ValueError(f"dim must be -1, or 1 if {name} has three dimensions, got {dim} and {list(tensor.shape)}")
    if tensor.ndim == 0 or tensor.shape[axis] != n_values:
        raise ValueError(f"{name} must hold {n_values} values along dimension {axis}, got {list(tensor.shape)}")


def as_frames(tensor: Tensor, dim: int) -> Tensor:
    """``[B, F, D]``, without a copy if ``tensor`` is contiguous or ``dim`` is 1."""
    return tensor.transpose(1, 2) if dim == 1 else tensor.reshape(1, -1, tensor.shape[-1])


def launch(kernel, name: str, tensors: tuple[Tensor, ...], frames: Tensor, **constants) -> None:
    """Run ``kernel`` over the strided ``frames`` ``[B, F, D]``, made of the argument ``name``; none launch nothing."""
    n_batch, n_frames, n_dims = frames.shape
    dims = triton.next_power_of_2(n_dims)
    per_program = max(1, TILE // dims)
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
                enable_fp_fusion=False,
                **constants,
            )
