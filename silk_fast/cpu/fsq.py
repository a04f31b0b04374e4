"""Finite scalar quantisation (Mentzer et al., 2023): ``fsq.c``, but for tanh, which is PyTorch's."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from silk_fast.cpu.checks import FLOATS, INTEGERS, check_dtype, threads
from silk_fast.cpu.library import load
from silk_fast.reference.ops import fsq_constants

MAX_LEVEL = 2**22  # beyond, float32 no longer tells neighbouring digits apart


@dataclass(frozen=True)
class _Levels:
    """What the bound needs, ``[D]``: float32 half, offset and shift, and the levels themselves in int32."""

    half: Tensor
    offset: Tensor
    shift: Tensor
    levels: Tensor


def _integers(levels: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, levels))
    except TypeError:
        raise TypeError(f"levels must be integers, got {list(levels)}") from None


@lru_cache(maxsize=256)
def _levels(levels: tuple[int, ...]) -> _Levels:
    if len(levels) == 0 or not all(2 <= level <= MAX_LEVEL for level in levels):
        raise ValueError(f"levels must be one or more integers of 2 to {MAX_LEVEL}, got {list(levels)}")
    _, half, offset = fsq_constants(levels, torch.empty(0, device="cpu"))
    return _Levels(half, offset, torch.atanh(offset / half), torch.tensor(levels, dtype=torch.int32, device="cpu"))


@lru_cache(maxsize=256)
def _group(levels: tuple[int, ...], group_size: int) -> int:
    """Check that tokens fit into int32; return how many digits one holds at most."""
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    largest = max(math.prod(levels[i : i + group_size]) for i in range(0, len(levels), group_size)) - 1
    if largest >= 2**31:
        raise ValueError(f"group_size {group_size} gives tokens up to {largest}, int32 holds {2**31 - 1}")
    return min(group_size, len(levels))


def _check_frames(name: str, tensor: Tensor, dim: int, axis: int, n_values: int) -> None:
    if dim != -1 and (dim != 1 or tensor.ndim != 3):
        raise ValueError(f"dim must be -1, or 1 if {name} has three dimensions, got {dim} and {list(tensor.shape)}")
    if tensor.ndim == 0 or tensor.shape[axis] != n_values:
        raise ValueError(f"{name} must hold {n_values} values along dimension {axis}, got {list(tensor.shape)}")


def _squash(z: Tensor, constants: _Levels, dim: int) -> Tensor:
    """``tanh(z + shift)``, ``[..., D]``, by the operations of the reference, whose bits tokens hang on."""
    z = z.transpose(1, 2) if dim == 1 else z
    return (z.float() + constants.shift).tanh_().contiguous()


def fsq_pack(z: Tensor, levels: Sequence[int], group_size: int, dim: int = -1) -> Tensor:
    """Turn latents into tokens: bound, round and mixed-radix pack, in float32; the reference's tokens exactly.

    Where the reference leaves its range: infinity gives the first or last digit, NaN the middle one, ``L // 2``.

    Args:
        z: ``[..., D]``, or ``[B, D, F]`` with ``dim=1``; any floating dtype.
        levels: D level counts, each an integer of 2 to 2^22.
        group_size: digits per token, at least 1; the last token holds what is left.
        dim: the dimension of ``z`` that holds D: -1, or 1.

    Returns:
        int32 ``[..., G]`` with ``G = ceil(D / group_size)``; ``[B, F, G]`` with ``dim=1``.

    Raises:
        ValueError: also for a level below 2, or a group whose tokens exceed int32.
    """
    levels = _integers(levels)
    constants, group_size = _levels(levels), _group(levels, group_size)
    check_dtype("z", z, FLOATS)
    _check_frames("z", z, dim, dim, len(levels))
    squashed = _squash(z, constants, dim)
    tokens = squashed.new_empty((*squashed.shape[:-1], -(-len(levels) // group_size)), dtype=torch.int32)
    load().silk_fsq_pack(
        *(squashed.data_ptr(), constants.half.data_ptr(), constants.offset.data_ptr(), constants.levels.data_ptr()),
        *(tokens.data_ptr(), squashed.numel() // len(levels), len(levels), group_size, threads(squashed.numel())),
    )
    return tokens


def fsq_quantize(z: Tensor, levels: Sequence[int], dim: int = -1) -> Tensor:
    """Quantise latents to codes ``(digit - L // 2) / (L // 2)``, NaN to NaN; the reference's codes exactly.

    Args:
        z, levels, dim: as in :func:`fsq_pack`.

    Returns:
        float32, shaped as ``z``.
    """
    levels = _integers(levels)
    constants = _levels(levels)
    check_dtype("z", z, FLOATS)
    _check_frames("z", z, dim, dim, len(levels))
    squashed = _squash(z, constants, dim)
    codes = torch.empty_like(squashed)
    load().silk_fsq_quantize(
        *(squashed.data_ptr(), constants.half.data_ptr(), constants.offset.data_ptr(), constants.levels.data_ptr()),
        *(codes.data_ptr(), squashed.numel() // len(levels), len(levels), threads(squashed.numel())),
    )
    return codes.transpose(1, 2).contiguous() if dim == 1 else codes


def fsq_unpack(tokens: Tensor, levels: Sequence[int], group_size: int, dim: int = -1) -> Tensor:
    """Turn tokens into codes, the values of :func:`fsq_quantize`; tokens out of range into some codes in range.

    Args:
        tokens: int32 or int64 ``[..., G]``, ``[B, F, G]`` with ``dim=1``.
        levels, group_size: as in :func:`fsq_pack`.
        dim: the dimension of the codes that holds D: -1, or 1 for ``[B, D, F]``.

    Returns:
        float32 ``[..., D]``, or ``[B, D, F]`` with ``dim=1``.
    """
    levels = _integers(levels)
    constants, group_size = _levels(levels), _group(levels, group_size)
    check_dtype("tokens", tokens, INTEGERS)
    _check_frames("tokens", tokens, dim, -1, -(-len(levels) // group_size))
    tokens = tokens.contiguous()
    codes = tokens.new_empty((*tokens.shape[:-1], len(levels)), dtype=torch.float32)
    load().silk_fsq_unpack(
        *(tokens.data_ptr(), constants.levels.data_ptr(), codes.data_ptr(), codes.numel() // len(levels)),
        *(len(levels), group_size, tokens.dtype is torch.int64, threads(codes.numel())),
    )
    return codes.transpose(1, 2).contiguous() if dim == 1 else codes
