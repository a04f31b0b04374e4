"""Search of codebooks as wide as the vectors: one launch a stage, and one more.

A stage is a product of residuals [N, D] with a codebook [K, D], 2 N K D FLOPs in IEEE float32 (TF32 gives other codes),
and memory traffic of the codebook alone, by columns (``columns.py``): residuals stay in the cache. A program takes
FRAMES residuals and one of SPLITS parts of the codebook, so that short signals fill a card too: 10 s of Mimi are 125
frames against 2048 codes. It begins by choosing the winner of the stage before among the parts and subtracting it, each
program for itself: no launch is spent on that. Which part or tile an entry is in changes no bit of its score, so no
index depends on the batch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import AS_WRITTEN, check_dtype, check_operand, define_op, on_device, processors
from .columns import PackedCodebooks, packed_or_pack
from .search import HALVES, nearest_code

FRAMES = 16


@triton.jit(do_not_specialize=["i_stage"])
def _rvq_stage_kernel(
    x_ptr,
    rest_ptr,
    codebooks_ptr,
    columns_ptr,
    squares_ptr,
    scores_ptr,
    winners_ptr,
    indices_ptr,
    i_stage,
    n_frames,
    n_codes,
    n_stages,
    D: tl.constexpr,
    FIRST: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    SPLITS: tl.constexpr,
    FRAMES: tl.constexpr,
    CODES: tl.constexpr,
    DIMS: tl.constexpr,
):
    """Of the stage before: winner, residual (x is the residual before it). Of this one: best of each part."""
    i_split = tl.program_id(1)
    i_frame = tl.program_id(0).to(tl.int64) * FRAMES + tl.arange(0, FRAMES)
    o_dim = tl.arange(0, DIMS)
    m_frame = i_frame < n_frames
    m_x = m_frame[:, None] & (o_dim < D)[None, :]
    o_x = i_frame[:, None] * D + o_dim[None, :]
    o_part = tl.arange(0, SPLITS)[:, None] * n_frames + i_frame[None, :]
    n_parts = SPLITS * n_frames
    b_x = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(tl.float32)
    if not FIRST:
        o_before = (i_stage - 1) % 2 * n_parts
        b_score = tl.load(scores_ptr + o_before + o_part, mask=m_frame[None, :], other=0.0)
        i_best = tl.argmax(b_score, 0, tie_break_left=True)
        o_best = o_before + i_best.to(tl.int64) * n_frames + i_frame
        b_index = tl.load(winners_ptr + o_best, mask=m_frame, other=0)
        o_entry = ((i_stage - 1) * n_codes + b_index).to(tl.int64)[:, None] * D + o_dim[None, :]
        b_x -= tl.load(codebooks_ptr + o_entry, mask=m_x, other=0.0)
        if i_split == 0:
            o_index = i_frame * n_stages + (i_stage - 1)
            tl.store(indices_ptr + o_index, b_index.to(tl.int64), mask=m_frame)
            tl.store(rest_ptr + o_x, b_x, mask=m_x)
    if i_stage < n_stages:
        n_split = tl.cdiv(tl.cdiv(n_codes, SPLITS), CODES) * CODES
        i_first = i_split * n_split
        o_stage = i_stage.to(tl.int64) * n_codes
        b_best, b_index = nearest_code(
            b_x,
            tl.sum(b_x * b_x, 1)[:, None],
            columns_ptr + o_stage * D,
            squares_ptr + o_stage,
            i_first,
            tl.minimum(i_first + n_split, n_codes),
            n_codes,
            D,
            False,
            EUCLIDEAN,
            CODES,
            False,
        )
        o_mine = i_stage % 2 * n_parts + i_split * n_frames + i_frame
        tl.store(scores_ptr + o_mine, b_best, mask=m_frame)
        tl.store(winners_ptr + o_mine, b_index, mask=m_frame)


def _splits(n_blocks: int, n_codes: int, codes: int, device: torch.device) -> int:
    """Parts of a codebook with which a launch fills the card, a power of two."""
    wanted = triton.next_power_of_2(triton.cdiv(processors(device), n_blocks))
    return min(wanted, triton.next_power_of_2(triton.cdiv(n_codes, codes)))


@define_op("rvq_encode")
def _rvq_encode(
    x: Tensor, codebooks: Tensor, euclidean: bool, columns: Tensor | None = None, squares: Tensor | None = None
) -> Tensor:
    _check(x, codebooks)
    n_batch, n_time, n_dims = x.shape
    n_stages, n_codes, _ = codebooks.shape
    n_frames = n_batch * n_time
    indices = torch.empty(n_batch, n_time, n_stages, dtype=torch.int64, device=x.device)
    if indices.numel():
        x, codebooks = x.contiguous(), codebooks.float().contiguous()
        dims = max(triton.next_power_of_2(n_dims), 16)
        tile = {"FRAMES": FRAMES, "DIMS": dims, "CODES": max(16, min(64, 8192 // dims)), "num_warps": 4}
        tile["maxnreg"] = 255  # with no limit, the assembler spills a few bytes for occupancy that memory forbids
        n_blocks = triton.cdiv(n_frames, FRAMES)
        splits = _splits(n_blocks, n_codes, tile["CODES"], x.device)
        rests = torch.empty(2, n_frames, n_dims, dtype=torch.float32, device=x.device)
        scores = torch.empty(2, splits, n_frames, dtype=torch.float32, device=x.device)
        winners = torch.empty(2, splits, n_frames, dtype=torch.int32, device=x.device)
        packed = packed_or_pack(codebooks, columns, squares, directions=False)
        operands = codebooks, *packed, scores, winners, indices
        with on_device("x", x):
            for i in range(n_stages + 1):
                source = x if i < 2 else rests[i % 2]
                grid = (n_blocks, splits if i < n_stages else 1)
                _rvq_stage_kernel[grid](
                    source,
                    rests[(i + 1) % 2],
                    *operands,
                    i,
                    n_frames,
                    n_codes,
                    n_stages,
                    D=n_dims,
                    FIRST=i == 0,
                    EUCLIDEAN=euclidean,
                    SPLITS=splits,
                    **AS_WRITTEN,
                    **tile,
                )
    return indices.transpose(1, 2).contiguous()


def _check(x: Tensor, codebooks: Tensor) -> None:
    if x.ndim != 3 or not 1 <= x.shape[2] <= 512:
        raise ValueError(f"x must be [B, T, D] with D in 1 .. 512, got {list(x.shape)}")
    check_dtype("x", x, HALVES)
    if codebooks.ndim != 3 or codebooks.shape[1] < 1:
        raise ValueError(f"codebooks must be [Q, K, {x.shape[2]}] with K >= 1, got {list(codebooks.shape)}")
    check_operand("codebooks", codebooks, (*codebooks.shape[:2], x.shape[2]), x, dtypes=HALVES)


@_rvq_encode.register_fake
def _(x, codebooks, euclidean, columns=None, squares=None):
    return x.new_empty(x.shape[0], codebooks.shape[0], x.shape[1], dtype=torch.int64)


def rvq_encode(x: Tensor, codebooks: Tensor, euclidean: bool = False, packed: PackedCodebooks | None = None) -> Tensor:
    """Find the entry that is nearest to what earlier stages left, stage after stage; computed in IEEE float32.

    Not differentiable. No index depends on the batch.

    Args:
        x: ``[B, T, D]``, D in 1 .. 512; float32, float16 or bfloat16; copied first if not contiguous.
        codebooks: ``[Q, K, D]``, of any of these dtypes.
        euclidean: compare roots of squared distances, of which more are equal, as ``torch.cdist`` gives them (Mimi);
            else squared distances in the order of additions of EnCodec.
        packed: what ``pack_codebooks`` made of ``codebooks``; None to make it in this call.

    Returns:
        int64 ``[B, Q, T]``; the first of equally near entries, and 0 for NaN.

    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit.

    Source: Zeghidour et al., 2021 (SoundStream); Défossez et al., 2022 (EnCodec).
    """
    return _rvq_encode(x, codebooks, euclidean, *(packed or ()))
