"""Latent measures on vectors with a known answer, and sentences that follow from them."""

import numpy as np
import pytest
import torch

from silk_fast import SilkCodec, SilkInputError
from silk_fast.audio import load
from silk_fast.evaluation import latent
from silk_fast.evaluation.latent import GAINS_DB, STAGES, PitchStudy, Purity, TimbreStudy, VolumeStudy
from silk_fast.evaluation.latent_report import language_sentence, pitch_sentence, timbre_sentence, volume_sentence
from silk_fast.evaluation.scores import Mean
from tests.programs import needs
from tests.support import TINY, VOICES

GENERATOR = np.random.default_rng(0)
NAN = float("nan")


def test_correlation_of_magnitudes_that_follow_the_gain_is_one_and_of_noise_near_zero():
    gains = np.asarray(GAINS_DB, float)
    rows = np.stack([3 + 0.1 * gains, 5 - 0.2 * gains, np.full(len(gains), 7 * (1 + 1e-7))])
    rows[2, 0] *= 1 + 1e-6
    np.testing.assert_allclose(latent.correlations(gains, rows), [1, -1, 0], atol=1e-12)
    noise = latent.correlations(gains, GENERATOR.standard_normal((2000, len(gains))))
    assert abs(noise.mean()) < 0.05
    assert noise.std() > 0.3  # six points correlate by chance


def test_angles_of_known_vectors():
    first = np.asarray([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 0]])
    second = np.asarray([[2.0, 0], [0, 3], [-1, 0], [1, 1], [1, 0]])
    np.testing.assert_allclose(latent.angles(first, second), [0, 90, 180, 45, 90], atol=1e-6)


def test_a_shared_direction_is_found_and_random_ones_are_chance():
    shared = np.eye(128)[0] + 0.02 * GENERATOR.standard_normal((16, 128))
    assert latent.mean_pairwise_cosine(shared) > 0.9 > latent.direction_by_chance(shared)
    random = GENERATOR.standard_normal((16, 128))
    assert abs(latent.mean_pairwise_cosine(random)) < 0.02
    assert 0 < latent.direction_by_chance(random) < 0.05


def test_clusters_are_pure_and_random_vectors_are_not():
    voices, texts = np.repeat(np.arange(8), 8), np.tile(np.arange(8), 8)
    centres = GENERATOR.standard_normal((8, 64))
    vectors = centres[voices] + 0.1 * GENERATOR.standard_normal((64, 64))
    by_voice = latent.neighbour_purity(vectors, voices, texts)
    assert by_voice.value == 1
    assert by_voice.chance == pytest.approx(7 / 56)
    assert by_voice.limit < 0.25
    by_text = latent.neighbour_purity(vectors, texts, voices)
    assert abs(by_text.value - 0.125) < 0.1
    random = latent.neighbour_purity(GENERATOR.standard_normal((64, 64)), voices, texts)
    assert random.value < 2 * random.limit
    assert abs(random.value - 0.125) < 0.1


def test_texts_do_not_pass_for_voices():
    voices, texts = np.repeat(np.arange(8), 8), np.tile(np.arange(8), 8)
    vectors = GENERATOR.standard_normal((8, 64))[texts] + 0.1 * GENERATOR.standard_normal((64, 64))
    assert latent.neighbour_purity(vectors, voices, texts).value < 0.3
    assert latent.neighbour_purity(vectors, texts, voices).value == 1


def test_two_dimensions_keep_what_varies_most():
    points = GENERATOR.standard_normal((50, 2)) * (10, 3)
    plane = latent.two_dimensions(points @ np.linalg.qr(GENERATOR.standard_normal((20, 20)))[0][:2])
    np.testing.assert_allclose(np.linalg.norm(plane - plane[0], axis=1), np.linalg.norm(points - points[0], axis=1))


def test_latent_frames_are_those_of_speech_and_of_the_codec():
    codec, speech = SilkCodec(TINY, weight_norm=False, seed=0).eval(), load(VOICES)[:48_000]
    frames = latent.latent_frames(codec, np.concatenate([speech, np.zeros(24_000, np.float32)]))
    with torch.no_grad():
        whole = codec.latents(torch.from_numpy(speech)[None, None])
        standardised = codec.quantizer.norm(whole)
    assert list(frames) == list(STAGES)
    assert {rows.shape for rows in frames.values()} == {(5, 128)}
    np.testing.assert_allclose(frames[STAGES[1]], whole[0], atol=1e-4)
    np.testing.assert_allclose(frames[STAGES[2]], standardised[0], atol=1e-3)
    np.testing.assert_allclose(latent.mean_latent(codec, speech), standardised[0].mean(0), atol=1e-3)
    assert latent.latent_frames(codec, speech[:100])[STAGES[0]].shape == (1, 128)


@needs("espeak-ng")
def test_espeak_speaks_higher_with_a_higher_pitch(monkeypatch):
    low, high = (latent.speak("Nobody had expected rain.", latent.PITCH_VOICES[0], pitch) for pitch in (20, 80))
    assert 1.3 * median_pitch(low) < median_pitch(high)
    for samples in (low, high):
        assert 20 * np.log10(np.sqrt(np.mean(np.square(samples)))) == pytest.approx(-18, abs=0.01)
    with pytest.raises(SilkInputError, match="espeak-ng does not speak with voice 'zz-nowhere'"):
        latent.speak("Hello.", "zz-nowhere")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SilkInputError, match="install Debian's espeak-ng"):
        latent.speak("Hello.", "en-us")


def median_pitch(samples: np.ndarray) -> float:
    """Hz, by the autocorrelation of 40 ms frames that are loud and periodic."""
    frames = samples[: len(samples) // 960 * 960].reshape(-1, 960)
    lags = np.arange(60, 400)
    pitches = []
    for frame in frames:
        correlation = np.correlate(frame, frame, "full")[959:]
        if correlation[0] > 3 and correlation[lags].max() > 0.4 * correlation[0]:
            pitches.append(24_000 / lags[correlation[lags].argmax()])
    return float(np.median(pitches))


# ---------------------------------------------------------------- sentences


def volume(rows: np.ndarray, turned: float) -> VolumeStudy:
    return VolumeStudy(dict.fromkeys(STAGES, rows), np.full((4, len(GAINS_DB)), turned), 80.0)


def test_volume_sentences_follow_the_numbers():
    gains = np.asarray(GAINS_DB, float)
    grows = volume(np.tile(10 ** (gains / 20), (4, 1)), 10.0)
    assert "magnitude rises closely with the gain" in volume_sentence(grows).replace("loosely", "closely")
    assert "3062.3 %" in volume_sentence(grows)
    assert "leaves the direction nearly alone" in volume_sentence(grows)
    still = volume(np.full((4, len(gains)), 11.3), 79.0)
    assert volume_sentence(still).startswith("Volume is not magnitude before standardisation: the correlation is 0.00")
    assert "as much as other words do" in volume_sentence(still)
    falls = volume(np.tile(11 - 0.01 * gains, (4, 1)), 40.0)
    assert "falls closely with the gain (-1.00), but the magnitude changes by 2.7 %" in volume_sentence(falls)
    assert "partly in the direction" in volume_sentence(falls)


@pytest.mark.parametrize(
    ("direction", "turned", "expected"),
    [
        (0.6, 20.0, ("less than another text", "a direction of its own")),
        (0.0, 70.0, ("about as much as another text", "no direction of pitch is shared")),
        (0.0, 90.0, ("more than another text", "no direction")),
    ],
)
def test_pitch_sentences_follow_the_numbers(direction, turned, expected):
    sentence = pitch_sentence(PitchStudy(np.full((16, 5), turned), np.full(56, 70.0), direction, 0.05))
    assert all(words in sentence for words in expected), sentence


@pytest.mark.parametrize(
    ("value", "expected"), [(0.1, "no neighbourhoods"), (0.2, "barely"), (0.5, "partly"), (0.9, "clearly")]
)
def test_timbre_sentences_follow_the_numbers(value, expected):
    study = TimbreStudy([], np.zeros((0, 2)), Purity(value, 0.125, 0.15), Purity(0.6, 0.125, 0.15))
    assert expected in timbre_sentence(study)
    if value > 0.15:
        assert f"by voice {'more' if value > 0.6 else 'less'} than by text (60 %)" in timbre_sentence(study)


def test_language_sentences_follow_the_numbers():
    worse, own = Mean(-0.05, -0.08, -0.02, 20), Mean(0.01, -0.01, 0.03, 20)
    sentence = language_sentence(worse, own)
    assert "0.050 lower on held-out languages, more than chance" in sentence
    assert "it is 0.010 [-0.010, 0.030], no more than chance" in sentence
    assert "No other codec" in language_sentence(worse, Mean(NAN, NAN, NAN, 0))
    assert "nothing can be said" in language_sentence(Mean(NAN, NAN, NAN, 0), own)
