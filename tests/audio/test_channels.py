"""More channels than one: each is what it would be alone."""

import numpy as np
import pytest
import soundfile

from silk_fast import SilkAudioError, SilkInputError
from silk_fast.audio import FORMATS, AudioReader, AudioWriter, resample_blocks
from silk_fast.audio.reader import mixed_down


def noise(n: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def read(path, rate: int, channels: int, block_samples: int = 1000, said=None) -> np.ndarray:
    with AudioReader(path, rate, block_samples, said, channels) as reader:
        blocks = list(reader)
    assert all(len(block) == block_samples for block in blocks[:-1])
    return np.concatenate(blocks)


@pytest.mark.parametrize("rate", [8_000, 11_025, 24_000])
def test_each_channel_is_read_as_it_would_be_alone(rate, tmp_path):
    samples = noise(9_001, 2)
    soundfile.write(tmp_path / "both.wav", samples, 8_000, "FLOAT")
    both = read(tmp_path / "both.wav", rate, 2)
    for channel in range(2):
        soundfile.write(tmp_path / "one.wav", samples[:, channel], 8_000, "FLOAT")
        np.testing.assert_allclose(both[:, channel], read(tmp_path / "one.wav", rate, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n_channels", "n_notices"), [(1, 0), (2, 0), (3, 1)])
def test_other_channels_are_mixed_down_and_given_to_all(n_channels, n_notices, tmp_path):
    samples, said = noise(500, n_channels), []
    soundfile.write(tmp_path / "a.wav", samples, 8_000, "FLOAT")
    found = read(tmp_path / "a.wav", 8_000, 2, said=said.append)
    expected = samples if n_channels == 2 else np.repeat(samples.mean(1, keepdims=True), 2, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert len(said) == n_notices


@pytest.mark.parametrize("n_channels", range(1, 10))
def test_a_mix_has_the_bits_of_numpys_mean(n_channels):
    samples = noise(10_007, n_channels) * np.geomspace(1e-6, 1, n_channels, dtype=np.float32)
    samples[::7] = -0.0
    samples[1::7] *= 1e30
    for frames in (samples, samples[:1], samples[:9]):
        ours, expected = mixed_down(frames), frames.mean(axis=1, dtype=np.float32)
        assert ours.dtype == np.float32
        assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_has_its_channels(suffix, tmp_path):
    samples = 0.5 * np.sin(np.arange(48_000)[:, None] * [0.05, 0.09])
    path = tmp_path / f"a{suffix}"
    with AudioWriter(path, 48_000, channels=2) as writer:
        for block in np.array_split(samples, 7):
            writer.write(block)
    assert writer.n_samples == 48_000
    found, rate = soundfile.read(path)
    assert rate == 48_000
    assert found.shape[1] == 2
    for channel in range(2):
        spectrum = np.abs(np.fft.rfft(found[1000:41_000, channel]))
        assert abs(spectrum.argmax() * 2 * np.pi / 40_000 - [0.05, 0.09][channel]) < 1e-3


def test_samples_beyond_full_scale_are_counted_in_all_channels(tmp_path):
    with AudioWriter(tmp_path / "a.wav", channels=2) as writer:
        writer.write(np.array([[0.0, 2.0], [-3.0, 1.5]]))
    assert (writer.n_samples, writer.n_clipped) == (2, 3)
    with (
        pytest.raises(SilkAudioError, match=r"sample 1 .* is nan"),
        AudioWriter(tmp_path / "b.wav", channels=2) as writer,
    ):
        writer.write(np.array([[0.0, 0.0], [0.0, np.nan]]))


def test_other_shapes_are_refused_by_name(tmp_path):
    for samples in (np.zeros(4), np.zeros((4, 3)), np.float32(1)):
        with (
            pytest.raises(SilkInputError, match=r"samples must be \[n, 2\], got \["),
            AudioWriter(tmp_path / "a.wav", channels=2) as writer,
        ):
            writer.write(samples)
        with pytest.raises(SilkInputError, match=r"samples must be \[n, 2\], got \["):
            list(resample_blocks([samples], 8_000, 24_000, 2))
    for channels in (0, 1025, "two"):
        with pytest.raises(SilkInputError, match=r"channels must be an integer in 1 .. 1024"):
            AudioWriter(tmp_path / "a.wav", channels=channels)
    assert not list(tmp_path.iterdir())
