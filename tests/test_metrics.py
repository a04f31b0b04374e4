"""Distances between recordings, against values known in closed form."""

import math

import numpy as np
import pytest
import torch

from silk_fast import SilkInputError, metrics
from silk_fast.plot import draw_comparison

RATE = 24_000
NOISE = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * 0.1


def tone(frequency: float, amplitude: float = 1.0) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * frequency * torch.arange(RATE) / RATE)


def test_log_spectral_distance_of_a_gain_is_the_gain():
    assert metrics.log_spectral_distance(NOISE, NOISE) == 0
    assert metrics.log_spectral_distance(NOISE, NOISE * 10) == pytest.approx(20, abs=1e-3)


def test_log_mel_distance_of_a_gain_is_the_gain():
    assert metrics.log_mel_distance(NOISE, NOISE * 10, RATE) == pytest.approx(20, abs=1e-3)


def test_si_sdr_ignores_gain_and_measures_noise():
    orthogonal = tone(1000) * 0.1
    assert metrics.si_sdr(tone(500), 3 * tone(500)) > 100
    assert metrics.si_sdr(tone(500), tone(500) + orthogonal) == pytest.approx(20, abs=0.01)
    assert metrics.si_sdr(tone(500), torch.zeros(RATE)) == -math.inf


def test_level_of_a_full_scale_sine_and_of_silence():
    assert metrics.level(tone(1000)) == pytest.approx(-3.01, abs=0.01)
    assert metrics.level(torch.zeros(10)) == -math.inf


@pytest.mark.parametrize("frequency", [200, 1000, 6000])
def test_a_tone_lights_the_mel_band_that_holds_it(frequency):
    mel = metrics.log_mel_spectrogram(tone(frequency, 0.5), RATE)
    filters = metrics.mel_filterbank(80, metrics.N_FFT, RATE)
    expected = filters[:, round(frequency * metrics.N_FFT / RATE)].argmax()
    assert abs(mel.mean(1).argmax() - expected) <= 1
    torch.testing.assert_close(filters.sum(0)[2:480], torch.ones(478))  # neighbours share every bin


def test_signals_shorter_than_a_window_are_measured():
    assert metrics.log_spectral_distance(NOISE[:5], NOISE[:5]) == 0


def test_different_lengths_are_refused():
    with pytest.raises(SilkInputError, match=r"must have one length, got \(5,\) and \(6,\)"):
        metrics.si_sdr(NOISE[:5], NOISE[:6])


def test_picture_shows_every_signal_and_the_tokens(tmp_path):
    signals = {"long": NOISE.numpy(), "short": NOISE[:100].numpy(), "silent": np.zeros(10, np.float32)}
    draw_comparison(tmp_path / "a.png", signals, RATE, "title", np.zeros((3, 128), int))
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (1200, 1540)
