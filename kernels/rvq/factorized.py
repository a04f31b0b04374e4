"""Search behind projections (Yu et al., 2022; DAC, Kumar et al., 2023; SNAC, Siuzdak et al., 2024): one launch in all.

Stage j projects what earlier stages left to d dimensions, and an entry back to C: 1024 -> 8 -> 1024 in DAC. Both are
linear, so the residual of C dimensions need never exist. All stages are projected at once, ``p_j = W_j x + b_j``, and
entry c of stage k changes stage j > k by a row of a table that depends on weights alone:

    p_j -= W_j (V_k c + a_k)

A program keeps the projections of FRAMES frames of all Q stages on chip, corrects them after every stage by one gather,
and searches directions: entries and projections are scaled to length one. Of 10 s of DAC at 44.1 kHz it reads 862
frames of 72 floats; codebooks (32 KiB a stage) and tables stay in the cache. Products of few dimensions (8) are sums in
registers, of coordinates that a thread takes from the latents just written and of columns that it reads 16 bytes at a
time; so 4 frames are enough for a program, and seconds fill a card. A stage that works at a lower rate (SNAC) takes the
mean over each group of frames, which commutes with its projection but for rounding.
"""

from collections.abc import Sequence
from typing import Sequence as SchemaSequence  # noqa: UP035 - torch 2.6 knows no other in the schema of an op

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import AS_WRITTEN, check_dtype, check_operand, define_op, on_device
from .columns import PackedCodebooks, packed_or_pack
from .search import HALVES, nearest_code

LENGTH_EPSILON = tl.constexpr(1e-12)  # of F.normalize
FEW = 16  # dimensions up to which products are sums in registers; ``tl.dot`` takes no fewer, of no fewer frames


@triton.jit
def _mean_of_groups(b_x, STRIDE: tl.constexpr):
    """Mean over every STRIDE rows of ``[FRAMES, DIMS]``, in each of them."""
    if STRIDE == 1:
        return b_x
    FRAMES: tl.constexpr = b_x.shape[0]
    DIMS: tl.constexpr = b_x.shape[1]
    b_mean = tl.sum(tl.reshape(b_x, FRAMES // STRIDE, STRIDE, DIMS), 1) / STRIDE
    return tl.reshape(tl.broadcast_to(b_mean[:, None, :], FRAMES // STRIDE, STRIDE, DIMS), FRAMES, DIMS)


@triton.jit
def _direction(ptr, m_frame, D: tl.constexpr):
    """Coordinates of the direction of D numbers from ``ptr`` [FRAMES, 1], a tuple, and the sum of their squares."""
    b_x: tl.tuple = ()
    b_unit: tl.tuple = ()
    b_sum, b_square = tl.zeros(m_frame.shape, tl.float32), tl.zeros(m_frame.shape, tl.float32)
    for i in tl.static_range(D):
        b_x = b_x + (tl.load(ptr + i, mask=m_frame, other=0.0),)
        b_sum += b_x[i] * b_x[i]
    b_length = tl.maximum(tl.sqrt_rn(b_sum), LENGTH_EPSILON)
    for i in tl.static_range(D):
        b_unit = b_unit + (tl.div_rn(b_x[i], b_length),)
        b_square += b_unit[i] * b_unit[i]
    return b_unit, b_square


@triton.jit
def _stage(
    b_rest,
    i_stage,
    i_frame,
    m_frame,
    columns_ptr,
    squares_ptr,
    tables_ptr,
    indices_ptr,
    latents_ptr,
    n_codes,
    STRIDE: tl.constexpr,
    Q: tl.constexpr,
    D: tl.constexpr,
    ADD_SQUARES: tl.constexpr,
    CODES: tl.constexpr,
    IN_REGISTERS: tl.constexpr,
):
    """Search one stage; give the projections [FRAMES, STAGES, DIMS] less what its entries change of later ones."""
    o_stage, o_dim = tl.arange(0, b_rest.shape[1]), tl.arange(0, b_rest.shape[2])
    b_latent = tl.sum(tl.where((o_stage == i_stage)[None, :, None], b_rest, 0.0), 1)
    b_latent = _mean_of_groups(b_latent, STRIDE)
    o_latent = i_frame[:, None] * (Q * D) + i_stage * D + o_dim[None, :]
    tl.store(latents_ptr + o_latent, b_latent, mask=m_frame[:, None] & (o_dim < D)[None, :])
    if IN_REGISTERS:  # coordinates come back from memory, each to the threads that multiply it
        tl.debug_barrier()
        b_unit, b_square = _direction(latents_ptr + i_frame[:, None] * (Q * D) + i_stage * D, m_frame[:, None], D)
    else:
        b_length = tl.maximum(tl.sqrt_rn(tl.sum(b_latent * b_latent, 1)), LENGTH_EPSILON)
        b_unit = tl.div_rn(b_latent, tl.broadcast_to(b_length[:, None], b_latent.shape))
        b_square = tl.sum(b_unit * b_unit, 1)[:, None]
    o_codes = i_stage * n_codes
    pointers = columns_ptr + o_codes * D, squares_ptr + o_codes
    _, b_index = nearest_code(
        b_unit, b_square, *pointers, 0, n_codes, n_codes, D, ADD_SQUARES, False, CODES, IN_REGISTERS
    )
    tl.store(indices_ptr + i_frame * Q + i_stage, b_index.to(tl.int64), mask=m_frame)
    o_entry = (o_codes + b_index).to(tl.int64)[:, None, None] * (Q * D)
    o_column = o_stage[None, :, None] * D + o_dim[None, None, :]
    m_later = ((o_stage > i_stage) & (o_stage < Q))[None, :, None] & (o_dim < D)[None, None, :]
    return b_rest - tl.load(tables_ptr + o_entry + o_column, mask=m_frame[:, None, None] & m_later, other=0.0)


@triton.jit
def _factorized_rvq_kernel(
    projections_ptr,
    columns_ptr,
    squares_ptr,
    tables_ptr,
    indices_ptr,
    latents_ptr,
    n_frames,
    n_codes,
    Q: tl.constexpr,
    D: tl.constexpr,
    STRIDES: tl.constexpr,
    ADD_SQUARES: tl.constexpr,
    FRAMES: tl.constexpr,
    STAGES: tl.constexpr,
    DIMS: tl.constexpr,
    CODES: tl.constexpr,
    IN_REGISTERS: tl.constexpr,
):
    """STRIDES empty: 1 everywhere, and a loop that is not unrolled."""
    i_frame = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    o_stage, o_dim = tl.arange(0, STAGES), tl.arange(0, DIMS)
    m_frame = i_frame < n_frames
    m_column = (o_stage < Q)[None, :, None] & (o_dim < D)[None, None, :]
    o_all = i_frame[:, None, None] * (Q * D) + o_stage[None, :, None] * D + o_dim[None, None, :]
    b_rest = tl.load(projections_ptr + o_all, mask=m_frame[:, None, None] & m_column, other=0.0)
    pointers = columns_ptr, squares_ptr, tables_ptr, indices_ptr, latents_ptr
    if len(STRIDES) == 0:
        for i_stage in range(Q):
            b_rest = _stage(
                b_rest, i_stage, i_frame, m_frame, *pointers, n_codes, 1, Q, D, ADD_SQUARES, CODES, IN_REGISTERS
            )
    else:
        for i_stage in tl.static_range(Q):
            b_rest = _stage(
                b_rest,
                i_stage,
                i_frame,
                m_frame,
                *pointers,
                n_codes,
                STRIDES[i_stage],
                Q,
                D,
                ADD_SQUARES,
                CODES,
                IN_REGISTERS,
            )


@define_op("factorized_rvq_encode")
def _factorized_rvq_encode(
    projections: Tensor,
    codebooks: Tensor,
    tables: Tensor,
    strides: SchemaSequence[int],
    score: str,
    columns: Tensor | None = None,
    squares: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    _check(projections, codebooks, tables, strides, score)
    n_batch, n_time, _ = projections.shape
    n_stages, n_codes, n_dims = codebooks.shape
    projections = projections.float().contiguous()
    indices = torch.empty(n_batch, n_time, n_stages, dtype=torch.int64, device=projections.device)
    latents = torch.empty_like(projections)
    if indices.numel():
        few = n_dims <= FEW
        tile = {"STAGES": triton.next_power_of_2(n_stages), "DIMS": max(16, triton.next_power_of_2(n_dims))}
        tile["FRAMES"] = max(4 if few else 16, *strides)
        tile["CODES"] = 128 if few else 64
        with on_device("projections", projections):
            _factorized_rvq_kernel[(triton.cdiv(n_batch * n_time, tile["FRAMES"]),)](
                projections,
                *packed_or_pack(codebooks, columns, squares, directions=True),
                tables.float().contiguous(),
                indices,
                latents,
                n_batch * n_time,
                n_codes,
                Q=n_stages,
                D=n_dims,
                STRIDES=tuple(strides) if max(strides) > 1 else (),
                ADD_SQUARES=score == "dac",
                IN_REGISTERS=few,
                num_warps=4,
                **AS_WRITTEN,
                **tile,
            )
    return indices.transpose(1, 2).contiguous(), latents


def _check(projections: Tensor, codebooks: Tensor, tables: Tensor, strides: Sequence[int], score: str) -> None:
    check_dtype("projections", projections, HALVES)
    if codebooks.ndim != 3 or 0 in codebooks.shape or codebooks.shape[0] > 64 or codebooks.shape[2] > 64:
        raise ValueError(f"codebooks must be [Q, K, D] with Q and D in 1 .. 64, got {list(codebooks.shape)}")
    n_stages, n_codes, n_dims = codebooks.shape
    n_columns = n_stages * n_dims
    if projections.ndim != 3 or projections.shape[2] != n_columns:
        raise ValueError(f"projections must be [B, T, {n_columns}], got {list(projections.shape)}")
    check_operand("codebooks", codebooks, codebooks.shape, projections, "projections", HALVES)
    check_operand("tables", tables, (n_stages, n_codes, n_columns), projections, "projections", HALVES)
    if len(strides) != n_stages or not all(s in (1, 2, 4, 8, 16) for s in strides):
        raise ValueError(f"strides must be {n_stages} powers of two of 1 to 16, got {list(strides)}")
    if projections.shape[1] % max(strides):
        raise ValueError(f"T must be a multiple of the largest stride, {max(strides)}, got {projections.shape[1]}")
    if score not in ("dac", "snac"):
        raise ValueError(f"score must be dac or snac, got {score!r}")


@_factorized_rvq_encode.register_fake
def _(projections, codebooks, tables, strides, score, columns=None, squares=None):
    n_batch, n_time, _ = projections.shape
    indices = projections.new_empty(n_batch, codebooks.shape[0], n_time, dtype=torch.int64)
    return indices, projections.new_empty(projections.shape, dtype=torch.float32)


def factorized_rvq_encode(
    projections: Tensor,
    codebooks: Tensor,
    tables: Tensor,
    strides: Sequence[int] | None = None,
    score: str = "dac",
    packed: PackedCodebooks | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the entry of the nearest direction in every stage, from what the stages' projections give of the input.

    In IEEE float32, in one launch. Not differentiable. No index depends on the batch.

    Args:
        projections: ``[B, T, Q * D]``, ``W_j x + b_j`` of stage after stage; float32, float16 or bfloat16.
        codebooks: ``[Q, K, D]``, Q and D in 1 .. 64; any of these dtypes.
        tables: ``[Q, K, Q * D]``: by how much entry c of stage k changes the projections of stage j > k, which is
            ``W_j (V_k c + a_k)`` with the projection V, a back; what is there for other j is not read.
        strides: frames that share an index, in each stage; 1, 2, 4, 8 or 16; None for 1 everywhere.
        score: in which order the library adds: ``"dac"`` ``-(|p|^2 - 2 p.c) + |c|^2``, ``"snac"``
            ``-(|p|^2 - 2 p.c + |c|^2)``, of directions, whose lengths are 1 but for rounding.
        packed: what ``pack_codebooks`` made of ``codebooks`` as directions; None to make it in this call.

    Returns:
        (indices int64 ``[B, Q, T]``, equal within a group of frames; latents float32 ``[B, T, Q * D]``, the
        projections as each stage met them).

    Raises:
        ValueError: a shape, a device, ``strides`` or ``score`` does not fit.
        TypeError: a dtype does not fit.

    Source: Yu et al., 2022 (factorized codes); Kumar et al., 2023 (DAC); Siuzdak et al., 2024 (SNAC).
    """
    strides = [1] * len(codebooks) if strides is None else [int(stride) for stride in strides]
    return _factorized_rvq_encode(projections, codebooks, tables, strides, score, *(packed or ()))
