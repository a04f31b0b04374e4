"""Harmonics of a voice in spectra: bin k belongs to the harmonic h nearest to it, at x = k - h * spacing bins.

    m' = m + w * log(max(r(x), deepest)),    p' = h * phase + pi * (k mod 2) where w > 1/2, else p
    w = sigmoid((cutoff - f_k) / width)

r is the response of a Hann window, ``|sin(pi x)| / (pi |x| |1 - x^2|)``. Source: harmonic plus noise model (Stylianou,
2001); the codec's use of it is in docs/codec.md.

Memory-bound: 2 reads and 2 writes per bin forward; 2 reads and 1 write backward, where the gradient of the
log-magnitude is what comes in, and that of the cutoff small: programs store sums over 128 bins of a frame, which
``torch.sum`` adds up. A tile is frames x bins; loads and stores are coalesced along whichever of the two is contiguous,
and results have the strides of the log-magnitude.

A spacing times hundreds of harmonics is no float32, so it comes in float64 and is split into two float32, of which the
fused products lose nothing; h is the quotient's nearest integer. Phases are counted in 2^-32 turns: their product with
h wraps as turns do. Half a turn more in every other bin puts the middle of a pulse in the middle of the frame.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, define_op, on_device, wide_dtype
from ._math import PI, ROUND_MAGIC, fma, sigmoid, sin_pi

BLOCK_N = 32  # frames per program: 128 bytes where time is contiguous, as in a transposed convolution output
BLOCK_K = 32  # bins
SUMMED = tl.constexpr(128)  # bins of a program backward

PER_TURN = tl.constexpr(2 * math.pi / 2**32)
NO_VOICE = tl.constexpr(-1e9)  # Hz; as good as minus infinity, which has no parts
MAGIC_64 = tl.constexpr(1.5 * 2.0**52)


@triton.jit
def _nearest(b_x):
    """Nearest integer of x, half to even, of small float32 or float64."""
    magic = tl.full([], MAGIC_64 if b_x.dtype == tl.float64 else ROUND_MAGIC, b_x.dtype)
    return (b_x + magic) - magic


@triton.jit
def _quotient(b_x, b_y):
    """x / y, rounded as IEEE says; Triton's own division of float32 is not."""
    return b_x / b_y if b_x.dtype == tl.float64 else tl.div_rn(b_x, b_y)


@triton.jit
def _split(b_x, COMPUTE: tl.constexpr):
    """A float64 as the sum of two numbers to compute with."""
    b_high = b_x.to(COMPUTE)
    return b_high, (b_x - b_high.to(tl.float64)).to(COMPUTE)


@triton.jit
def _shape(spacing_ptr, cutoff_ptr, i_frame, m_frame, i_bin, bin_width, width, DEEPEST, COMPUTE: tl.constexpr):
    """Harmonics, weights w and logarithms of responses, of bins ``[1, K]`` in frames ``[N, 1]``."""
    b_high, b_low = _split(tl.load(spacing_ptr + i_frame, mask=m_frame, other=1.0), COMPUTE)
    b_k = i_bin.to(COMPUTE)
    b_harmonic = _nearest(_quotient(b_k + tl.zeros_like(b_high), b_high))
    b_harmonic = tl.maximum(b_harmonic, 1.0, propagate_nan=tl.PropagateNan.ALL)
    b_x = fma(b_harmonic, -b_low, fma(b_harmonic, -b_high, b_k))
    b_sine = sin_pi(b_x - _nearest(b_x))  # that of x but for its sign
    b_sinc = tl.where(b_x == 0.0, 1.0, b_sine / tl.where(b_x == 0.0, 1.0, tl.full([], PI, COMPUTE) * b_x))
    b_distance = fma(b_x, b_x, tl.full([], -1.0, COMPUTE))
    m_limit = tl.abs(b_distance) < 1e-4  # where the response is 0 / 0, and its limit 1 / 2
    b_response = tl.where(m_limit, 0.5, tl.abs(b_sinc / tl.where(m_limit, 1.0, b_distance)))
    b_valley = tl.log(tl.maximum(b_response, tl.full([], DEEPEST, COMPUTE), propagate_nan=tl.PropagateNan.ALL))
    b_cutoff = tl.load(cutoff_ptr + i_frame, mask=m_frame, other=0.0)
    b_cutoff = tl.maximum(b_cutoff, NO_VOICE, propagate_nan=tl.PropagateNan.ALL)
    b_high, b_low = _split(b_cutoff, COMPUTE)
    b_weight = sigmoid(((b_high - b_k * bin_width) + b_low) / width)
    return b_harmonic, b_weight, b_valley


@triton.jit
def _add_harmonics_fwd_kernel(
    m_ptr,
    p_ptr,
    spacing_ptr,
    cutoff_ptr,
    turns_ptr,
    new_m_ptr,
    new_p_ptr,
    stride_m_b,
    stride_m_n,
    stride_m_k,
    stride_p_b,
    stride_p_n,
    stride_p_k,
    stride_new_b,
    stride_new_n,
    stride_new_k,
    n_frames,
    n_bins,
    bin_width,
    width,
    DEEPEST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    n_blocks_n, n_blocks_k = tl.cdiv(n_frames, BLOCK_N), tl.cdiv(n_bins, BLOCK_K)
    i_row = tl.program_id(0) // n_blocks_k
    i_batch = (i_row // n_blocks_n).to(tl.int64)
    i_frame = ((i_row % n_blocks_n) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]).to(tl.int64)
    i_bin = (tl.program_id(0) % n_blocks_k) * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
    m_frame, m_tile = i_frame < n_frames, (i_frame < n_frames) & (i_bin < n_bins)
    i_bins = i_bin.to(tl.int64)
    b_m = tl.load(m_ptr + i_batch * stride_m_b + i_frame * stride_m_n + i_bins * stride_m_k, mask=m_tile, other=0.0)
    b_p = tl.load(p_ptr + i_batch * stride_p_b + i_frame * stride_p_n + i_bins * stride_p_k, mask=m_tile, other=0.0)
    i_contour = i_batch * n_frames + i_frame
    b_harmonic, b_weight, b_valley = _shape(
        spacing_ptr, cutoff_ptr, i_contour, m_frame, i_bin, bin_width, width, DEEPEST, COMPUTE
    )
    b_turns = tl.load(turns_ptr + i_contour, mask=m_frame, other=0).to(tl.int32)
    b_counted = (b_harmonic.to(tl.int32) * b_turns + (i_bin << 31)).to(tl.uint32, bitcast=True)
    b_turned = b_counted.to(COMPUTE) * tl.full([], PER_TURN, COMPUTE)
    b_p = tl.where(b_weight > 0.5, b_turned, b_p.to(COMPUTE))
    o_new = i_batch * stride_new_b + i_frame * stride_new_n + i_bins * stride_new_k
    tl.store(new_m_ptr + o_new, (b_m.to(COMPUTE) + b_weight * b_valley).to(new_m_ptr.dtype.element_ty), mask=m_tile)
    tl.store(new_p_ptr + o_new, b_p.to(new_p_ptr.dtype.element_ty), mask=m_tile)


@triton.jit
def _add_harmonics_bwd_kernel(
    dm_ptr,
    dp_ptr,
    spacing_ptr,
    cutoff_ptr,
    dphase_ptr,
    sums_ptr,
    stride_dm_b,
    stride_dm_n,
    stride_dm_k,
    stride_dp_b,
    stride_dp_n,
    stride_dp_k,
    stride_dphase_b,
    stride_dphase_n,
    stride_dphase_k,
    n_batch,
    n_frames,
    n_bins,
    bin_width,
    width,
    DEEPEST: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """``dphase``; ``sums [parts, B, N]``, of SUMMED bins each: what the cutoff gets of them."""
    n_blocks, n_parts = tl.cdiv(n_frames, BLOCK_N), tl.cdiv(n_bins, SUMMED)
    i_part, i_row = tl.program_id(0) % n_parts, tl.program_id(0) // n_parts
    i_batch = (i_row // n_blocks).to(tl.int64)
    i_frame = ((i_row % n_blocks) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]).to(tl.int64)
    m_frame = i_frame < n_frames
    i_contour = i_batch * n_frames + i_frame
    b_sum = tl.zeros([BLOCK_N, BLOCK_K], COMPUTE)
    for i_first in range(0, SUMMED, BLOCK_K):
        i_bin = i_part * SUMMED + i_first + tl.arange(0, BLOCK_K)[None, :]
        m_tile = m_frame & (i_bin < n_bins)
        i_bins = i_bin.to(tl.int64)
        o_dm = i_batch * stride_dm_b + i_frame * stride_dm_n + i_bins * stride_dm_k
        o_dp = i_batch * stride_dp_b + i_frame * stride_dp_n + i_bins * stride_dp_k
        o_dphase = i_batch * stride_dphase_b + i_frame * stride_dphase_n + i_bins * stride_dphase_k
        b_dm = tl.load(dm_ptr + o_dm, mask=m_tile, other=0.0).to(COMPUTE)
        b_dp = tl.load(dp_ptr + o_dp, mask=m_tile, other=0.0)
        _, b_weight, b_valley = _shape(
            spacing_ptr, cutoff_ptr, i_contour, m_frame, i_bin, bin_width, width, DEEPEST, COMPUTE
        )
        tl.store(dphase_ptr + o_dphase, tl.where(b_weight > 0.5, 0.0, b_dp), mask=m_tile)
        b_sum += tl.where(m_tile, b_dm * b_valley * (b_weight * (1.0 - b_weight)), 0.0)
    sums_ptr += i_part.to(tl.int64) * n_batch * n_frames
    tl.store(sums_ptr + i_contour, tl.sum(b_sum, 1, keep_dims=True), mask=m_frame)


def _check(log_magnitude: Tensor, phase: Tensor, spacing: Tensor, cutoff: Tensor, turns: Tensor) -> None:
    if log_magnitude.ndim != 3:
        raise ValueError(f"log_magnitude must be [B, N, K], got {list(log_magnitude.shape)}")
    check_dtype("log_magnitude", log_magnitude)
    check_operand("phase", phase, log_magnitude.shape, log_magnitude, "log_magnitude", dtypes=None)
    for name, tensor, dtype in (
        ("spacing", spacing, torch.float64),
        ("cutoff", cutoff, torch.float64),
        ("turns", turns, torch.int64),
    ):
        check_operand(name, tensor, log_magnitude.shape[:2], log_magnitude, "log_magnitude", dtypes=(dtype,))


def _options(dtype: torch.dtype, deepest: float) -> dict:
    return {"DEEPEST": deepest, "BLOCK_K": BLOCK_K, "COMPUTE": compute_dtype(dtype), **AS_WRITTEN}


@define_op("add_harmonics")
def _add_harmonics(
    log_magnitude: Tensor,
    phase: Tensor,
    spacing: Tensor,
    cutoff: Tensor,
    turns: Tensor,
    bin_width: float,
    width: float,
    deepest: float,
) -> tuple[Tensor, Tensor]:
    _check(log_magnitude, phase, spacing, cutoff, turns)
    new_m, new_p = torch.empty_like(log_magnitude), torch.empty_like(log_magnitude)
    n_batch, n_frames, n_bins = log_magnitude.shape
    if new_m.numel():
        with on_device("log_magnitude", log_magnitude):
            grid = (n_batch * triton.cdiv(n_frames, BLOCK_N) * triton.cdiv(n_bins, BLOCK_K),)
            _add_harmonics_fwd_kernel[grid](
                *(log_magnitude, phase, spacing.contiguous(), cutoff.contiguous(), turns.contiguous(), new_m, new_p),
                *(*log_magnitude.stride(), *phase.stride(), *new_m.stride()),
                *(n_frames, n_bins, bin_width, width),
                BLOCK_N=BLOCK_N,
                num_warps=4 if new_m.element_size() == 2 else 8,  # 16 bytes a thread
                **_options(new_m.dtype, deepest),
            )
    return new_m, new_p


@define_op("add_harmonics_backward")
def _add_harmonics_backward(
    dm: Tensor, dp: Tensor, spacing: Tensor, cutoff: Tensor, bin_width: float, width: float, deepest: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of phase and cutoff, ``[B, N, K]`` and float64 ``[B, N]``."""
    n_batch, n_frames, n_bins = dm.shape
    block, n_parts = BLOCK_N // 2, triton.cdiv(n_bins, SUMMED.value)
    dphase, sums = torch.empty_like(dp), dm.new_empty(n_parts, n_batch, n_frames, dtype=wide_dtype(dm.dtype))
    if dm.numel():
        with on_device("dm", dm):
            _add_harmonics_bwd_kernel[(n_batch * triton.cdiv(n_frames, block) * n_parts,)](
                *(dm, dp, spacing.contiguous(), cutoff.contiguous(), dphase, sums),
                *(*dm.stride(), *dp.stride(), *dphase.stride(), n_batch, n_frames, n_bins, bin_width, width),
                BLOCK_N=block,
                num_warps=8,  # with 4 ptxas spilled for sm_80
                **_options(dm.dtype, deepest),
            )
    return dphase, sums.sum(0, dtype=torch.float64) / width


@_add_harmonics.register_fake
def _(log_magnitude, phase, spacing, cutoff, turns, bin_width, width, deepest):
    return torch.empty_like(log_magnitude), torch.empty_like(log_magnitude)


@_add_harmonics_backward.register_fake
def _(dm, dp, spacing, cutoff, bin_width, width, deepest):
    return torch.empty_like(dp), torch.empty_like(cutoff, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output):
    _, _, spacing, cutoff, _, *ctx.sizes = inputs
    ctx.save_for_backward(spacing, cutoff)


def _backward(ctx, dm: Tensor, dp: Tensor):
    dphase, dcutoff = _add_harmonics_backward(dm, dp, *ctx.saved_tensors, *ctx.sizes)
    return dm, dphase, None, dcutoff, None, None, None, None


_add_harmonics.register_autograd(_backward, setup_context=_setup_context)


def add_harmonics(
    log_magnitude: Tensor,
    phase: Tensor,
    spacing: Tensor,
    cutoff: Tensor,
    turns: Tensor,
    bin_width: float,
    width: float = 500.0,
    deepest: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """Shape spectra like the harmonics of a pitch, up to a cutoff.

    Differentiable to log-magnitude, phase and cutoff; deterministic. Computed in float32 (float64 for float64).

    Args:
        log_magnitude, phase: ``[B, N, K]``, float32, float16, bfloat16 or float64, any strides.
        spacing: float64 ``[B, N]``, of the harmonics, in bins.
        cutoff: float64 ``[B, N]``, Hz, above which there are none; minus infinity where there is no voice.
        turns: int64 ``[B, N]``, of the first harmonic, in 2^-32 turns.
        bin_width: Hz from bin to bin.
        width: Hz in which harmonics fade at the cutoff.
        deepest: of the valleys between harmonics, as a share of their magnitude.

    Returns:
        (log-magnitudes, phases), ``[B, N, K]`` in the dtype of ``log_magnitude``.

    Raises:
        ValueError: a shape or device does not match.
        TypeError: a dtype does not.
    """
    return _add_harmonics(log_magnitude, phase, spacing, cutoff, turns, bin_width, width, deepest)
