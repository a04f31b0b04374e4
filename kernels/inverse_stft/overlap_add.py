"""Windowed overlap-add: ``y[t] = sum_f window[t - f * hop] * frames[f, t - f * hop] / envelope[t]``.

Source: Griffin and Lim, 1984.

Memory-bound: n_fft reads and hop writes of 4 bytes per frame, forward; the reverse backward.
A sample is gathered from its n_fft / hop frames: no atomics, and one order of additions, from the oldest frame
to the newest, onto ``overlap`` if given. As ``constant`` scales the window and not the sum, a signal in chunks
repeats the additions of the whole, bit by bit.
Samples are tiled as [segment of one hop, position in it]: a frame meets a segment in a contiguous run, accesses
are 16 bytes wide where 16 divides hop, and backward a frame element belongs to one program alone.
The envelope comes from the window (L1) inside the kernel, which saves launches.
"""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from .._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, define_op, on_device
from .._math import fma

BLOCK = 512  # samples per program: one 16-byte access a thread for each frame that overlaps
BLOCK_WINDOW = 1024
NORMALIZATIONS = ("none", "constant", "window")


@triton.jit
def _segment_tile(n_batch, n_segments, hop, first, BLOCK_S: tl.constexpr, BLOCK_R: tl.constexpr):
    """Batch and segment ``[BLOCK_S, 1]``, position ``[1, BLOCK_R]``, offset among the samples kept, and validity."""
    n_blocks_r = tl.cdiv(hop, BLOCK_R)
    i_row = (tl.program_id(0) // n_blocks_r) * BLOCK_S + tl.arange(0, BLOCK_S)[:, None]
    i_batch, i_segment = (i_row // n_segments).to(tl.int64), (i_row % n_segments).to(tl.int64)
    i_position = (tl.program_id(0) % n_blocks_r) * BLOCK_R + tl.arange(0, BLOCK_R)[None, :]
    i_sample = i_segment * hop + i_position - first
    return i_batch, i_segment, i_position, i_sample, (i_batch < n_batch) & (i_position < hop)


@triton.jit
def _window_segment(window_ptr, i_overlap, i_position, hop, COMPUTE: tl.constexpr):
    """Where the window meets a segment that starts ``i_overlap`` hops after the frame."""
    return tl.load(window_ptr + i_overlap * hop + i_position, mask=i_position < hop, other=0.0).to(COMPUTE)


@triton.jit
def _gain(
    window_ptr,
    i_segment,
    i_position,
    m_y,
    n_frames,
    hop,
    NORMALIZATION: tl.constexpr,
    OVERLAPS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_WINDOW: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    """One over the envelope of each sample; 1 where ``m_y`` is false, as the envelope may be 0 there."""
    if NORMALIZATION == "none":
        return tl.full((1, 1), 1.0, COMPUTE)
    elif NORMALIZATION == "constant":
        b_squares = tl.zeros((BLOCK_WINDOW,), COMPUTE)
        for i_start in range(0, OVERLAPS * hop, BLOCK_WINDOW):
            o_window = i_start + tl.arange(0, BLOCK_WINDOW)
            b_window = tl.load(window_ptr + o_window, mask=o_window < OVERLAPS * hop, other=0.0).to(COMPUTE)
            b_squares = fma(b_window, b_window, b_squares)
        return hop / tl.sum(b_squares)
    else:
        b_envelope = tl.zeros((BLOCK_S, BLOCK_R), COMPUTE)
        for i_overlap in range(OVERLAPS):
            i_frame = i_segment - i_overlap
            b_window = _window_segment(window_ptr, i_overlap, i_position, hop, COMPUTE)
            b_window = tl.where((i_frame >= 0) & (i_frame < n_frames), b_window, 0.0)
            b_envelope = fma(b_window, b_window, b_envelope)
        return 1.0 / tl.where(m_y, b_envelope, 1.0)


@triton.jit
def _overlap_add_fwd_kernel(
    frames_ptr,
    window_ptr,
    overlap_ptr,
    y_ptr,
    n_batch,
    n_segments,
    n_frames,
    hop,
    first,
    n_out,
    NORMALIZATION: tl.constexpr,
    OVERLAPS: tl.constexpr,
    HAS_OVERLAP: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_WINDOW: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    i_batch, i_segment, i_position, i_sample, m_tile = _segment_tile(n_batch, n_segments, hop, first, BLOCK_S, BLOCK_R)
    m_y = m_tile & (i_sample >= 0) & (i_sample < n_out)
    b_gain = _gain(
        window_ptr,
        i_segment,
        i_position,
        m_y,
        n_frames,
        hop,
        NORMALIZATION,
        OVERLAPS,
        BLOCK_S,
        BLOCK_R,
        BLOCK_WINDOW,
        COMPUTE,
    )
    b_y = tl.zeros((BLOCK_S, BLOCK_R), COMPUTE)
    if HAS_OVERLAP:
        o_overlap = (i_batch * (OVERLAPS - 1) + i_segment) * hop + i_position
        b_y += tl.load(overlap_ptr + o_overlap, mask=m_tile & (i_segment < OVERLAPS - 1), other=0.0).to(COMPUTE)
    for i_newer in range(OVERLAPS):
        i_overlap = OVERLAPS - 1 - i_newer
        i_frame = i_segment - i_overlap
        o_frames = ((i_batch * n_frames + i_frame) * OVERLAPS + i_overlap) * hop + i_position
        m_frames = m_tile & (i_frame >= 0) & (i_frame < n_frames)
        b_frames = tl.load(frames_ptr + o_frames, mask=m_frames, other=0.0).to(COMPUTE)
        b_y = fma(b_gain * _window_segment(window_ptr, i_overlap, i_position, hop, COMPUTE), b_frames, b_y)
    tl.store(y_ptr + i_batch * n_out + i_sample, b_y.to(y_ptr.dtype.element_ty), mask=m_y)


@triton.jit
def _overlap_add_bwd_kernel(
    dy_ptr,
    window_ptr,
    dframes_ptr,
    n_batch,
    n_segments,
    n_frames,
    hop,
    first,
    n_out,
    NORMALIZATION: tl.constexpr,
    OVERLAPS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_WINDOW: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    i_batch, i_segment, i_position, i_sample, m_tile = _segment_tile(n_batch, n_segments, hop, first, BLOCK_S, BLOCK_R)
    m_y = m_tile & (i_sample >= 0) & (i_sample < n_out)
    b_gain = _gain(
        window_ptr,
        i_segment,
        i_position,
        m_y,
        n_frames,
        hop,
        NORMALIZATION,
        OVERLAPS,
        BLOCK_S,
        BLOCK_R,
        BLOCK_WINDOW,
        COMPUTE,
    )
    b_dy = tl.load(dy_ptr + i_batch * n_out + i_sample, mask=m_y, other=0.0).to(COMPUTE)
    for i_overlap in range(OVERLAPS):
        i_frame = i_segment - i_overlap
        o_frames = ((i_batch * n_frames + i_frame) * OVERLAPS + i_overlap) * hop + i_position
        b_dframes = b_gain * _window_segment(window_ptr, i_overlap, i_position, hop, COMPUTE) * b_dy
        m_frames = m_tile & (i_frame >= 0) & (i_frame < n_frames)
        tl.store(dframes_ptr + o_frames, b_dframes.to(dframes_ptr.dtype.element_ty), mask=m_frames)


def _launch(kernel, frames_shape: torch.Size, hop: int, first: int, n_out: int, *tensors: Tensor, **constants) -> None:
    """Run ``kernel`` over every segment that a frame reaches."""
    n_batch, n_frames, n_fft = frames_shape
    overlaps = n_fft // hop
    n_segments = n_frames + overlaps - 1
    block_r = min(64, triton.next_power_of_2(hop))
    block_s = BLOCK // block_r
    grid = (triton.cdiv(n_batch * n_segments, block_s) * triton.cdiv(hop, block_r),)
    with on_device("frames", tensors[0]):
        kernel[grid](
            *tensors,
            n_batch,
            n_segments,
            n_frames,
            hop,
            first,
            n_out,
            **constants,
            OVERLAPS=overlaps,
            BLOCK_S=block_s,
            BLOCK_R=block_r,
            BLOCK_WINDOW=BLOCK_WINDOW,
            COMPUTE=compute_dtype(tensors[0].dtype),
            **AS_WRITTEN,
        )


@define_op("overlap_add")
def overlap_add(
    frames: Tensor,
    window: Tensor,
    hop: int,
    first: int,
    n_out: int,
    normalization: str = "none",
    overlap: Tensor | None = None,
) -> Tensor:
    """Window, overlap-add and normalise frames; return samples ``first .. first + n_out`` of the sum.

    Differentiable to ``frames`` and ``overlap``.

    Args:
        frames: ``[B, N, n_fft]``, float32 or float64; frame f adds at samples ``f * hop .. f * hop + n_fft``.
        window: ``[n_fft]``, any floating dtype.
        hop: samples between frames; divides n_fft.
        first: first sample returned.
        n_out: number of samples returned; ``first + n_out <= (N - 1) * hop + n_fft``.
        normalization: ``"none"``; ``"constant"`` divides by ``sum(window^2) / hop``; ``"window"`` by the
            overlap-added squared window.
        overlap: ``[B, n_fft - hop]`` of any floating dtype or None, what earlier frames add to the first samples;
            only with ``first = 0`` and not with ``"window"``, whose envelope would lack those frames.

    Returns:
        ``[B, n_out]``, dtype of ``frames``.

    Raises:
        ValueError: a shape, a device, a range or ``normalization`` is wrong.
        TypeError: ``frames`` is neither float32 nor float64, or ``window`` or ``overlap`` is not floating-point.
    """
    _check(frames, window, hop, first, n_out, normalization, overlap)
    y = torch.empty((frames.shape[0], n_out), dtype=frames.dtype, device=frames.device)
    if y.numel():
        tensors = [frames.contiguous(), window.contiguous(), frames if overlap is None else overlap.contiguous(), y]
        constants = {"NORMALIZATION": normalization, "HAS_OVERLAP": overlap is not None}
        _launch(_overlap_add_fwd_kernel, frames.shape, hop, first, n_out, *tensors, **constants)
    return y


def _check(
    frames: Tensor, window: Tensor, hop: int, first: int, n_out: int, normalization: str, overlap: Tensor | None
) -> None:
    check_dtype("frames", frames, (torch.float32, torch.float64))
    if frames.ndim != 3 or not frames.numel():
        raise ValueError(f"frames must be [B, N, n_fft] and not empty, got {list(frames.shape)}")
    n_batch, n_frames, n_fft = frames.shape
    check_operand("window", window, (n_fft,), frames, "frames")
    if hop < 1 or n_fft % hop:
        raise ValueError(f"hop must divide n_fft = {n_fft}, got {hop}")
    if first < 0 or n_out < 0 or first + n_out > (n_frames - 1) * hop + n_fft:
        raise ValueError(
            f"first and n_out must lie within {(n_frames - 1) * hop + n_fft} samples, got {first}, {n_out}"
        )
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {NORMALIZATIONS}, got {normalization!r}")
    if overlap is not None:
        check_operand("overlap", overlap, (n_batch, n_fft - hop), frames, "frames")
    if overlap is not None and (first or normalization == "window"):
        raise ValueError(f"overlap goes with first = 0, not {first}, and without 'window', got {normalization!r}")


@define_op("overlap_add_backward")
def _overlap_add_backward(
    dy: Tensor, window: Tensor, n_frames: int, hop: int, first: int, normalization: str
) -> Tensor:
    dframes = torch.empty((dy.shape[0], n_frames, window.shape[0]), dtype=dy.dtype, device=dy.device)
    tensors = dy.contiguous(), window.contiguous(), dframes
    n_out = dy.shape[1]
    _launch(_overlap_add_bwd_kernel, dframes.shape, hop, first, n_out, *tensors, NORMALIZATION=normalization)
    return dframes


@overlap_add.register_fake
def _(frames, window, hop, first, n_out, normalization="none", overlap=None):
    _check(frames, window, hop, first, n_out, normalization, overlap)
    return frames.new_empty((frames.shape[0], n_out))


@_overlap_add_backward.register_fake
def _(dy, window, n_frames, hop, first, normalization):
    return dy.new_empty((dy.shape[0], n_frames, window.shape[0]))


def _setup_context(ctx, inputs, output):
    frames, window, ctx.hop, ctx.first, _, ctx.normalization, overlap = inputs
    ctx.n_frames, ctx.overlap_dtype = frames.shape[1], None if overlap is None else overlap.dtype
    ctx.save_for_backward(window)


def _backward(ctx, dy: Tensor):
    (window,) = ctx.saved_tensors
    dframes = _overlap_add_backward(dy, window, ctx.n_frames, ctx.hop, ctx.first, ctx.normalization)
    doverlap = None
    if ctx.overlap_dtype is not None:
        n_overlap = len(window) - ctx.hop
        doverlap = F.pad(dy[:, :n_overlap], (0, max(0, n_overlap - dy.shape[1]))).to(ctx.overlap_dtype, copy=True)
    return dframes, None, None, None, None, None, doverlap


overlap_add.register_autograd(_backward, setup_context=_setup_context)
