"""Room, noise and level that are laid over speech."""

import numpy as np
import pytest

from silk_fast.corpus.room import augment, coloured_noise, convolve, room_response


def test_room_response_has_the_stated_energies():
    for rt60, direct_db in ((0.1, 0.0), (0.3, 7.5), (0.6, 15.0)):
        response = room_response(np.random.default_rng(0), rt60, direct_db)
        assert response[0] == 1
        assert not response[1:96].any()
        assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(direct_db)


def test_room_tail_decays_by_60_db_in_rt60():
    squares = np.zeros(12_000)
    for seed in range(50):
        squares += room_response(np.random.default_rng(seed), 0.5, 3.0) ** 2
    early, late = squares[2_400:3_600].mean(), squares[9_600:10_800].mean()  # 0.3 s apart, no early reflections
    assert 10 * np.log10(early / late) == pytest.approx(36, abs=1.5)


def test_convolution_equals_the_sum():
    random = np.random.default_rng(0)
    x, h = random.standard_normal(5000), random.standard_normal(700)
    assert np.allclose(convolve(x, h, 5200), np.convolve(x, h)[:5200])
    x = random.standard_normal(4096 * 2 - 700)
    assert np.allclose(convolve(x, h, len(x)), np.convolve(x, h)[: len(x)])


def test_noise_has_the_stated_slope():
    noise = coloured_noise(np.random.default_rng(0), 240_000, 1.0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    at = [power[int(hertz * 10) : int(hertz * 20)].mean() for hertz in (200, 400, 800, 1600, 3200)]
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1)
    assert 10 * np.log10(at[0] / at[4]) == pytest.approx(12.04, abs=1)


def test_augmentation_keeps_the_stated_level_and_the_peak_below_one():
    speech = np.random.default_rng(0).standard_normal(96_000).astype(np.float32) * 0.1
    rooms = noises = 0
    for seed in range(200):
        samples, done = augment(speech, np.random.default_rng(seed))
        assert np.abs(samples).max() < 1
        assert 10 * np.log10(np.mean(samples**2)) == pytest.approx(done["level_db"], abs=0.01)
        assert -35.1 < done["level_db"] < -11.9
        rooms, noises = rooms + (done["room"] is not None), noises + (done["noise"] is not None)
    assert 60 <= rooms <= 100  # 40 % of 200, three standard deviations
    assert 40 <= noises <= 80
