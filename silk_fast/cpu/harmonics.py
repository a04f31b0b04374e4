"""Harmonics of a voice: ``harmonics.c``."""

import torch
from torch import Tensor

from silk_fast.cpu.checks import check_dtype, check_shape, threads
from silk_fast.cpu.library import load


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

    Args:
        log_magnitude, phase: float32 ``[B, N, K]``; read as they are where time is contiguous.
        spacing: float64 ``[B, N]``, of the harmonics, in bins.
        cutoff: float64 ``[B, N]``, Hz; minus infinity where there is no voice.
        turns: int64 ``[B, N]``, of the first harmonic, in 2^-32 turns.
        bin_width: Hz from bin to bin.
        width: Hz in which harmonics fade at the cutoff.
        deepest: of the valleys between harmonics, as a share of their magnitude.

    Returns:
        (log-magnitudes, phases), ``[B, N, K]``, contiguous along time.
    """
    shape = log_magnitude.shape
    if len(shape) != 3:
        raise ValueError(f"log_magnitude must be [B, N, K], got {list(shape)}")
    n_batch, n_frames, n_bins = shape
    check_dtype("log_magnitude", log_magnitude, (torch.float32,))
    check_dtype("phase", phase, (torch.float32,))
    check_shape("phase", phase, shape)
    for name, contour, dtype in (
        ("spacing", spacing, torch.float64),
        ("cutoff", cutoff, torch.float64),
        ("turns", turns, torch.int64),
    ):
        check_dtype(name, contour, (dtype,))
        check_shape(name, contour, shape[:2])
    m, p = (x if x.stride(1) == 1 else x.mT.contiguous().mT for x in (log_magnitude, phase))
    spacing, cutoff, turns = (contour.contiguous() for contour in (spacing, cutoff, turns))
    new_m, new_p = (m.new_empty((n_batch, n_bins, n_frames)) for _ in range(2))
    load().silk_add_harmonics(
        *(m.data_ptr(), p.data_ptr(), spacing.data_ptr(), cutoff.data_ptr(), turns.data_ptr()),
        *(new_m.data_ptr(), new_p.data_ptr(), m.stride(0), m.stride(2), p.stride(0), p.stride(2)),
        *(n_batch, n_frames, n_bins, bin_width, width, deepest, threads(new_m.numel())),
    )
    return new_m.mT, new_p.mT
