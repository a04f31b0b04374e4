"""Resampling, and blocks that change nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silk_fast.audio import load, resample_blocks, resampled_length, save
from tests.audio.support import RATE, noise, read_in_blocks, sine, snr_db


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_resampled_sine_keeps_pitch_phase_and_level(tmp_path, rate):
    save(tmp_path / "a.wav", sine(rate * 2, rate), rate, "FLOAT")
    samples = load(tmp_path / "a.wav")
    assert samples.shape == (RATE * 2,)
    inner = slice(RATE // 4, -RATE // 4)  # the ends ring where the sine is cut off
    assert snr_db(samples[inner], sine(RATE * 2)[inner]) > 80


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("n", [1, 7, 479, 9601])
def test_length_is_as_documented_and_blocks_change_nothing(tmp_path, rate, n):
    save(tmp_path / "a.wav", noise(n), rate)
    whole = load(tmp_path / "a.wav")
    length = max(1, int(n * RATE / rate + 0.5))
    assert whole.dtype == np.float32
    assert whole.shape == (length,)
    for size in (1, 100, 4801, 10**6) if n < 9601 else (960, 4801):
        blocks = read_in_blocks(tmp_path / "a.wav", size)
        assert [len(b) for b in blocks] == [size] * (length // size) + [length % size] * (length % size > 0)
        assert np.abs(np.concatenate(blocks) - whole).max() <= 1e-6


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=5), st.integers(4000, 100_000), st.integers(4000, 100_000))
def test_any_division_into_blocks_resamples_alike(sizes, source_rate, target_rate):
    signal, starts = noise(sum(sizes)), np.cumsum([0, *sizes])
    blocks = [signal[a:b] for a, b in itertools.pairwise(starts)]
    parts = np.concatenate([*resample_blocks(blocks, source_rate, target_rate), signal[:0]])
    whole = np.concatenate([*resample_blocks([signal], source_rate, target_rate)])
    assert len(parts) == len(whole) == resampled_length(len(signal), source_rate, target_rate)
    assert np.abs(parts - whole).max(initial=0) <= 1e-6


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_small_blocks_decode_to_the_same_samples(tmp_path, suffix):
    save(tmp_path / f"a{suffix}", sine(100_000) + noise(100_000))
    blocks = read_in_blocks(tmp_path / f"a{suffix}", 999)
    assert np.abs(np.concatenate(blocks) - load(tmp_path / f"a{suffix}")).max() <= 1e-6
