"""Names of files are text: in pictures, in messages, in tables, and where they tell what a file holds."""

import json
import os

import numpy as np
import pytest
import soundfile

from silk_fast.evaluation.latent import TimbreStudy
from silk_fast.evaluation.plots import draw_timbre
from silk_fast.plot import draw_comparison
from tests.cli.support import files_in, silk

ODD = [
    b"dol$x_{lar$.wav",
    b"m$\\frac$.wav",
    b"bad\xff.wav",
    b"two\nlines\x1b[31m.wav",
    "日本語 ☃.wav".encode(),
    b"^_{\\.wav",
]


@pytest.mark.parametrize("raw", ODD, ids=repr)
def test_compare_draws_and_prints_any_name(raw, speech, tmp_path, capsys, recwarn):
    path = tmp_path / os.fsdecode(raw)
    soundfile.write(os.fsencode(path), np.zeros(50_000), 24_000)
    assert silk("compare", speech, path, "--png", tmp_path / "a.png") == 0
    assert silk("info", path) == 0
    assert silk("compare", speech, path, "--json") == 0
    captured = capsys.readouterr()
    captured.out.encode()
    assert "\x1b" not in captured.out + captured.err
    assert captured.err == ""
    assert not recwarn.list
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("raw", ODD, ids=repr)
def test_encode_and_decode_take_any_name(raw, speech, model, tmp_path, capsys):
    path = tmp_path / os.fsdecode(raw)
    speech.rename(path)
    assert silk("encode", path, "-m", model) == 0
    assert silk("decode", path.with_suffix(".silk"), "-o", path.with_suffix(".flac"), "-m", model) == 0
    assert silk("encode", path, "-m", model) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_every_text_of_a_picture_is_text(tmp_path):
    odd = [os.fsdecode(raw) for raw in ODD]
    signals = {name: np.zeros(2400, np.float32) for name in odd[:2]}
    draw_comparison(tmp_path / "a.png", signals, 24_000, title=" $\\frac$ ".join(odd))
    draw_comparison(tmp_path / "b.png", signals, 24_000, title=odd[0], n_colours=16)
    study = TimbreStudy(voices=odd, plane=np.zeros((len(odd), 2)), by_voice=None, by_text=None)
    draw_timbre(tmp_path / "c.png", study)
    assert files_in(tmp_path) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".m4a", ".png"])
@pytest.mark.parametrize("force", [[], ["-f"]])
def test_tokens_do_not_get_the_name_of_something_else(suffix, force, speech, model, tmp_path, capsys):
    target = tmp_path / f"keep{suffix}"
    target.write_bytes(b"precious")
    assert silk("encode", speech, "-o", target, "-m", model, *force) == 1
    assert f"tokens under '{suffix}', expected .silk; --any-suffix allows it" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert silk("encode", speech, "-o", target, "-m", model, "-f", "--any-suffix") == 0
    assert target.read_bytes()[1:5] == b"SILK"


def test_audio_does_not_get_the_name_of_something_else(tokens, model, tmp_path, capsys):
    for name, options, message in (
        ("a.silk", [], "cannot write '.silk', expected one of .wav"),
        ("a.silk", ["--format", "wav"], "wav under '.silk', expected .wav"),
        ("a.wav", ["--format", "flac"], "flac under '.wav', expected .flac"),
        (
            "a.txt",
            [],
            "cannot write '.txt', expected one of .wav .flac .ogg .opus .mp3; --format or --any-suffix allows it",
        ),
        ("a", [], "a name without a suffix does not say the format"),
    ):
        assert silk("decode", tokens, "-o", tmp_path / name, "-m", model, *options) == 1
        assert message in capsys.readouterr().err
    assert files_in(tmp_path) == ["speech.silk", "speech.wav"]
    for name, options, start in (
        ("a.silk", ["--any-suffix"], b"RIFF"),
        ("a.wav", ["--any-suffix", "--format", "flac"], b"fLaC"),
        ("a.flac", ["--any-suffix"], b"fLaC"),
        ("a", ["--format", "ogg"], b"OggS"),
    ):
        assert silk("decode", tokens, "-o", tmp_path / name, "-m", model, *options) == 0
        assert (tmp_path / name).read_bytes()[:4] == start


def test_pictures_and_results_do_not_replace_audio(speech, tmp_path, capsys):
    before = speech.read_bytes()
    soundfile.write(tmp_path / "b.wav", np.zeros(50_000), 24_000)
    assert silk("compare", speech, tmp_path / "b.wav", "--png", speech, "-f") == 1
    assert "a picture under '.wav', expected .png" in capsys.readouterr().err
    assert silk("bench", "-o", speech, "-f") == 1
    assert "results under '.wav', expected .json" in capsys.readouterr().err
    assert speech.read_bytes() == before


def test_demo_overwrites_nothing_unasked(speech, model, tmp_path, capsys):
    before = speech.read_bytes()
    for force in ([], ["-f"]):
        assert silk("demo", speech, "-m", model, "-o", tmp_path, *force) == 1
        assert "input and output are the same file" in capsys.readouterr().err
    assert silk("demo", "-m", model, "-o", tmp_path) == 1
    assert "exists already" in capsys.readouterr().err
    assert speech.read_bytes() == before
    assert files_in(tmp_path) == ["speech.wav"]


def test_files_that_would_become_one_do_not_stop_the_rest(speech, model, tmp_path, capsys):
    samples, rate = soundfile.read(speech)
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "a.flac", "b.wav"):
        soundfile.write(tmp_path / "in" / name, samples, rate)
    assert silk("encode", tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--json") == 1
    captured = capsys.readouterr()
    assert files_in(tmp_path / "out") == ["b.silk"]
    report = json.loads(captured.out)
    assert sorted(os.path.basename(row["input"]) for row in report["failed"]) == ["a.flac", "a.wav"]
    assert captured.err.count("would both become") == 1
    assert "1 done, 2 failed" in captured.err


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x20ftypM4A ", "MPEG-4 (m4a, mp4)"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "Matroska (webm, mkv)"),
        (b"\xff\xf1\x50\x80\x02\x1f\xfc\xde", "ADTS (aac)"),
        (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + b"\xff\xf9\x50\x80\x02\x1f\xfc\xde", "ADTS (aac)"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF (wma)"),
        (b"RIFF\0\1\0\0AVI LIST", "AVI"),
    ],
)
def test_what_ffmpeg_reads_is_said_with_its_command(start, kind, model, tmp_path, capsys):
    path = tmp_path / "it's.m4a"
    path.write_bytes(start + bytes(range(256)) * 20)
    for arguments in (["encode", path, "-m", model], ["info", path]):
        assert silk(*arguments) == 1
        err = capsys.readouterr().err
        assert f"not audio that libsndfile reads but {kind}, which FFmpeg reads: ffmpeg -i" in err
        assert "it'\"'\"'s.m4a' -f wav - | silk encode -" in err
