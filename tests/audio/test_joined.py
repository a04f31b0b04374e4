"""Several files in one (``cat a.mp3 b.mp3``): all of it is read, or the refusal says where it goes on."""

import io
import struct

import numpy as np
import pytest
import soundfile

from silk_fast.audio import load
from silk_fast.audio.mpeg import frames
from silk_fast.errors import SilkAudioError
from tests.audio.support import RATE, noise, wav_bytes

# fmt: off
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "OPUS", "MP3",
           "VOC", "NIST", "IRCAM", "PAF", "AVR", "MAT4", "MAT5", "SDS", "MPC2K")
# fmt: on


def audio_bytes(file_format, n=30_000, seed=0, rate=RATE, **kwargs):
    file, options = io.BytesIO(), {"format": file_format}
    if file_format == "OPUS":
        options = {"format": "OGG", "subtype": "OPUS"}
    soundfile.write(file, noise(n, seed=seed), rate, **options, **kwargs)
    return file.getvalue()


def headerless(mp3):
    """Leave the length header of an MP3 out, as ``ffmpeg -write_xing 0`` does."""
    (_, first), (second, _) = list(frames(io.BytesIO(mp3), 0))[:2]
    assert first.is_length_header
    return mp3[second:]


def flac_frames():
    flac = audio_bytes("FLAC")
    return flac[flac.index(b"\xff\xf8", 42) :]


def id3(n_bytes=200, version=4, fill=0, footer=False):
    size = bytes(n_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    head = bytes([version, 0, 16 * footer]) + size
    return b"ID3" + head + bytes([fill]) * n_bytes + (b"3DI" + head if footer else b"")


ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 32 + 60, 1, 0) + b"Title".ljust(60, b"\0")
LISTING = b"LIST" + struct.pack("<I", 400) + b"INFOIART" + struct.pack("<I", 388) + b"\xff\xfb" * 194


def refused_at(tmp_path, content):
    (tmp_path / "joined").write_bytes(content)
    with pytest.raises(SilkAudioError, match=r"joined files?.*|bytes of MP3 follow") as caught:
        load(tmp_path / "joined")
    words = str(caught.value).replace(",", "").split()
    return int(words[words.index("byte") + 1])


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("n", [50, 30_000])
def test_joined_files_of_one_format_are_refused_where_the_second_begins(tmp_path, file_format, n):
    one, two = audio_bytes(file_format), audio_bytes(file_format, n, seed=1)
    assert refused_at(tmp_path, one + two) == len(one)


@pytest.mark.parametrize("first", ["WAV", "AIFF", "AU", "CAF", "W64", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("second", ["WAV", "AIFF", "AU", "CAF", "W64", "FLAC", "OGG", "MP3"])
def test_joined_files_of_two_formats_are_refused(tmp_path, first, second):
    one = audio_bytes(first)
    assert refused_at(tmp_path, one + bytes(10) + audio_bytes(second)) == len(one) + 10


@pytest.mark.parametrize("n", [300, 2000, 30_000])
@pytest.mark.parametrize("has_header", [True, False])
@pytest.mark.parametrize(
    "between",
    [id3(), id3(70_000, version=3, fill=0xFF), id3(footer=True), ID3V1, ID3V1 + id3(), APE + ID3V1 + id3()],
    ids=["id3", "picture", "footer", "id3v1", "v1 and v2", "ape"],
)
def test_joined_mp3_with_tags_between_is_refused(tmp_path, n, has_header, between):
    one, two = audio_bytes("MP3"), audio_bytes("MP3", n, seed=1)
    two = two if has_header else headerless(two)
    offset = refused_at(tmp_path, id3() + one + between + two)
    assert len(id3() + one) <= offset <= len(id3() + one + between) + (0 if has_header else 1000)


@pytest.mark.parametrize("n", [5000, 30_000])
def test_frames_behind_the_number_that_the_header_states_are_refused(tmp_path, n):
    one, two = audio_bytes("MP3"), headerless(audio_bytes("MP3", n, seed=1))
    assert len(one) <= refused_at(tmp_path, one + two) < len(one) + 1000


def test_joined_mp3_without_any_header_is_read_whole_or_refused(tmp_path):
    constant = headerless(audio_bytes("MP3", 200_000, compression_level=0.5, bitrate_mode="CONSTANT"))
    (tmp_path / "one.mp3").write_bytes(constant)
    (tmp_path / "two.mp3").write_bytes(constant + constant)
    assert abs(len(load(tmp_path / "two.mp3")) - 2 * len(load(tmp_path / "one.mp3"))) <= 2304
    assert refused_at(tmp_path, constant + id3() + constant) == len(constant)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_joined_wav_files_that_came_out_of_pipes_are_refused(tmp_path, size):
    one = wav_bytes(bytes(2000), size)
    assert refused_at(tmp_path, one + one) == len(one)


def test_joined_flac_with_tags_is_refused(tmp_path):
    one = audio_bytes("FLAC")
    assert refused_at(tmp_path, id3() + one + id3() + one) == len(id3() + one + id3())


JOINS = {  # bytes, and of them where at the latest the refusal says that a file goes on
    "Ogg cut within a page, then Ogg": lambda: (audio_bytes("OGG"), audio_bytes("OGG"), 2 / 3),
    "WAV cut at half, then WAV": lambda: (audio_bytes("WAV"), audio_bytes("WAV"), 0.5),
    "WAV cut at 90 %, then FLAC": lambda: (audio_bytes("WAV"), audio_bytes("FLAC"), 0.9),
    "WAV, then samples": lambda: (audio_bytes("WAV"), noise(50).tobytes(), 1),
    "WAV that states too few samples": lambda: (wav_bytes(noise(50).tobytes(), 100), b"", 1),
    "AU, then words": lambda: (audio_bytes("AU"), b"trailing words", 1),
    "FLAC, then its frames": lambda: (audio_bytes("FLAC"), flac_frames(), 1),
    **{
        f"{first}, then MP3 without a header": lambda first=first: (
            audio_bytes(first),
            headerless(audio_bytes("MP3")),
            1,
        )
        for first in ("WAV", "FLAC", "OGG", "VOC", "MAT5", "NIST")
    },
    "WAV out of a pipe, then MP3 without a header": lambda: (
        wav_bytes(noise(999).tobytes(), 0xFFFFFFFF),
        headerless(audio_bytes("MP3")),
        1,
    ),
    **{
        f"{first}, then {second}": lambda first=first, second=second: (audio_bytes(first), audio_bytes(second), 1)
        for first in ("WAV", "AIFF", "AU", "CAF", "OGG", "W64")
        for second in ("VOC", "NIST", "IRCAM", "PAF", "AVR", "HTK", "MAT4", "MAT5", "SDS", "MPC2K")
    },
    **{
        f"{first}, then {second}": lambda first=first, second=second: (audio_bytes(first), audio_bytes(second), 1)
        for first in ("FLAC", "MP3")
        for second in ("VOC", "NIST", "MAT5")
    },
}


@pytest.mark.parametrize("name", JOINS)
def test_what_follows_and_is_no_tag_is_refused(tmp_path, name):
    first, second, share = JOINS[name]()
    cut = int(share * len(first))
    assert refused_at(tmp_path, first[:cut] + second) <= len(first) + 2000


@pytest.mark.parametrize(
    ("file_format", "before", "after"),
    [
        ("WAV", b"", LISTING),
        ("WAV", b"", bytes(5000)),
        ("WAV", b"", id3(3000, fill=0xFF)),
        ("FLAC", id3(), b""),
        ("FLAC", b"", ID3V1),
        ("OGG", b"", bytes(100)),
        ("MP3", id3(70_000, fill=0xFF), APE + ID3V1),
        ("MP3", id3() + id3(5000), bytes(20_000)),
        ("MP3", b"", id3(20_000, fill=0xFB)),
        ("AU", b"", bytes(3) + ID3V1),
        ("WAV", b"", LISTING[:300]),
        ("AIFF", b"", b"ANNO" + struct.pack(">I", 5) + b"words\0"),
        ("CAF", b"", b"info" + struct.pack(">Q", 5) + b"words"),
        ("WAV", b"", APE + ID3V1),
    ],
)
def test_tags_and_fillers_around_one_file_are_no_other_file(tmp_path, file_format, before, after):
    path = tmp_path / "one"
    path.write_bytes(before + audio_bytes(file_format) + after)
    assert load(path).shape == (30_000,)


@pytest.mark.parametrize("file_format", ["MP3", "FLAC"])
def test_mpeg_rates_and_channels_are_walked_to_their_end(tmp_path, file_format):
    for rate in (8000, 16_000, 22_050, 44_100, 48_000):
        for n_channels in (1, 2):
            samples = np.stack([noise(rate)] * n_channels, axis=1)
            soundfile.write(tmp_path / "a", samples, rate, format=file_format)
            assert load(tmp_path / "a", rate).shape == (rate,)
