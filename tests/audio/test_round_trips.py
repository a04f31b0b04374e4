"""What is written comes back: exactly, within half a step, or much the same, by format."""

import os

import numpy as np
import pytest
import soundfile

from silk_fast.audio import AudioWriter, load, save
from silk_fast.errors import SilkAudioError
from tests.audio.support import RATE, noise, python, sine, snr_db, write_blocks


@pytest.mark.parametrize(
    ("suffix", "subtype", "step"),
    [
        (".wav", None, 2**-15),
        (".wav", "PCM_16", 2**-15),
        (".wav", "PCM_24", 2**-23),
        (".wav", "PCM_32", 2**-31),
        (".wav", "FLOAT", 0),
        (".flac", None, 2**-15),
        (".flac", "PCM_24", 2**-23),
    ],
)
def test_lossless_formats_return_each_sample_within_half_a_step(tmp_path, suffix, subtype, step):
    path, samples = tmp_path / f"a{suffix}", noise(100_001, level=0.99)
    assert save(path, samples, subtype=subtype) == 0
    error = load(path).astype(np.float64) - samples
    assert np.abs(error).max() <= step / 2 + 2**-25  # float32 itself resolves 2**-25 below 1
    assert abs(error.mean()) <= step / 20  # rounded, not cut off
    assert os.listdir(tmp_path) == [path.name]


def test_every_int16_value_comes_back_as_itself(tmp_path):
    values = np.arange(-(2**15), 2**15)
    save(tmp_path / "a.wav", values / np.float32(2**15))
    assert np.array_equal(soundfile.read(tmp_path / "a.wav", dtype="int16")[0], values)
    assert np.array_equal(load(tmp_path / "a.wav") * 2**15, values)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("n", [1, 479, 100_001])
def test_lossy_formats_return_the_same_length_and_much_the_same_sound(tmp_path, suffix, n):
    path, samples = tmp_path / f"a{suffix}", sine(n, hertz=440)
    save(path, samples)
    decoded = load(path)
    assert decoded.shape == (n,)
    if n > 1000:
        assert snr_db(decoded, samples) > 20


def test_writing_in_pieces_equals_writing_at_once(tmp_path):
    samples = noise(150_000)
    for suffix in (".wav", ".flac", ".mp3"):
        whole, pieces = tmp_path / f"whole{suffix}", tmp_path / f"pieces{suffix}"
        save(whole, samples)
        writer = write_blocks(pieces, *np.split(samples, range(7001, 150_000, 7001)))
        assert writer.n_samples == len(samples)
        assert whole.read_bytes() == pieces.read_bytes(), suffix


def test_vorbis_takes_millions_of_samples_in_one_call(tmp_path):
    code = "import sys, numpy as np; from silk_fast.audio import save; save(sys.argv[1], np.zeros(3_000_000, 'f'))"
    assert python(code, str(tmp_path / "a.ogg"))[0] == 0
    assert soundfile.info(tmp_path / "a.ogg").frames == 3_000_000


@pytest.mark.parametrize(("subtype", "top"), [("PCM_16", 1 - 2**-15), ("PCM_24", 1 - 2**-23), ("PCM_32", 1.0)])
def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path, subtype, top):
    samples = np.array([0.5, 1.0, 1.25, -1.0, -3.0, 1e30], np.float32)
    assert save(tmp_path / "a.wav", samples, subtype=subtype) == 3
    assert load(tmp_path / "a.wav").tolist() == pytest.approx([0.5, top, top, -1, -1, top], abs=1e-9)


def test_float_is_not_clipped_and_lossy_is(tmp_path):
    assert save(tmp_path / "a.wav", np.float32([2.5, -7]), subtype="FLOAT") == 0
    assert load(tmp_path / "a.wav").tolist() == [2.5, -7]
    assert save(tmp_path / "a.ogg", 10 * sine(RATE)) > RATE // 2
    assert np.abs(load(tmp_path / "a.ogg")).max() < 1.5


def test_long_wav_becomes_rf64_and_reads_back(tmp_path):
    with AudioWriter(tmp_path / "a.wav", expected_samples=2**31) as writer:
        writer.write(noise(1000))
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"
    assert np.abs(load(tmp_path / "a.wav") - noise(1000)).max() <= 2**-16


def test_wav_that_outgrows_its_32_bit_header_is_refused(tmp_path):
    def outgrow(writer):
        writer.write(noise(10))
        writer.n_samples = 2**31 - 2**15
        writer.write(noise(10))

    with AudioWriter(tmp_path / "a.flac") as writer:
        outgrow(writer)
    with pytest.raises(SilkAudioError, match="4 GiB"), AudioWriter(tmp_path / "a.wav") as writer:
        outgrow(writer)
    assert os.listdir(tmp_path) == ["a.flac"]


@pytest.mark.parametrize(
    ("dtype", "subtype"), [("uint8", "PCM_16"), ("int16", "PCM_16"), ("int16", "FLOAT"), ("int32", "PCM_32")]
)
def test_integers_are_scaled_and_come_back_as_themselves(tmp_path, dtype, subtype):
    limits, path = np.iinfo(dtype), tmp_path / "a.wav"
    values = np.random.default_rng(0).integers(limits.min, limits.max, 48_000, dtype, endpoint=True)
    assert save(path, values, subtype=subtype) == 0
    read_as = dtype if subtype != "FLOAT" else "float64"
    found = soundfile.read(path, dtype="int16" if dtype == "uint8" else read_as)[0]
    expected = (
        256 * (values.astype(int) - 128) if dtype == "uint8" else values / 2**15 if subtype == "FLOAT" else values
    )
    assert np.array_equal(found, expected)


def test_integers_in_lossy_formats_are_not_clipped(tmp_path):
    assert save(tmp_path / "a.ogg", (2**14 * sine(RATE)).astype(np.int16)) == 0
    assert snr_db(load(tmp_path / "a.ogg"), sine(RATE) / 2) > 20
