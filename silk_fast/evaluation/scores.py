"""How near a decoded clip is to its original, and what a mean over clips is worth."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from silk_fast import metrics
from silk_fast.audio import resample_blocks
from silk_fast.errors import SilkInputError
from silk_fast.evaluation.clips import RATE

SCORE_RATE = 16_000
NARROW_BAND = 4000.0
N_RESAMPLES = 2000

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Metric:
    """A column of the tables.

    Args:
        key: in rows.
        title: in tables.
        digits: after the point.
        sign: 1 where more is better, -1 where less is, 0 where neither.
        package: on PyPI, needed to compute it; empty for none.
        module: of the package, if it has another name.
    """

    key: str
    title: str
    digits: int
    sign: int
    package: str = ""
    module: str = ""


METRICS = (
    Metric("estoi", "ESTOI", 3, 1, "pystoi"),
    Metric("pesq_wb", "PESQ-wb", 2, 1, "pesq"),
    Metric("log_mel_db", "log-mel dB", 2, -1),
    Metric("log_mel_4khz_db", "log-mel < 4 kHz dB", 2, -1),
    Metric("si_sdr_db", "SI-SDR dB", 1, 1),
    Metric("level_db", "level dB", 1, 0),
    Metric("voiced_kept", "voiced kept", 2, 1, "praat-parselmouth", "parselmouth"),
    Metric("f0_correlation", "F0 correlation", 2, 1, "praat-parselmouth", "parselmouth"),
)
PITCH_SECONDS, PITCH_RANGE = 0.01, (60.0, 400.0)  # of a frame; Hz
FEW_VOICED = 20  # frames: of fewer no correlation is known


def resample(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Bring a whole signal, float32 ``[T]``, to another rate."""
    return np.concatenate(list(resample_blocks([samples], source_rate, target_rate)))


def score(original: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    """Compute every metric of a decoded clip; NaN where it cannot be computed.

    Args:
        original, decoded: float32 ``[T]`` at 24 kHz, aligned.

    Raises:
        SilkInputError: the signals have different lengths.
    """
    if original.shape != decoded.shape:
        raise SilkInputError(f"signals must have one length, got {original.shape} and {decoded.shape}")
    first, second = torch.from_numpy(original), torch.from_numpy(decoded)
    wide = [resample(samples, RATE, SCORE_RATE) for samples in (original, decoded)]
    log_mels = metrics.log_mel_spectrogram(first, RATE), metrics.log_mel_spectrogram(second, RATE)
    return {
        "estoi": estoi(*wide),
        "pesq_wb": pesq_wb(*wide),
        **mel_distances(*log_mels),
        "si_sdr_db": metrics.si_sdr(first, second),
        "level_db": metrics.level(second) - metrics.level(first),
        **voicing(original, decoded),
    }


def estoi(original: np.ndarray, decoded: np.ndarray) -> float:
    """Compute the extended short-time objective intelligibility (Jensen and Taal, 2016) by ``pystoi``, at 16 kHz.

    NaN without the package, and for less than about 0.4 s of speech.
    """
    try:
        from pystoi import stoi
    except ImportError:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # how pystoi says that it has too few frames
        try:
            return float(stoi(original, decoded, SCORE_RATE, extended=True))
        except (RuntimeWarning, ValueError):
            return math.nan


def pesq_wb(original: np.ndarray, decoded: np.ndarray) -> float:
    """Compute wide-band PESQ (ITU-T P.862.2) by ``pesq``, at 16 kHz; NaN without the package or without speech."""
    try:
        from pesq import PesqError, pesq
    except ImportError:
        return math.nan
    try:
        return float(pesq(SCORE_RATE, original, decoded, "wb"))
    except (PesqError, ValueError):
        return math.nan


def voicing(original: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    """Compare the voice: the share of voiced frames that are decoded as voiced, and the correlation of log F0.

    By Praat's autocorrelation (Boersma, 1993), every 10 ms; the correlation is over frames that are voiced in both. NaN
    without the package, and for too few such frames.
    """
    try:
        from parselmouth import Sound
    except ImportError:
        return {"voiced_kept": math.nan, "f0_correlation": math.nan}
    if len(original) < 4 * RATE / PITCH_RANGE[0]:  # Praat wants more periods than that
        return {"voiced_kept": math.nan, "f0_correlation": math.nan}
    sounds = (Sound(samples.astype(np.float64), RATE) for samples in (original, decoded))
    first, second = (s.to_pitch(PITCH_SECONDS, *PITCH_RANGE).selected_array["frequency"] for s in sounds)
    voiced, both = first > 0, (first > 0) & (second > 0)
    kept = float(both.sum() / voiced.sum()) if voiced.any() else math.nan
    pair = np.log(first[both]), np.log(second[both])
    is_known = both.sum() >= FEW_VOICED and all(values.std() > 0 for values in pair)
    return {"voiced_kept": kept, "f0_correlation": float(np.corrcoef(*pair)[0, 1]) if is_known else math.nan}


def mel_distances(first: Tensor, second: Tensor) -> dict[str, float]:
    """Average the difference of log-mel spectrograms ``[80, frames]`` in dB, of all bands and of those below 4 kHz.

    ``second`` may have one frame, which then stands for all.
    """
    difference = (first - second).abs().mean(1)
    return {"log_mel_db": difference.mean().item(), "log_mel_4khz_db": difference[narrow_bands()].mean().item()}


def narrow_bands() -> Tensor:
    """Select the mel bands that end below 4 kHz, bool ``[80]``."""
    filters = metrics.mel_filterbank(80, metrics.N_FFT, RATE)
    frequencies = torch.linspace(0, RATE / 2, filters.shape[1])
    return (filters * frequencies.ge(NARROW_BAND)).sum(1) == 0


# ---------------------------------------------------------------- over clips


@dataclass(frozen=True)
class Mean:
    """A mean over clips with its bootstrap 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float
    n: int


def mean_of(values: Values) -> Mean:
    """Average the values that are not NaN; clips are resampled 2000 times, always with the same seed."""
    kept = np.asarray([value for value in values if not math.isnan(value)], np.float64)
    if not len(kept):
        return Mean(math.nan, math.nan, math.nan, 0)
    if len(kept) < 2 or not np.isfinite(kept).all():
        return Mean(float(kept.mean()), math.nan, math.nan, len(kept))
    drawn = np.random.default_rng(0).integers(0, len(kept), (N_RESAMPLES, len(kept)))
    low, high = np.quantile(kept[drawn].mean(1), (0.025, 0.975))
    return Mean(float(kept.mean()), float(low), float(high), len(kept))


def difference_of(first: Values, second: Values) -> Mean:
    """Average ``first - second`` over clips, of the clips where both are known: a paired comparison."""
    return mean_of([a - b for a, b in zip(first, second, strict=True)])


def gap_of(first: Values, second: Values) -> Mean:
    """Subtract the mean of ``second`` from that of ``first``, both resampled; ``n`` is the smaller count."""
    kept = [np.asarray([value for value in values if math.isfinite(value)], np.float64) for values in (first, second)]
    n = min(map(len, kept))
    if n < 2:
        return Mean(math.nan, math.nan, math.nan, n)
    generator = np.random.default_rng(0)
    drawn = [values[generator.integers(0, len(values), (N_RESAMPLES, len(values)))].mean(1) for values in kept]
    low, high = np.quantile(drawn[0] - drawn[1], (0.025, 0.975))
    return Mean(float(kept[0].mean() - kept[1].mean()), float(low), float(high), n)
