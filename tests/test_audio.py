"""Audio in and out: round trips, resampling, every refusal, atomic writes, pipes, constant memory."""

import itertools
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from silk_fast.audio import SUFFIXES, AudioReader, AudioWriter, load, resample_blocks, resampled_length, save
from silk_fast.errors import SilkAudioError, SilkError, SilkFileError, SilkInputError
from silk_fast.files import atomic_file

RATE = 24_000
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def noise(n, level=0.2, seed=0):
    return (level * np.random.default_rng(seed).uniform(-1, 1, n)).astype(np.float32)


def sine(n, rate=RATE, hertz=1000, level=0.5):
    return (level * np.sin(2 * np.pi * hertz / rate * np.arange(n))).astype(np.float32)


def snr_db(signal, wanted):
    wanted = np.asarray(wanted, np.float64)
    return 10 * np.log10(np.sum(wanted**2) / np.sum((signal - wanted) ** 2))


def wav_bytes(data=bytes(200), size=None, rate=RATE, channels=1):
    """A 16-bit WAV file by hand; ``size`` is what its data chunk claims."""
    size = len(data) if size is None else size
    form = struct.pack("<IHHIIHH", 16, 1, channels, rate, 2 * rate * channels, 2 * channels or 1, 16)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 2**32 - 1))
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def read_in_blocks(path, block_samples, **kwargs):
    with AudioReader(path, block_samples=block_samples, **kwargs) as reader:
        return list(reader.blocks())


def write_blocks(path, *blocks):
    with AudioWriter(path) as writer:
        for block in blocks:
            writer.write(block)
    return writer


def python(code, *args, stdin=b""):
    """Run a snippet in a fresh interpreter: (exit status, standard output, standard error)."""
    done = subprocess.run([sys.executable, "-c", code, *args], input=stdin, capture_output=True, cwd=ROOT, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


# Round trips


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


# Resampling and blocks


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


# What is refused on reading


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
    with pytest.raises(SilkInputError, match="must be >= 1"):
        AudioReader(tmp_path / "a.wav", **kwargs)


# What is refused on writing, and what is left behind


@pytest.mark.parametrize(
    ("name", "kwargs", "wanted"),
    [
        ("a.xyz", {}, r"cannot write '\.xyz', expected one of \.wav \.flac \.ogg \.opus \.mp3"),
        ("a", {}, "cannot write ''"),
        ("a.flac", {"subtype": "FLOAT"}, "cannot write FLOAT, expected one of PCM_16 PCM_24"),
        ("a.mp3", {"sample_rate": 7000}, "at 7000 Hz"),
        ("a.wav", {"sample_rate": 0}, "at 0 Hz"),
        ("missing/a.wav", {}, "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, name, kwargs, wanted):
    with pytest.raises(SilkError, match=wanted):
        save(tmp_path / name, noise(10), **kwargs)
    assert os.listdir(tmp_path) == []


def test_directory_as_target_is_refused(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(SilkError, match="is a directory"):
        save(tmp_path / "a.wav", noise(10))


def test_unwritable_directory_is_refused(public_path, unprivileged):
    public_path.chmod(0o555)
    with unprivileged(), pytest.raises(SilkFileError, match="cannot be written: Permission denied"):
        save(public_path / "a.wav", noise(10))
    assert not list(public_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_not_written(tmp_path, value):
    samples = noise(100)
    samples[50] = value
    with pytest.raises(SilkAudioError, match=r"sample 24050 \(1.002083 s\)"):
        write_blocks(tmp_path / "a.wav", noise(RATE), samples)
    assert os.listdir(tmp_path) == []


def test_samples_of_another_shape_are_refused(tmp_path):
    with pytest.raises(SilkInputError, match=r"must be \[n\], got \[1, 10\]"):
        save(tmp_path / "a.wav", noise(10)[None])


@contextmanager
def files_end_at(n_bytes):
    """No file can grow beyond that, as on a full disk (Python ignores the signal)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("n_blocks", [1, 40])
def test_full_disk_raises_and_leaves_the_old_file(tmp_path, suffix, n_blocks):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    with files_end_at(50_000), pytest.raises(SilkFileError, match=f"{path.name}: cannot be written: File too large"):
        write_blocks(path, *[noise(1_000_000 // n_blocks)] * n_blocks)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_disk_one_byte_too_small_is_noticed(tmp_path, suffix):
    """That byte is written when the encoder is closed, after the last call that could have raised."""
    save(tmp_path / f"a{suffix}", noise(60_000))
    n_bytes = (tmp_path / f"a{suffix}").stat().st_size
    with files_end_at(n_bytes):
        save(tmp_path / f"b{suffix}", noise(60_000))
    with files_end_at(n_bytes - 1), pytest.raises(SilkFileError, match="File too large"):
        save(tmp_path / f"c{suffix}", noise(60_000))
    assert sorted(os.listdir(tmp_path)) == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_device_gets_a_copy_and_stays_a_device(tmp_path):
    with (
        pytest.raises(SilkFileError, match="/dev/full: cannot be written: No space left"),
        atomic_file("/dev/full") as f,
    ):
        f.write(b"x")
    assert not os.path.isfile("/dev/full")


def fail_inside(manager, write, error):
    with manager as target:
        write(target)
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError(), KeyboardInterrupt(), SystemExit(), FileNotFoundError(2, "no", "else")]
)
def test_any_exception_leaves_the_target_as_it_was(tmp_path, error):
    path = tmp_path / "a.wav"
    with pytest.raises(type(error)):
        fail_inside(AudioWriter(path), lambda writer: writer.write(noise(100)), error)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        fail_inside(atomic_file(path), lambda file: file.write(b"new"), error)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.wav"]


def test_target_appears_only_at_the_end(tmp_path):
    with AudioWriter(tmp_path / "a.wav") as writer:
        writer.write(noise(100_000))
        assert not (tmp_path / "a.wav").exists()
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == ["a.wav"]


def test_interrupt_inside_the_encoder_is_not_lost(tmp_path):
    def interrupt(writer):
        writer._sink._write = lambda data: os.kill(os.getpid(), signal.SIGINT)
        writer.write(noise(RATE))

    with pytest.raises(KeyboardInterrupt):
        fail_inside(AudioWriter(tmp_path / "a.wav"), interrupt, AssertionError("the interrupt was lost"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_open_or_of_the_file_replaced(tmp_path, umask):
    before = os.umask(umask)
    try:
        for name in ("new", "old"):
            with atomic_file(tmp_path / name) as file:
                file.write(b"1")
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o666 & ~umask
        (tmp_path / "old").chmod(0o640)
        with atomic_file(tmp_path / "old") as file:
            file.write(b"2")
    finally:
        os.umask(before)
    assert (tmp_path / "old").read_bytes() == b"2"
    assert (tmp_path / "old").stat().st_mode & 0o777 == 0o640


def test_link_is_followed_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic_file(tmp_path / "link") as file:
        file.write(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"1"


# Pipes and import


def test_standard_input_and_output_carry_whole_files(tmp_path):
    save(tmp_path / "a.flac", sine(48_000, 48_000), 48_000)
    code = "from silk_fast.audio import load, save; save('-', load('-'), subtype='PCM_24')"
    status, out, err = python(code, stdin=(tmp_path / "a.flac").read_bytes())
    assert (status, err) == (0, "")
    (tmp_path / "b.wav").write_bytes(out)
    assert np.abs(load(tmp_path / "b.wav") - load(tmp_path / "a.flac")).max() <= 2**-24


def test_standard_output_stays_empty_after_an_error():
    code = """from silk_fast.audio import AudioWriter
with AudioWriter("-") as writer:
    writer.write([0.5] * 9)
    writer.write([float("nan")])"""
    status, out, err = python(code)
    assert (status, out) == (1, b"")
    assert "standard output: sample 9 (0.000375 s) is nan" in err


def test_bad_standard_input_is_named():
    status, _, err = python("from silk_fast.audio import load; load('-')", stdin=b"no audio at all")
    assert status == 1
    assert "standard input: not audio" in err
    assert "standard input: is empty" in python("from silk_fast.audio import load; load('-')")[2]


def test_named_pipe_is_read(tmp_path):
    save(tmp_path / "a.wav", noise(50_000))
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", "--", tmp_path / "a.wav", tmp_path / "pipe"]) as feeder:
        samples = load(tmp_path / "pipe")
    assert feeder.returncode == 0
    assert np.array_equal(samples, load(tmp_path / "a.wav"))


def test_import_is_light():
    code = "import sys, silk_fast.audio; print({'soundfile', 'soxr'} & set(sys.modules))"
    assert python(code)[1].strip() == b"set()"
