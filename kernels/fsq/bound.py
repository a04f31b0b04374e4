"""Device code that the FSQ kernels share: the bound of Mentzer et al., 2023, its rounding, tiles of frames.

Tokens hang on roundings, so the arithmetic is that of the reference, operation by operation, without fusion
(docs/kernels.md). On a GPU tanh and atanh are libdevice's, as PyTorch's are; the interpreter, which has none, takes
them from float64. Levels are compile-time constants: no table lives on the device, to be copied, cached or captured.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice

from .._launch import INTERPRETED
from .._math import nearest

LIBDEVICE = tl.constexpr(not INTERPRETED)
STRETCH = tl.constexpr(1 + 1e-3)


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
    b_rounded, _ = nearest(b_tanh * b_half - b_offset)
    b_low = -(b_level // 2)[None, :]
    b_high = b_low + b_level[None, :] - 1
    return tl.clamp(b_rounded, b_low.to(tl.float32), b_high.to(tl.float32), tl.PropagateNan.ALL)
