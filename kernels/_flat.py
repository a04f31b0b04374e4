"""What kernels share that walk ``[B, C, T]`` as one flat axis, so that accesses are 16 bytes wide for every T.

Only the last program masks, and narrows, its own where B * C * T is no multiple of 16. A program no longer than a row
meets two rows at most: it takes what belongs to their channels once, as scalars, and an element only selects. Of
shorter rows, each element gathers its own.
"""

import torch
import triton
import triton.language as tl

SHORT = 256  # elements; shorter rows are gathered (forward) or tiled whole (backward)


@triton.jit
def two_channels(i_row, n_channels):
    """Channels of a row and of the next."""
    i_channel = i_row.to(tl.int32) % n_channels
    return i_channel, tl.where(i_channel + 1 == n_channels, 0, i_channel + 1)


@triton.jit
def channels(i_row, n_first, o_block, n_time, n_channels):
    """Channels of the elements of a program that starts in row ``i_row``, ``n_first`` elements before the next."""
    i_block_row = (o_block + (n_time - n_first).to(tl.int32)) // n_time
    return ((i_row % n_channels).to(tl.int32) + i_block_row) % n_channels


@triton.jit
def load_flat(ptr, i_start, o_block, n_elements):
    """``BLOCK`` elements from ``i_start``, 0 beyond ``n_elements``. Only the last program needs a mask, whose end at no
    multiple of 16 would cut every access to the width of an element."""
    BLOCK: tl.constexpr = o_block.shape[0]
    if i_start + BLOCK <= n_elements:
        b_x = tl.load(ptr + i_start + o_block)
    else:
        b_x = tl.load(ptr + i_start + o_block, mask=i_start + o_block < n_elements, other=0.0)
    return b_x


@triton.jit
def store_flat(ptr, b_x, i_start, o_block, n_elements):
    """Inverse of :func:`load_flat`, in the dtype of ``ptr``."""
    BLOCK: tl.constexpr = o_block.shape[0]
    b_x = b_x.to(ptr.dtype.element_ty)
    if i_start + BLOCK <= n_elements:
        tl.store(ptr + i_start + o_block, b_x)
    else:
        tl.store(ptr + i_start + o_block, b_x, mask=i_start + o_block < n_elements)


def flat_tile(n_time: int, dtype: torch.dtype) -> dict[str, int]:
    """Take 32 bytes per thread where T is long enough; a program meets two rows at most wherever T allows."""
    block = 4096 // dtype.itemsize
    return {"BLOCK": block, "num_warps": 4} if n_time >= block else {"BLOCK": SHORT, "num_warps": 1}
