"""Scores of signals whose score is known, and means over clips."""

import math
import sys

import numpy as np
import pytest
import torch

from silk_fast import SilkInputError
from silk_fast.audio import load
from silk_fast.evaluation import scores
from silk_fast.evaluation.scores import difference_of, gap_of, mean_of, score
from silk_fast.metrics import log_mel_distance
from tests.support import VOICES

SPEECH = load(VOICES)[:96_000]
NO_PESQ = "no pesq, which needs a C compiler: apt-get install gcc, pip install cython pesq"
NOISE = np.random.default_rng(0).standard_normal(len(SPEECH)).astype(np.float32)


def noisy(level: float) -> np.ndarray:
    return SPEECH + level * NOISE


@pytest.fixture(scope="module")
def of_noise() -> list[dict[str, float]]:
    return [score(SPEECH, noisy(level)) for level in (0.003, 0.03, 0.3)]


def test_a_clip_against_itself_has_the_best_scores():
    same = score(SPEECH, SPEECH)
    assert same["estoi"] == pytest.approx(1, abs=1e-6)
    assert same["log_mel_db"] == same["log_mel_4khz_db"] == same["level_db"] == 0
    assert same["si_sdr_db"] > 100
    pytest.importorskip("pesq", reason=NO_PESQ)
    assert same["pesq_wb"] == pytest.approx(4.644, abs=1e-3)


def test_a_gain_changes_level_and_mel_distance_but_neither_estoi_nor_si_sdr():
    half = score(SPEECH, SPEECH / 2)
    assert half["level_db"] == pytest.approx(-6.02, abs=0.01)
    assert 0 < half["log_mel_db"] <= 6.03  # less in bands below the floor
    assert half["estoi"] == pytest.approx(1, abs=1e-4)
    assert half["si_sdr_db"] > 100


@pytest.mark.parametrize(
    ("key", "sign"), [(m.key, m.sign) for m in scores.METRICS if m.sign and m.key != "f0_correlation"]
)
def test_more_noise_is_worse_by_every_metric_but_that_of_pitch(of_noise, key, sign):
    if key == "pesq_wb":
        pytest.importorskip("pesq", reason=NO_PESQ)
    values = [row[key] for row in of_noise]
    assert values == sorted(values, reverse=sign > 0)
    assert len(set(values)) == 3


def test_mel_distances_are_those_of_the_metrics_module_and_of_its_lower_bands():
    row = score(SPEECH, noisy(0.03))
    whole = log_mel_distance(torch.from_numpy(SPEECH), torch.from_numpy(noisy(0.03)), 24_000)
    assert row["log_mel_db"] == pytest.approx(whole, abs=1e-4)
    bands = scores.narrow_bands()
    filters = scores.metrics.mel_filterbank(80, 1024, 24_000)
    highest = filters[bands].sum(0).nonzero().max() * 24_000 / 1024
    assert 3700 < highest < 4000
    assert not bands[int(bands.sum()) :].any()


def test_noise_above_4_khz_spares_the_narrow_distance():
    spectrum = np.fft.rfft(NOISE)
    spectrum[: len(spectrum) * 5 // 12] = 0  # below 5 kHz
    row = score(SPEECH, SPEECH + 0.01 * np.fft.irfft(spectrum).astype(np.float32))
    assert row["log_mel_db"] > 5
    assert row["log_mel_4khz_db"] < 0.1


def test_a_whisper_has_no_voice_and_another_melody_no_correlation():
    time = np.arange(72_000) / 24_000
    random = np.random.default_rng(0)

    def vowel(f0: np.ndarray) -> np.ndarray:
        phase = 2 * np.pi * np.cumsum(f0) / 24_000
        return sum(np.sin(k * phase) / k for k in range(1, 20)).astype(np.float32) / 10

    melody, other = (120 * 2 ** (np.sin(2 * np.pi * rate * time) / 3) for rate in (1.0, 1.7))
    whisper = 0.1 * random.standard_normal(len(time)).astype(np.float32)
    kept = {name: scores.voicing(vowel(melody), decoded) for name, decoded in (
        ("itself", vowel(melody)), ("lower", vowel(melody / 1.3)), ("other", vowel(other)), ("whisper", whisper)
    )}  # fmt: skip
    assert kept["itself"]["f0_correlation"] == pytest.approx(1)
    assert kept["lower"]["f0_correlation"] > 0.99
    assert abs(kept["other"]["f0_correlation"]) < 0.5
    assert all(kept[name]["voiced_kept"] > 0.97 for name in ("itself", "lower", "other"))
    assert kept["whisper"]["voiced_kept"] < 0.1
    assert math.isnan(kept["whisper"]["f0_correlation"])
    assert math.isnan(scores.voicing(whisper, whisper)["f0_correlation"])


def test_what_cannot_be_scored_is_nan():
    short = SPEECH[24_000:24_480]
    row = score(short, short)
    assert math.isnan(row["estoi"])
    assert math.isnan(row["pesq_wb"])
    assert row["log_mel_db"] == 0


def test_a_missing_package_makes_its_metric_nan(monkeypatch):
    from silk_fast.evaluation.evaluate import missing_packages

    pytest.importorskip("pesq", reason=NO_PESQ)
    assert missing_packages() == {}
    monkeypatch.setitem(sys.modules, "pystoi", None)
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    row = score(SPEECH[:24_000], SPEECH[:24_000])
    assert math.isnan(row["estoi"])
    assert math.isnan(row["pesq_wb"])
    assert math.isnan(row["voiced_kept"])
    assert math.isnan(row["f0_correlation"])
    titles = {"pystoi": "ESTOI", "pesq": "PESQ-wb", "praat-parselmouth": "voiced kept and F0 correlation"}
    assert missing_packages() == titles


def test_different_lengths_are_refused():
    with pytest.raises(SilkInputError, match=r"must have one length, got \(5,\) and \(6,\)"):
        score(SPEECH[:5], SPEECH[:6])


# ---------------------------------------------------------------- over clips


def test_mean_and_interval_of_a_known_sample():
    values = np.random.default_rng(1).normal(3, 1, 400)
    mean = mean_of([*values, math.nan])
    assert mean.value == pytest.approx(values.mean())
    assert mean.n == 400
    width = 1.96 * values.std() / 20
    assert mean.high - mean.value == pytest.approx(width, rel=0.1)
    assert mean.value - mean.low == pytest.approx(width, rel=0.1)
    assert mean_of(values) == mean_of(values)


def test_one_clip_has_a_mean_without_interval_and_none_has_neither():
    one, none = mean_of([2.0]), mean_of([math.nan])
    assert (one.value, one.n, none.n) == (2.0, 1, 0)
    assert math.isnan(one.low)
    assert math.isnan(none.value)
    assert mean_of([math.inf, 1.0]).value == math.inf


def test_paired_differences_are_clip_by_clip():
    first, second = [1.0, 11.0, 21.0, math.nan], [0.0, 10.0, 20.0, 5.0]
    assert (difference_of(first, second).low, difference_of(first, second).high) == (1.0, 1.0)
    gap = gap_of(first, second)
    assert gap.value == pytest.approx(11 - 8.75)
    assert gap.low < 0 < gap.high
    assert math.isnan(gap_of([1.0], second).value)
