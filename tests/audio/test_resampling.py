"""Resampling, and blocks that change nothing."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from silk_fast.audio import AudioReader, load, resample_blocks, resampled_length, save
from silk_fast.errors import SilkAudioError, SilkError, SilkInputError
from tests.audio.support import RATE, noise, read_in_blocks, sine, snr_db, wav_bytes


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


@pytest.mark.parametrize("rate", [10**30, 2**40, 10**6 + 1, 23, 0, -1, 1.5, float("nan"), None, "x", True])
def test_rates_that_no_signal_has_are_refused(tmp_path, rate):
    save(tmp_path / "a.wav", noise(100))
    for call in (
        lambda: load(tmp_path / "a.wav", rate),
        lambda: list(resample_blocks([noise(100)], RATE, rate)),
        lambda: list(resample_blocks([noise(100)], rate, RATE)),
        *([] if rate == 23 else [lambda: resampled_length(5, rate, RATE), lambda: resampled_length(5, RATE, rate)]),
    ):
        with pytest.raises(SilkError, match=r"rate must be an integer in 1 \.\. 1000000|cannot resample"):
            call()


@pytest.mark.parametrize("rate", [1, 23, 10**6 + 1, 2**31 - 1])
def test_rates_that_no_file_has_are_refused(tmp_path, rate):
    (tmp_path / "a.wav").write_bytes(wav_bytes(rate=rate))
    with pytest.raises(SilkAudioError, match=r"a\.wav: (cannot resample|source_rate must be|not audio)"):
        load(tmp_path / "a.wav")


@pytest.mark.parametrize("n_samples", [-1, 1.5, float("nan"), None, "x", True])
def test_lengths_that_are_none_are_refused(n_samples):
    with pytest.raises(SilkInputError, match="n_samples must be an integer >= 0"):
        resampled_length(n_samples, 8000, 24_000)


@pytest.mark.parametrize("block", [noise(4)[None], "x", None, [1j], torch.ones(3, requires_grad=True)], ids=str)
@pytest.mark.parametrize("rate", [RATE, 8000])
def test_blocks_that_are_none_are_refused(block, rate):
    with pytest.raises(SilkInputError, match="samples must be"):
        list(resample_blocks([block], rate, RATE))


def test_a_block_of_a_high_rate_takes_little_memory(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes(2000), 0xFFFFFFFF))
    with AudioReader(tmp_path / "a.wav", 24, block_samples=10**30) as reader:
        assert [len(block) for block in reader] == [1]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_small_blocks_decode_to_the_same_samples(tmp_path, suffix):
    save(tmp_path / f"a{suffix}", sine(100_000) + noise(100_000))
    blocks = read_in_blocks(tmp_path / f"a{suffix}", 999)
    assert np.abs(np.concatenate(blocks) - load(tmp_path / f"a{suffix}")).max() <= 1e-6
