"""Digits packed into mixed-radix tokens, and back, in one pass.

    token_g = sum_i digit_{g, i} * prod_{j < i} L_j  over the digits of group g, little-endian

Memory-bound: of Silk's 128 dimensions, 512 bytes are read (float32) and 76 written per frame. Nothing between is
stored.

A program takes whole frames, [FRAMES, D]: its loads are 16 bytes wide, which loads by groups of 7 could not be, and
every dimension is bounded once. ``tl.gather`` then regroups the weighted digits to [FRAMES, groups, 8] in registers.
Powers of two become shifts and masks.
"""

import math
from functools import lru_cache
from typing import Sequence  # noqa: UP035 - torch 2.6 knows no other in the schema of an op

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import INTEGERS, check_dtype, define_op
from .bound import frame_tile, periodic, round_bound
from .launch import as_frames, check_frames, checked_levels, launch, period


@triton.jit
def _fsq_pack_kernel(
    z_ptr,
    tokens_ptr,
    n_frames,
    stride_b,
    stride_f,
    stride_d,
    LEVELS: tl.constexpr,
    PLACES: tl.constexpr,
    SHIFT: tl.constexpr,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    FRAMES: tl.constexpr,
    DIMS: tl.constexpr,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
):
    i_batch, i_frame, i_dim, o_z, m_z = frame_tile(n_frames, stride_b, stride_f, stride_d, D, ROWS, FRAMES, DIMS)
    b_level = periodic(i_dim, LEVELS)
    b_rounded = round_bound(tl.load(z_ptr + o_z, mask=m_z, other=0.0).to(tl.float32), b_level)
    b_rounded = tl.where(b_rounded == b_rounded, b_rounded, 0.0)  # the middle digit for NaN
    b_digit = b_rounded.to(tl.int32) + (b_level // 2)[None, :]
    b_place = periodic(i_dim, PLACES)[None, :]
    b_weighted = b_digit << b_place if SHIFT else b_digit * b_place

    o_slot = tl.arange(0, GROUPS * SIZE)  # SIZE >= GROUP slots for each token
    i_source = o_slot // SIZE * GROUP + o_slot % SIZE
    m_slot = (o_slot % SIZE < GROUP) & (i_source < D)
    i_source = tl.broadcast_to(tl.where(m_slot, i_source, 0)[None, :], FRAMES, GROUPS * SIZE)
    b_slots = tl.where(m_slot[None, :], tl.gather(b_weighted, i_source, 1), 0)
    b_token = tl.sum(tl.reshape(b_slots, FRAMES, GROUPS, SIZE), 2)
    n_groups = tl.cdiv(D, GROUP)
    i_group = tl.arange(0, GROUPS)
    o_token = (i_batch * n_frames + i_frame)[:, None] * n_groups + i_group[None, :]
    m_token = (i_frame < n_frames)[:, None] & (i_group < n_groups)[None, :]
    tl.store(tokens_ptr + o_token, b_token, mask=m_token)


@triton.jit
def _fsq_unpack_kernel(
    tokens_ptr,
    codes_ptr,
    n_frames,
    stride_b,
    stride_f,
    stride_d,
    LEVELS: tl.constexpr,
    PLACES: tl.constexpr,
    SHIFT: tl.constexpr,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    FRAMES: tl.constexpr,
    DIMS: tl.constexpr,
):
    i_batch, i_frame, i_dim, o_codes, m_codes = frame_tile(
        n_frames, stride_b, stride_f, stride_d, D, ROWS, FRAMES, DIMS
    )
    b_level = periodic(i_dim, LEVELS)
    o_token = (i_batch * n_frames + i_frame)[:, None] * tl.cdiv(D, GROUP) + (i_dim // GROUP)[None, :]
    b_token = tl.load(tokens_ptr + o_token, mask=m_codes, other=0).to(tl.uint32)
    b_place = periodic(i_dim, PLACES).to(tl.uint32)[None, :]
    b_modulus = b_level.to(tl.uint32)[None, :]
    b_digit = (b_token >> b_place) & (b_modulus - 1) if SHIFT else b_token // b_place % b_modulus
    b_half_width = (b_level // 2)[None, :]
    b_code = tl.div_rn((b_digit.to(tl.int32) - b_half_width).to(tl.float32), b_half_width.to(tl.float32))
    tl.store(codes_ptr + o_codes, b_code, mask=m_codes)


@lru_cache(maxsize=256)
def _packing(levels: tuple[int, ...], group_size: int) -> dict[str, object]:
    """Choose constants of the packing kernels; places are bit positions where all levels are powers of two."""
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    groups = [levels[i : i + group_size] for i in range(0, len(levels), group_size)]
    largest = max(math.prod(group) for group in groups) - 1
    if largest >= 2**31:
        raise ValueError(f"group_size {group_size} gives tokens up to {largest}, int32 holds {2**31 - 1}")
    places = [math.prod(group[:i]) for group in groups for i in range(len(group))]
    shift = all(level.bit_count() == 1 for level in levels)
    if shift:
        places = [place.bit_length() - 1 for place in places]
    return {"LEVELS": period(levels), "PLACES": period(places), "SHIFT": shift, "GROUP": len(groups[0])}


def _n_tokens(levels: Sequence[int], group_size: int) -> int:
    return -(-len(levels) // group_size)


def _token_shape(z: Tensor, levels: Sequence[int], group_size: int, dim: int) -> list[int]:
    leading = [z.shape[0], z.shape[2]] if dim == 1 else z.shape[:-1]
    return [*leading, _n_tokens(levels, group_size)]


def _code_shape(tokens: Tensor, levels: Sequence[int], dim: int) -> list[int]:
    n_dims = len(levels)
    return [tokens.shape[0], n_dims, tokens.shape[1]] if dim == 1 else [*tokens.shape[:-1], n_dims]


@define_op("fsq_pack")
def _fsq_pack(z: Tensor, levels: Sequence[int], group_size: int, dim: int) -> Tensor:
    check_dtype("z", z)
    check_frames("z", z, dim, dim, len(levels))
    packing = _packing(tuple(levels), group_size)
    tokens = torch.empty(_token_shape(z, levels, group_size, dim), dtype=torch.int32, device=z.device)
    frames = as_frames(z, dim)
    groups, size = (triton.next_power_of_2(n) for n in (tokens.shape[-1], packing["GROUP"]))
    launch(_fsq_pack_kernel, "z", (frames, tokens), frames, GROUPS=groups, SIZE=size, **packing)
    return tokens


@define_op("fsq_unpack")
def _fsq_unpack(tokens: Tensor, levels: Sequence[int], group_size: int, dim: int) -> Tensor:
    check_dtype("tokens", tokens, INTEGERS)
    packing = _packing(tuple(levels), group_size)
    check_frames("tokens", tokens, dim, -1, _n_tokens(levels, group_size))
    codes = torch.empty(_code_shape(tokens, levels, dim), dtype=torch.float32, device=tokens.device)
    launch(_fsq_unpack_kernel, "tokens", (tokens.contiguous(), codes), as_frames(codes, dim), **packing)
    return codes


@_fsq_pack.register_fake
def _(z, levels, group_size, dim):
    return z.new_empty(_token_shape(z, levels, group_size, dim), dtype=torch.int32)


@_fsq_unpack.register_fake
def _(tokens, levels, group_size, dim):
    return tokens.new_empty(_code_shape(tokens, levels, dim), dtype=torch.float32)


def fsq_pack(z: Tensor, levels: Sequence[int], group_size: int, dim: int = -1) -> Tensor:
    """Turn latents into tokens in one pass: bound, round and mixed-radix pack, in float32.

    Equal to the reference wherever the bound is not within 1e-6 of a rounding boundary, one of the two neighbours
    there. Infinity gives the first or last digit, NaN the middle one, ``L // 2``. Not differentiable.

    Args:
        z: ``[..., D]``, or ``[B, D, F]`` with ``dim=1``; float32, float16, bfloat16 or float64, of any strides.
        levels: D level counts, each an integer of 2 to 2^22.
        group_size: digits per token, at least 1; the last token holds what is left.
        dim: the dimension of ``z`` that holds D: -1, or 1.

    Returns:
        int32 ``[..., G]`` with ``G = ceil(D / group_size)``; ``[B, F, G]`` with ``dim=1``.

    Raises:
        ValueError: a level below 2, a shape that does not fit, or a group whose tokens exceed int32.
        TypeError: ``z`` is not floating-point, or a level no integer.

    Source: Mentzer et al., 2023; token order as in vector-quantize-pytorch.
    """
    return _fsq_pack(z, checked_levels(levels), group_size, dim)


def fsq_unpack(tokens: Tensor, levels: Sequence[int], group_size: int, dim: int = -1) -> Tensor:
    """Turn tokens into codes, the values of :func:`~silk_fast.kernels.fsq_quantize`.

    A token out of range cannot be refused here without waiting for the device. Its digits are taken modulo their
    levels, so codes stay in range; callers who read untrusted tokens check them.

    Args:
        tokens: int32 or int64 ``[..., G]``, ``[B, F, G]`` with ``dim=1``; copied first if not contiguous.
        levels, group_size: as in :func:`fsq_pack`.
        dim: the dimension of the codes that holds D: -1, or 1 for ``[B, D, F]``.

    Returns:
        float32 ``[..., D]``, or ``[B, D, F]`` with ``dim=1``.

    Raises:
        ValueError: as :func:`fsq_pack`.
        TypeError: ``tokens`` are not int32 or int64, or a level no integer.
    """
    return _fsq_unpack(tokens, checked_levels(levels), group_size, dim)
