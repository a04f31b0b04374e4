"""Resampling block by block, in memory that does not grow with duration (soxr, HQ)."""

from collections.abc import Iterable, Iterator

import numpy as np

from silk_fast.arguments import sample_rate, whole_number
from silk_fast.audio.formats import MOST_CHANNELS, as_samples
from silk_fast.errors import SilkInputError

LARGEST_RATIO = 1000  # of two rates; beyond it a short file would become hours


def resampled_length(n_samples: int, source_rate: int, target_rate: int) -> int:
    """Count the samples after resampling: ``n_samples * target_rate / source_rate``, halves up, >= 1 of 1 or more.

    Raises:
        SilkInputError: ``n_samples`` is not an integer >= 0, or a rate none from 1 to 1 000 000 Hz.
    """
    n_samples = whole_number("n_samples", n_samples, 0)
    source, target = sample_rate("source_rate", source_rate), sample_rate("target_rate", target_rate)
    return max(min(n_samples, 1), (2 * n_samples * target + source) // (2 * source))


def check_ratio(source_rate: int, target_rate: int) -> None:
    """Raise SilkInputError unless samples of one rate can be resampled to the other."""
    rates = sample_rate("source_rate", source_rate), sample_rate("target_rate", target_rate)
    if max(rates) > LARGEST_RATIO * min(rates):
        raise SilkInputError(
            f"cannot resample {rates[0]} Hz to {rates[1]} Hz, expected rates of which one is at most "
            f"{LARGEST_RATIO} times the other"
        )


def resample_blocks(
    blocks: Iterable[np.ndarray], source_rate: int, target_rate: int, channels: int = 1
) -> Iterator[np.ndarray]:
    """Resample a signal that comes in blocks, as if it were one.

    Args:
        blocks: ``[n]`` each, any n, or ``[n, channels]`` of more than one, of what :class:`AudioWriter` takes.
        source_rate, target_rate: Hz.
        channels: of the signal.

    Yields:
        float32 ``[m]`` or ``[m, channels]``, any m; together :func:`resampled_length` samples, the same for every
        division into blocks.

    Raises:
        SilkInputError: a rate is not an integer from 1 to 1 000 000 Hz, one is more than 1000 times the other,
            ``channels`` none from 1 to 1024, or a block has another shape or dtype.
    """
    check_ratio(source_rate, target_rate)
    channels = whole_number("channels", channels, 1, MOST_CHANNELS)
    blocks = (as_samples(block, channels).astype(np.float32, copy=False) for block in blocks)
    if source_rate == target_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="HQ")
    n_in = n_out = 0
    for block in blocks:
        out = stream.resample_chunk(block)
        n_in, n_out = n_in + len(block), n_out + len(out)
        yield out
    n_left = resampled_length(n_in, source_rate, target_rate) - n_out
    nothing = np.zeros(0 if channels == 1 else (0, channels), np.float32)
    tail = stream.resample_chunk(nothing, last=True)[:n_left]
    yield np.pad(tail, [(0, n_left - len(tail)), (0, 0)][: tail.ndim])
