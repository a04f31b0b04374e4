"""What cannot be written is refused, a full disk is noticed, and nothing unfinished is left behind."""

import os
import resource
import signal
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from silk_fast.audio import AudioWriter, load, save
from silk_fast.errors import SilkAudioError, SilkError, SilkFileError, SilkInputError
from silk_fast.files import atomic_file
from tests.audio.support import RATE, noise, write_blocks


@pytest.mark.parametrize(
    ("name", "kwargs", "wanted"),
    [
        ("a.xyz", {}, r"cannot write '\.xyz', expected one of \.wav \.flac \.ogg \.opus \.mp3"),
        ("a", {}, "a name without a suffix does not say the format, expected one of .wav"),
        ("a.wav", {"subtype": 16}, "cannot write 16, expected one of PCM_16"),
        ("a.flac", {"subtype": "FLOAT"}, "cannot write 'FLOAT', expected one of PCM_16 PCM_24"),
        ("a.mp3", {"sample_rate": 7000}, "at 7000 Hz"),
        ("a.wav", {"sample_rate": 0}, "sample_rate must be an integer in 1 .. 1000000, got 0"),
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


@pytest.mark.parametrize(
    "samples",
    [np.arange(9), np.zeros(9, bool), np.zeros(9, complex), np.zeros(9, np.uint16), [1, -1], ["a"], [[1.0], [2.0, 3]]],
    ids=lambda samples: str(getattr(samples, "dtype", samples)),
)
def test_numbers_without_a_full_scale_are_refused(tmp_path, samples):
    with pytest.raises(SilkInputError, match="samples must be"):
        save(tmp_path / "a.wav", samples)
    assert os.listdir(tmp_path) == []


def test_tensors_are_written_and_those_with_a_gradient_refused(tmp_path):
    save(tmp_path / "a.wav", torch.zeros(9))
    with pytest.raises(SilkInputError, match="samples must be an array"):
        save(tmp_path / "b.wav", torch.zeros(9, requires_grad=True))
    assert os.listdir(tmp_path) == ["a.wav"]


@pytest.mark.parametrize("rate", [24_000.0, "24000", None, 2**40, -1, True])
def test_rates_that_are_none_are_refused(tmp_path, rate):
    with pytest.raises(SilkError, match=r"sample_rate must be an integer in 1 \.\. 1000000"):
        save(tmp_path / "a.wav", noise(10), rate)


@pytest.mark.parametrize("target", [5, None, "a\0b.wav", "\ud800.wav", b"b.wav"])
def test_targets_are_paths(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    if isinstance(target, bytes):
        save(target, noise(10))
        assert os.listdir(tmp_path) == ["b.wav"]
        return
    with pytest.raises(SilkError, match=r"expected a path|not a path"):
        save(target, noise(10))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kwargs", [{"suffix": []}, {"suffix": 5}, {"subtype": []}, {"expected_samples": "x"}])
def test_arguments_that_are_none_are_refused(tmp_path, kwargs):
    with pytest.raises(SilkError, match=r"cannot write|expected_samples must be an integer"):
        AudioWriter(tmp_path / "a.wav", **kwargs)


def test_a_writer_writes_one_file(tmp_path):
    writer = AudioWriter(tmp_path / "a.wav")
    with pytest.raises(SilkInputError, match="is not open"):
        writer.__exit__(None, None, None)
    with writer:
        writer.write(noise(10))
    with pytest.raises(SilkInputError, match="has been used"), writer:
        pass
    with pytest.raises(SilkInputError, match="is not open"):
        writer.__exit__(None, None, None)
    assert load(tmp_path / "a.wav").shape == (10,)


def test_a_writer_writes_within_its_block_only(tmp_path):
    writer = AudioWriter(tmp_path / "a.wav")
    with pytest.raises(SilkInputError, match="is not open"):
        writer.write(noise(10))
    with writer:
        writer.write(noise(10))
    with pytest.raises(SilkInputError, match="is not open"):
        writer.write(noise(10))
