"""What is read, and what is refused: files that are no audio, cut short, joined, or not finite."""

import re
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from silk_fast.audio import SUFFIXES, AudioReader, AudioWriter, load, save
from silk_fast.errors import SilkAudioError, SilkInputError
from tests.audio.support import RATE, noise, read_in_blocks, sine, snr_db, wav_bytes


def test_header_is_told_before_reading(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros((4801, 2)), 48_000)
    with AudioReader(tmp_path / "a.flac") as reader:
        assert (reader.source_rate, reader.source_channels, reader.n_samples_estimate) == (48_000, 2, 2401)
        assert reader.description == "FLAC PCM_16"


def test_channels_are_averaged_with_a_notice(tmp_path):
    left, right, notices = noise(5000, seed=1), noise(5000, seed=2), []
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    samples = load(tmp_path / "stereo.wav", notice=notices.append)
    assert np.abs(samples - (left + right) / 2).max() <= 1e-7
    assert notices == [f"{tmp_path / 'stereo.wav'}: 2 channels mixed down to mono"]
    save(tmp_path / "mono.wav", left)
    load(tmp_path / "mono.wav", notice=notices.append)
    assert len(notices) == 1


def test_folder_suffixes_are_all_readable(tmp_path):
    formats = {".oga": "OGG", ".opus": "OGG", ".aif": "AIFF", ".aifc": "AIFF"}
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        soundfile.write(path, sine(RATE), RATE, format=formats.get(suffix, suffix[1:].upper()))
        assert snr_db(load(path), sine(RATE)) > 20, suffix


def test_reading_ten_minutes_takes_a_few_megabytes(tmp_path):
    path, second = tmp_path / "a.flac", sine(RATE)
    tracemalloc.start()
    try:
        with AudioWriter(path) as writer:
            for _ in range(600):
                writer.write(second)
        with AudioReader(path, sample_rate=16_000, block_samples=16_000) as reader:
            n_samples = sum(len(block) for block in reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_samples == 600 * 16_000
    assert peak < 4e6


def refusal(path):
    with pytest.raises(SilkAudioError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is empty"),
        (b"Dear diary, this is not audio.\n" * 40, "not audio that libsndfile reads"),
        (b"RIFF", "not audio"),
        (b"OggS", "not audio"),
        (wav_bytes(b""), "0 samples"),
        (wav_bytes(channels=0), "[Cc]hannel"),
        (wav_bytes(rate=0), "not audio"),
        (wav_bytes(size=1000), "cut short, 244 bytes where its header announces 1044"),
    ],
    ids=["empty", "text", "riff", "ogg", "no samples", "no channels", "no rate", "cut"],
)
def test_what_is_no_whole_audio_file_is_refused(tmp_path, content, wanted):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert re.search(wanted, refusal(path))


def test_what_cannot_be_opened_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "missing.wav")
    assert "directory" in refusal(tmp_path)


def test_unreadable_file_is_refused(public_path, unprivileged):
    save(public_path / "a.wav", noise(10))
    (public_path / "a.wav").chmod(0)
    with unprivileged():
        assert "Permission denied" in refusal(public_path / "a.wav")


@pytest.mark.parametrize("file_format", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "OPUS", "MP3"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_file_cut_short_is_refused_in_every_format(tmp_path, file_format, share):
    path, opus = tmp_path / "a.audio", {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(path, noise(200_000), RATE, **(opus if file_format == "OPUS" else {"format": file_format}))
    whole = path.read_bytes()
    assert load(path).shape == (200_000,)
    path.write_bytes(whole[: int(share * len(whole))])
    refusal(path)


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFF024, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36])
def test_header_written_into_a_pipe_is_not_called_cut(tmp_path, size):
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes(200), size))
    assert load(tmp_path / "a.wav").shape == (100,)


def test_chunks_around_the_samples_are_allowed(tmp_path):
    listing = b"LIST" + struct.pack("<I", 7) + b"INFOabc\0"
    whole = wav_bytes(bytes(200))
    (tmp_path / "a.wav").write_bytes(whole[:36] + listing + whole[36:] + listing)
    assert load(tmp_path / "a.wav").shape == (100,)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_joined_files_are_refused_instead_of_read_in_part(tmp_path, suffix):
    save(tmp_path / f"a{suffix}", noise(200_000))
    one = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"two{suffix}").write_bytes(one + one)
    assert "joined" in refusal(tmp_path / f"two{suffix}")


def test_mp3_with_tags_and_without_a_length_header_is_read(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(200_000), RATE, compression_level=0.5, bitrate_mode="CONSTANT")
    whole = path.read_bytes()
    id3 = b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024)
    path.write_bytes(id3 + whole + b"TAG" + bytes(125))
    assert load(path).shape == (200_000,)
    assert b"Info" in whole[:64]
    path.write_bytes(whole[whole.index(whole[:2], 64) :])  # its header frame gone, the length is an estimate
    assert abs(len(load(path)) - 200_000) < 4000


def test_mp3_longer_than_its_estimate_is_refused_instead_of_read_in_part(tmp_path):
    path = tmp_path / "a.mp3"  # a variable rate, loud first, from which follows too short an estimate
    save(path, np.concatenate([noise(200_000), sine(400_000)]))
    whole = path.read_bytes()
    path.write_bytes(whole[whole.index(whole[:2], 64) :])
    assert "bytes of MP3 follow" in refusal(path)
    with pytest.raises(SilkAudioError, match="bytes of MP3 follow"):
        read_in_blocks(path, 10**6)  # asked for more than announced, the decoder would run on and drop the rest


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_sample_that_is_not_finite_is_named_by_its_time(tmp_path, value):
    samples = np.zeros((48_000, 2), np.float32)
    samples[36_000, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 48_000, subtype="FLOAT")
    message = refusal(tmp_path / "a.wav")
    assert "sample 36000 (0.750000 s)" in message
    assert str(value) in message
    with pytest.raises(SilkAudioError, match="sample 36000 "):
        read_in_blocks(tmp_path / "a.wav", 1000)


@pytest.mark.parametrize("kwargs", [{"sample_rate": 0}, {"block_samples": 0}, {"sample_rate": -1}])
def test_impossible_arguments_are_refused(tmp_path, kwargs):
    with pytest.raises(SilkInputError, match="must be an integer"):
        AudioReader(tmp_path / "a.wav", **kwargs)
