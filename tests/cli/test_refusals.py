"""What cannot be done is said in one line, and leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.cli.support import files_in, silk
from tests.support import make_codec


def make_bad_audio(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.wav"
    samples = np.zeros(24_000, np.float32)
    if kind == "empty file":
        path.touch()
    elif kind == "zero samples":
        soundfile.write(path, samples[:0], 24_000)
    elif kind == "text":
        path.write_text("dear diary, " * 100)
    elif kind == "truncated":
        soundfile.write(path, samples, 24_000)
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind in ("NaN", "infinite"):
        samples[12_000] = np.nan if kind == "NaN" else np.inf
        soundfile.write(path, samples, 24_000, "FLOAT")
    elif kind == "no channels":
        soundfile.write(path, samples, 24_000)
        data = bytearray(path.read_bytes())
        data[22:24] = b"\0\0"
        path.write_bytes(data)
    elif kind == "folder without audio":
        path = folder / "folder"
        path.mkdir()
        (path / "readme.txt").write_text("nothing here")
    return path


BAD_AUDIO = ["missing file", "empty file", "zero samples", "text", "truncated", "NaN", "infinite", "no channels"]


@pytest.mark.parametrize("kind", [*BAD_AUDIO, "folder without audio"])
def test_bad_audio_gives_one_line_and_no_output(kind, model, tmp_path, capsys):
    path = make_bad_audio(kind, tmp_path)
    before = files_in(tmp_path)
    assert silk("encode", path, "-o", tmp_path / "out.silk", "-m", model) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("silk: ")
    assert path.name in err
    assert files_in(tmp_path) == before


def damage_model(kind: str, folder: Path) -> str:
    if kind == "unknown name":
        return "silk-enormous"
    make_codec().save_pretrained(folder / "bad")
    config = json.loads((folder / "bad" / "config.json").read_text())
    changes = {
        "impossible strides": {"encoder_strides": [8, 0, 5]},
        "impossible levels": {"levels": 1},
        "weights of other shapes": {"decoder_channels": 32},
    }
    (folder / "bad" / "config.json").write_text(json.dumps({**config, **changes[kind]}))
    return str(folder / "bad")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unknown name", "unknown model 'silk-enormous'"),
        ("impossible strides", "encoder_strides must be"),
        ("impossible levels", "levels must be at least 2, got 1"),
        ("weights of other shapes", "do not fit the configuration"),
    ],
)
def test_bad_model_gives_one_line_and_no_output(kind, message, speech, tmp_path, capsys):
    name = damage_model(kind, tmp_path)
    assert silk("encode", speech, "-m", name) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not speech.with_suffix(".silk").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("magic", "not a .silk file"),
        ("version", "format version is 2"),
        ("header CRC", "header CRC-32"),
        ("block CRC", "block CRC-32"),
        ("truncated", "file size"),
        ("trailing", "file size"),
        ("empty", "speech.silk: is empty (0 bytes), expected a .silk file"),
    ],
)
def test_bad_silk_file_gives_one_line_and_no_output(kind, message, tokens, model, capsys):
    data = bytearray(tokens.read_bytes())
    if kind == "magic":
        data[:4] = b"RIFF"
    elif kind == "version":
        data[8] = 2
    elif kind == "header CRC":
        data[20] ^= 1
    elif kind == "block CRC":
        data[120] ^= 1
    elif kind == "truncated":
        del data[-9:]
    elif kind == "trailing":
        data += b"more"
    elif kind == "empty":
        data.clear()
    tokens.write_bytes(data)
    target = tokens.with_name("out.wav")
    assert silk("decode", tokens, "-o", target, "-m", model) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert files_in(tokens.parent) == ["speech.silk", "speech.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "{d}/a.wav", "{d}/b.wav", "-o", "-"], "standard output takes one file"),
        (["encode", "-", "--json"], "--json and the output file cannot both go to standard output"),
        (["encode", "{d}/twins", "-o", "{d}/out"], "would both become"),
        (["encode", "{d}/a.wav", "--device", "cuda:7"], "device 'cuda:7' is not there"),
        (["compare", "{d}/a.wav", "{d}/a.wav"], "compared with itself"),
        (["decode", "{d}/a.silk", "-o", "{d}/out.xyz"], "cannot write '.xyz', expected one of .wav"),
        (["encode", "{d}/a.wav", "-o", "{d}/a.wav", "-f"], "input and output are the same file"),
        (["encode", "{d}/a.silk"], "a.silk: is named as a .silk file already"),
        (["encode", "{d}/a.wav", "-o", "{d}/b.wav/x.silk"], "b.wav: is no folder, expected one to write into"),
        (["encode", "{d}/missing.wav", "-o", "{d}/new/deep/x.silk"], "missing.wav: No such file or directory"),
        (["encode", "{d}/a\0b.wav"], "no name has a NUL in it"),
        (["encode", "{d}/a.wav", "-o", "{d}/loop.silk"], "loop.silk: cannot be written: Too many levels"),
        (["demo", "{d}/a.wav", "-o", "{d}/b.wav"], "b.wav: is no folder, expected one to write into"),
        (["info", "{d}/twins"], "twins: is a folder, expected a file; silk info -m"),
        (["info", "-m", ""], "a model cannot have an empty name"),
        (["compare", "{d}/a.wav", "{d}/b.wav", "--png", ""], "the picture has no name"),
        (["compare", "-", "-"], "standard input: compared with itself"),
    ],
)
def test_impossible_requests_are_explained(arguments, message, speech, model, tmp_path, capsys):
    if torch.cuda.is_available() and "--device" in arguments:
        pytest.skip("this machine has a GPU")
    (tmp_path / "twins").mkdir()
    for name in ("a.wav", "b.wav", "twins/x.wav", "twins/x.flac"):
        soundfile.write(tmp_path / name, np.zeros(9600), 24_000)
    assert silk("encode", tmp_path / "a.wav", "-m", model, "-q") == 0
    (tmp_path / "loop.silk").symlink_to(tmp_path / "loop.silk")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    with_model = [] if arguments[0] == "compare" or "-m" in arguments else ["-m", model]
    status = silk(*(argument.format(d=tmp_path) for argument in arguments), *with_model)
    assert status == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_wrong_usage_has_status_two(capsys):
    with pytest.raises(SystemExit) as exit_info:
        silk("encode", "a.wav", "--threads", "0")
    assert exit_info.value.code == 2
    assert "expected a whole number >= 1, got '0'" in capsys.readouterr().err


def test_read_only_directory_is_refused(public_path, unprivileged, capsys):
    model = public_path / "model"
    make_codec().save_pretrained(model)
    soundfile.write(public_path / "a.wav", np.zeros(9600), 24_000)
    (public_path / "locked").mkdir(mode=0o555)
    with unprivileged():
        status = silk("encode", public_path / "a.wav", "-o", public_path / "locked" / "a.silk", "-m", model)
    err = capsys.readouterr().err
    assert status == 1
    assert "a.silk: cannot be written: Permission denied" in err
    assert err.count("\n") == 1
    assert not list((public_path / "locked").iterdir())


def test_a_folder_that_cannot_be_read_is_a_failure_and_the_rest_is_done(public_path, unprivileged, capsys):
    make_codec().save_pretrained(public_path / "model")
    for name in ("in/open", "in/locked"):
        (public_path / name).mkdir(parents=True)
        soundfile.write(public_path / name / "a.wav", np.zeros(9600), 24_000)
    (public_path / "in" / "locked").chmod(0)
    out = public_path / "out"
    out.mkdir()
    out.chmod(0o777)
    with unprivileged():
        statuses = [
            silk("encode", public_path / name, "-o", out, "-m", public_path / "model") for name in ("in", "in/locked")
        ]
    assert statuses == [1, 1]
    assert files_in(out) == ["open/a.silk"]
    assert capsys.readouterr().err.count("locked: Permission denied, expected a readable folder\n") == 2


def test_output_directory_that_cannot_be_made_is_refused(speech, model, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert silk("encode", speech, "-o", tmp_path / "file" / "out.silk", "-m", model) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err
