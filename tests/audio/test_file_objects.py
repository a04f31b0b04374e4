"""Audio out of file objects: on disk, in memory, and such as cannot seek."""

import gzip
import io
import os
import tempfile
import threading

import numpy as np
import pytest
import torch

from silk_fast.audio import AudioReader, load, save
from silk_fast.errors import SilkAudioError, SilkInputError
from tests.audio.support import noise


class Odd:
    """What has some of the methods of a file or a path, none of which does what it should."""

    def __init__(self, **methods):
        self.__dict__ |= methods

    def __fspath__(self):
        raise KeyError("no path")


def closed(file):
    file.close()
    return file


class Unseekable(io.RawIOBase):
    """Bytes that come once, a few at a time, as from a network."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_every_kind_of_file_object_gives_what_the_path_gives(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save(path, noise(50_000))
    expected, data = load(path), path.read_bytes()
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(data)
    with open(path, "rb") as file, gzip.open(tmp_path / "a.gz") as zipped, tempfile.TemporaryFile() as fresh:
        fresh.write(data)
        fresh.seek(0)
        for source in (file, zipped, fresh, io.BytesIO(data), Unseekable(data), io.BufferedReader(Unseekable(data))):
            assert np.array_equal(load(source), expected), source
            assert not source.closed
            assert source.read() == b""
        file.seek(0)
        assert file.read() == data


def test_a_file_object_is_read_from_where_it_stands(tmp_path):
    save(tmp_path / "a.flac", noise(5000))
    data = b"a header of something else" + (tmp_path / "a.flac").read_bytes()
    (tmp_path / "b").write_bytes(data)
    for file in (io.BytesIO(data), open(tmp_path / "b", "rb")):  # noqa: SIM115
        with file:
            file.seek(26)
            assert np.array_equal(load(file), load(tmp_path / "a.flac"))


def test_a_pipe_as_a_file_object_is_read(tmp_path):
    save(tmp_path / "a.wav", noise(50_000))
    theirs, ours = os.pipe()
    with open(ours, "wb") as into, open(theirs, "rb") as out:
        feeder = threading.Thread(target=lambda: (into.write((tmp_path / "a.wav").read_bytes()), into.close()))
        feeder.start()
        assert len(load(out)) == 50_000
        feeder.join()


@pytest.mark.parametrize(
    ("source", "error", "wanted"),
    [
        (io.BytesIO(b""), SilkAudioError, "a BytesIO: is empty"),
        (io.BytesIO(b"no audio at all"), SilkAudioError, "a BytesIO: not audio"),
        (io.StringIO("text"), SilkInputError, "reads str, expected a file of bytes"),
        (5, SilkInputError, "expected a path or, to read, a binary file object, got int 5"),
        (None, SilkInputError, "got NoneType"),
        (np.zeros(5), SilkInputError, "got ndarray"),
        ("a\0b.wav", SilkAudioError, "not a path"),
        ("\ud800.wav", SilkAudioError, "not a path"),
        (Odd(), SilkInputError, "got Odd"),
        (Odd(read=None), SilkInputError, "got Odd"),
        (Odd(read=lambda: b""), SilkInputError, "an? Odd: cannot be read: TypeError"),
        (gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(bytes(999))[:20])), SilkInputError, "cannot be read: EOFError"),
        (closed(io.BytesIO(b"")), SilkInputError, "a BytesIO: is closed"),
        (closed(open(os.devnull, "rb")), SilkInputError, "is closed"),  # noqa: SIM115
        (open(os.devnull, "wb"), SilkInputError, "/dev/null: is open for writing only"),  # noqa: SIM115
        ("/proc/version", SilkAudioError, "/proc/version: not audio"),
        ("/proc/self/mem", SilkAudioError, "/proc/self/mem: .*, expected a readable audio file"),
    ],
)
def test_what_is_no_source_is_refused(source, error, wanted):
    with pytest.raises(error, match=wanted):
        load(source)


def test_a_reader_that_was_closed_reads_no_more(tmp_path):
    save(tmp_path / "a.wav", noise(10))
    with AudioReader(tmp_path / "a.wav") as reader:
        pass
    with pytest.raises(SilkInputError, match="the reader was closed"):
        next(iter(reader))


def test_messages_are_of_one_printable_line(tmp_path):
    with pytest.raises(SilkAudioError) as caught:
        load(tmp_path / "a\nb\x1b[1m.wav")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [0, -5, 1.5, "24000", None, float("nan"), True, torch.tensor(True)])
def test_numbers_that_are_none_are_named(tmp_path, value):
    save(tmp_path / "a.wav", noise(10))
    for name in ("sample_rate", "block_samples"):
        with pytest.raises(SilkInputError, match=f"{name} must be an integer"):
            AudioReader(tmp_path / "a.wav", **{name: value})
