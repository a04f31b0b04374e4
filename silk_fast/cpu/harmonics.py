"""Harmonics of a voice: ``harmonics.c``, but for counting the periods, a value a frame, which is the reference's."""

import torch
from torch import Tensor

from silk_fast.cpu.checks import check_dtype, check_shape, threads
from silk_fast.cpu.library import load
from silk_fast.reference.ops import CUTOFF_WIDTH, DEEPEST, counted_turns


def add_harmonics(
    log_magnitude: Tensor, phase: Tensor, pitch: Tensor, cutoff: Tensor, turns: Tensor, hop: int, n_fft: int, rate: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Shape spectra like the harmonics of a pitch, up to a cutoff.

    Args:
        log_magnitude, phase: float32 ``[B, N, n_fft // 2 + 1]``; read as they are where time is contiguous.
        pitch, cutoff: float64 ``[B, N]``, Hz.
        turns: int64 ``[B, 2]``, the phase before the first frame and half of the step to it, in 2^-32 turns.
        hop: samples from frame to frame.
        n_fft: length of a frame.
        rate: samples per second.

    Returns:
        (log-magnitudes, phases, contiguous along time, and ``turns`` for the next call).
    """
    shape = log_magnitude.shape
    if len(shape) != 3 or shape[2] != n_fft // 2 + 1:
        raise ValueError(f"log_magnitude must be [B, N, {n_fft // 2 + 1}], got {list(shape)}")
    n_batch, n_frames, n_bins = shape
    for name, tensor, dtype, expected in (
        ("log_magnitude", log_magnitude, torch.float32, shape),
        ("phase", phase, torch.float32, shape),
        ("pitch", pitch, torch.float64, (n_batch, n_frames)),
        ("cutoff", cutoff, torch.float64, (n_batch, n_frames)),
        ("turns", turns, torch.int64, (n_batch, 2)),
    ):
        check_dtype(name, tensor, (dtype,))
        check_shape(name, tensor, expected)
    counted, after = counted_turns(pitch, turns, hop, rate)
    spacing, cutoff = (pitch * (n_fft / rate)).contiguous(), cutoff.contiguous()
    m, p = (x if x.stride(1) == 1 else x.mT.contiguous().mT for x in (log_magnitude, phase))
    new_m, new_p = (m.new_empty((n_batch, n_bins, n_frames)) for _ in range(2))
    if new_m.numel():
        load().silk_add_harmonics(
            *(m.data_ptr(), p.data_ptr(), spacing.data_ptr(), cutoff.data_ptr(), counted.data_ptr()),
            *(new_m.data_ptr(), new_p.data_ptr(), m.stride(0), m.stride(2), p.stride(0), p.stride(2)),
            *(n_batch, n_frames, n_bins, rate / n_fft, CUTOFF_WIDTH, DEEPEST, threads(new_m.numel())),
        )
    return new_m.mT, new_p.mT, after
