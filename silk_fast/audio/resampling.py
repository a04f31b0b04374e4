"""Resampling block by block, in memory that does not grow with duration (soxr, HQ)."""

from collections.abc import Iterable, Iterator

import numpy as np

from silk_fast.audio.formats import check_number


def resampled_length(n_samples: int, source_rate: int, target_rate: int) -> int:
    """Count the samples after resampling: ``n_samples * target_rate / source_rate``, halves up, >= 1 of 1 or more.

    Raises:
        SilkInputError: a rate is not an integer >= 1.
    """
    check_number("source_rate", source_rate)
    check_number("target_rate", target_rate)
    return max(min(n_samples, 1), (2 * n_samples * target_rate + source_rate) // (2 * source_rate))


def resample_blocks(blocks: Iterable[np.ndarray], source_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Resample a signal that comes in blocks, as if it were one.

    Args:
        blocks: float32 ``[n]`` each, any n.
        source_rate, target_rate: Hz.

    Yields:
        float32 ``[m]``, any m; together :func:`resampled_length` samples, the same for every division into blocks.

    Raises:
        SilkInputError: a rate is not an integer >= 1.
    """
    resampled_length(0, source_rate, target_rate)
    if source_rate == target_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="HQ")
    n_in = n_out = 0
    for block in blocks:
        out = stream.resample_chunk(block)
        n_in, n_out = n_in + len(block), n_out + len(out)
        yield out
    n_left = resampled_length(n_in, source_rate, target_rate) - n_out
    tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)[:n_left]
    yield np.pad(tail, (0, n_left - len(tail)))
