"""``silk encode --codec``, and ``silk decode`` and ``silk info`` of what it writes."""

import argparse
import json
import os
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from silk_fast import acceleration, decode_long, encode_long
from silk_fast.acceleration import Form, Report, Swap
from silk_fast.audio import load
from silk_fast.cli.models import load_other_codec
from silk_fast.codecs import NAMES
from silk_fast.codecs.files import read_codes, write_codes
from silk_fast.codecs.long import cuts_of
from silk_fast.codecs.pretrained import load_model
from tests.cli.support import files_in, silk
from tests.codecs.configurations import TINY
from tests.codecs.saved import save_model
from tests.support import SILK

with suppress(ImportError):  # triton reads the environment once, and is not to read that of these tests
    import silk_fast.kernels  # noqa: F401

N = 5_003  # samples of the recording, which fill no whole frames


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a small codec, saved when it is first asked for; not to be changed."""
    folder = tmp_path_factory.mktemp("codecs")

    def path_of(name: str) -> Path:
        path = folder / name.replace(" ", "-")
        return path if path.exists() else save_model(name, path)

    return path_of


@pytest.fixture
def short(tmp_path, speech) -> Path:
    """A recording of ``N`` samples at 24 kHz."""
    path = tmp_path / "short.wav"
    samples, rate = soundfile.read(speech, dtype="float32")
    soundfile.write(path, samples[20_000 : 20_000 + N], rate)
    speech.unlink()
    return path


def encode(name: str, saved, source: Path, *options: object) -> Path:
    assert silk("encode", "--codec", name.split()[0], "--weights", saved(name), source, "-q", *options) == 0
    return source.with_suffix(".safetensors")


@pytest.mark.parametrize("name", TINY)
def test_decoding_gives_what_the_library_gives_as_long_as_the_original(name, saved, short, capsys):
    path = encode(name, saved, short)
    out = short.with_name("out.wav")
    assert silk("decode", path, "-o", out, "--bits", "float") == 0
    assert files_in(short.parent) == ["out.wav", "short.safetensors", "short.wav"]
    model, codes = load_model(name.split()[0], str(saved(name))), read_codes(path)
    cuts = cuts_of(model)
    audio = torch.from_numpy(load(short, cuts.sample_rate)).expand(1, cuts.n_channels, -1)
    n_samples, samples = audio.shape[-1], soundfile.read(out, dtype="float32", always_2d=True)[0]
    assert samples.shape == (n_samples, cuts.n_channels)
    assert codes.n_samples == n_samples
    if codes.codec != "snac":  # whose decoder adds noise
        if codes.codec in ("dac", "oobleck"):  # which leave out what does not fill a frame
            audio = torch.nn.functional.pad(audio, (0, -n_samples % cuts.hop))
        expected = decode_long(model, encode_long(model, audio))[0].T[:n_samples]
        np.testing.assert_allclose(samples[: len(expected)], expected, atol=1e-5)
        assert n_samples - len(expected) < cuts.hop
        assert (samples[len(expected) :] == 0).all()


def test_the_file_says_what_made_it(saved, short, capsys):
    path = encode("encodec", saved, short, "--bandwidth", 40)
    assert silk("info", path) == 0
    out = capsys.readouterr().out
    n_frames = -(-N // 10)
    for text in ("codes of encodec, version 1", f"tokens [{n_frames}, 2]", "bandwidth 40.0", str(saved("encodec"))):
        assert text in out
    assert silk("info", path, "--json") == 0
    described = json.loads(capsys.readouterr().out)["described"][0]
    assert (described["samples"], described["frames"], described["tokens"]) == (N, n_frames, 2 * n_frames)


@pytest.mark.parametrize("name", ["dac", "mimi"])
def test_fewer_codebooks_are_kept(name, saved, short):
    codes = read_codes(encode(name, saved, short, "--codebooks", 2))
    assert codes.frames.shape[1] == 2
    assert list(codes.options.values()) == [2]
    assert silk("decode", short.with_suffix(".safetensors"), "-o", short.with_name("out.wav")) == 0


def test_other_channels_are_converted(saved, short, tmp_path, capsys):
    samples, rate = soundfile.read(short)
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples / 2], 1), rate)
    assert silk("encode", "--codec", "dac", "--weights", saved("dac"), tmp_path / "stereo.wav") == 0
    assert "stereo.wav: 2 channels mixed down to mono" in capsys.readouterr().err
    soundfile.write(tmp_path / "both.wav", np.stack([samples, samples], 1), rate)
    assert silk("encode", "--codec", "oobleck", "--weights", saved("oobleck"), short, tmp_path / "both.wav",
                tmp_path / "stereo.wav", "-o", tmp_path / "out") == 0  # fmt: skip
    assert "mixed down" not in capsys.readouterr().err
    mono, both, stereo = (read_codes(tmp_path / "out" / f"{n}.safetensors") for n in ("short", "both", "stereo"))
    assert torch.equal(mono.frames, both.frames)
    assert not torch.equal(mono.frames, stereo.frames)


@pytest.mark.parametrize("name", TINY)
def test_a_clip_shorter_than_a_frame_keeps_its_length(name, saved, tmp_path):
    soundfile.write(
        tmp_path / "a.wav", np.full(3, 0.1), 44_100 if name.startswith(("snac", "oob")) else TINY[name].rate
    )
    assert silk("decode", encode(name, saved, tmp_path / "a.wav"), "-o", tmp_path / "b.wav") == 0
    assert soundfile.info(tmp_path / "b.wav").frames == 3


def test_folders_are_mirrored_and_one_bad_file_does_not_stop_the_rest(saved, model, short, tmp_path, capsys):
    samples, rate = soundfile.read(short)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac", "c.wav"):
        soundfile.write(tmp_path / "in" / name, samples, rate)
    (tmp_path / "in" / "bad.wav").write_text("this is text")
    tokens, out = tmp_path / "tokens", tmp_path / "out"
    assert silk("encode", "--codec", "mimi", "--weights", saved("mimi"), tmp_path / "in", "-o", tokens) == 1
    assert files_in(tokens) == ["a.safetensors", "c.safetensors", "deep/b.safetensors"]
    assert "3 done, 1 failed" in capsys.readouterr().err
    assert silk("encode", "-m", model, short, "-o", tokens / "d.silk") == 0
    (tokens / "c.safetensors").write_bytes((tokens / "c.safetensors").read_bytes()[:-5])
    assert silk("decode", tokens, "-o", out, "--format", "flac") == 1  # of the bundled model, d.silk is not
    assert silk("info", tokens / "c.safetensors") == 1
    err = capsys.readouterr().err
    assert err.count("c.safetensors: damaged or cut short") == 2
    assert "d.silk: not a file for this model" in err
    assert files_in(out) == ["a.flac", "deep/b.flac"]
    assert soundfile.info(out / "deep" / "b.flac").frames == N


def test_content_counts_and_not_the_name(saved, short, tmp_path, capsys):
    path = encode("dac", saved, short)
    path.rename(tmp_path / "codes.bin")
    assert silk("decode", tmp_path / "codes.bin", "-o", tmp_path / "out.wav") == 0
    assert silk("info", tmp_path / "codes.bin") == 0
    assert "codes of dac" in capsys.readouterr().out


@pytest.mark.slow
def test_standard_input_and_output(saved, short):
    weights = saved("dac")
    codes = encode("dac", saved, short).read_bytes()
    options = ["--codec", "dac", "--weights", weights, "--no-accelerate"]
    encoded = subprocess.run([SILK, "encode", *options, "-", "-q"], input=short.read_bytes(), capture_output=True)
    assert (encoded.returncode, encoded.stdout, encoded.stderr) == (0, codes, b"")
    decoded = subprocess.run([SILK, "decode", "-", "-o", "-", "-q"], input=codes, capture_output=True)
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    assert decoded.stdout[:4] == b"RIFF"


def test_a_named_pipe_is_read_once(saved, short, tmp_path):
    codes = encode("mimi", saved, short).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[codes], daemon=True).start()
    assert silk("decode", tmp_path / "pipe", "-o", tmp_path / "out.wav") == 0
    assert soundfile.info(tmp_path / "out.wav").frames == N


def test_existing_output_is_kept_unless_forced(saved, short, capsys):
    target = short.with_suffix(".safetensors")
    target.write_text("precious")
    arguments = ["encode", "--codec", "dac", "--weights", saved("dac"), short]
    assert silk(*arguments) == 1
    assert "exists already, give -f to overwrite" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert silk(*arguments, "-f") == 0
    assert silk("decode", target, "-o", short) == 1
    assert "short.wav: exists already" in capsys.readouterr().err
    assert soundfile.info(short).frames == N


@pytest.fixture
def other(saved, tmp_path) -> Path:
    """The folder of a DAC with other weights."""
    model = load_model("dac", str(saved("dac")))
    torch.nn.init.constant_(model.decoder.conv2.bias, 0.25)
    return save_model("dac", tmp_path / "other", model)


def test_codes_of_other_weights_need_force(saved, other, short, capsys):
    path, out = encode("dac", saved, short), short.with_name("out.wav")
    assert silk("decode", path, "-o", out, "--weights", other) == 1
    sha = read_codes(path).weights_sha256
    err = capsys.readouterr().err
    assert f"short.safetensors: made by weights {sha}, but those of {other} are " in err
    assert err.count("\n") == 1
    assert not out.exists()
    assert silk("decode", path, "-o", out, "--weights", other, "--force-model") == 0
    assert out.exists()


def test_weights_that_moved_are_to_be_named(saved, other, short, tmp_path, capsys):
    assert silk("encode", "--codec", "dac", "--weights", other, short) == 0
    other.rename(tmp_path / "elsewhere")
    path, out = short.with_suffix(".safetensors"), tmp_path / "out.wav"
    capsys.readouterr()
    assert silk("decode", path, "-o", out) == 1
    err = capsys.readouterr().err
    assert "short.safetensors: no directory" in err
    assert err.endswith("; give --weights\n")
    assert silk("decode", path, "-o", out, "--weights", tmp_path / "elsewhere") == 0


def test_frames_that_are_too_few_are_refused(saved, short, tmp_path, capsys):
    codes = read_codes(encode("dac", saved, short))
    write_codes(tmp_path / "long.safetensors", replace(codes, n_samples=2 * codes.n_samples))
    assert silk("decode", tmp_path / "long.safetensors", "-o", tmp_path / "out.wav") == 1
    assert f"n_samples is {2 * codes.n_samples}, but its frames hold" in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


DAC, ENCODEC = ["--codec", "dac", "--weights", "{dac}"], ["--codec", "encodec", "--weights", "{encodec}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "{wav}", "--codec", "dac"], "--codec dac needs --weights, a directory or a hub id"),
        (["encode", "{wav}", *DAC, "-m", "x"], "--model is for Silk; with --codec dac give --weights"),
        (["encode", "{wav}", *DAC, "--bandwidth", "0"], "--bandwidth is for encodec, not for dac"),
        (["encode", "{wav}", *ENCODEC, "--codebooks", "2"], "--codebooks is for dac and mimi, not for encodec"),
        (["encode", "{wav}", *ENCODEC, "--bandwidth", "6"], "bandwidth must be one of 10.0, 40.0 (kbit/s), got 6.0"),
        (["encode", "{wav}", *DAC, "--codebooks", "9"], "n_quantizers must be an integer in 1 .. 3, got 9"),
        (["encode", "{wav}", "--weights", "x"], "--weights is for codecs of other libraries; give --codec dac|"),
        (["encode", "{wav}", "--bandwidth", "6"], "--bandwidth is for codecs of other libraries"),
        (["encode", "{wav}", "--codebooks", "2"], "--codebooks is for codecs of other libraries"),
        (["encode", "{wav}", *DAC, "-o", "{d}/x.silk"], "x.silk: codes under '.silk', expected .safetensors"),
        (["encode", "{wav}", "--codec", "dac", "--weights", "{encodec}"], "not weights of DacModel"),
        (["encode", "{wav}", "--codec", "dac", "--weights", ""], "--codec dac needs --weights"),
        (["encode", "{d}/missing.wav", *DAC], "missing.wav: No such file or directory"),
        (["encode", "{wav}", *DAC, "--device", "cuda:7"], "device 'cuda:7' is not there"),
        (["encode", "-", *DAC, "--json"], "--json and the output file cannot both go to standard output"),
        (["decode", "{codes}", "-o", "{d}/o.wav", "-m", "x"], "--model is for .silk files, but this one holds codes"),
        (["decode", "{codes}", "-o", "{d}/o.wav", "--recover"], "--recover is for .silk files, but this one holds"),
        (["decode", "{codes}", "--weights", "{dac}", "--recover"], "--recover is for .silk files; --weights for files"),
        (["decode", "{codes}", "--weights", "{dac}", "-m", "x"], "--model is for .silk files; --weights for files"),
        (["decode", "{wav}", "-o", "{d}/o.wav", "--weights", "{dac}"], "short.wav: holds no codes, expected a file"),
        (["decode", "{codes}", "-o", "{d}/o.xyz"], "cannot write '.xyz', expected one of .wav"),
        (["decode", "{codes}", "--weights", "{encodec}", "-o", "{d}/o.wav"], "not weights of DacModel"),
        (["decode", "{codes}", "--weights", "", "-o", "{d}/o.wav"], "no directory '' to load DacModel from"),
        (["decode", "{d}/none.safetensors"], "none.safetensors: No such file or directory"),
    ],
)  # fmt: skip
def test_impossible_requests_are_explained_and_leave_nothing(arguments, message, saved, short, capsys):
    if torch.cuda.is_available() and "--device" in arguments:
        pytest.skip("this machine has a GPU")
    names = {"wav": short, "d": short.parent, "dac": saved("dac"), "encodec": saved("encodec")}
    if "{codes}" in arguments:
        names["codes"] = encode("dac", saved, short)
    before = files_in(short.parent)
    capsys.readouterr()
    assert silk(*(argument.format(**names) for argument in arguments)) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert files_in(short.parent) == before


def test_unknown_codecs_are_wrong_usage(short, capsys):
    with pytest.raises(SystemExit) as exit_info:
        silk("encode", short, "--codec", "mp3")
    assert exit_info.value.code == 2
    err = capsys.readouterr().err
    assert all(name in err for name in NAMES)


def arguments_of(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{"device": "cpu", "threads": None, "accelerate": None, "weights": "", **changes})


@pytest.mark.parametrize(
    ("option", "interpreted", "is_accelerated"), [(None, "0", True), (None, "1", False), (False, "0", False)]
)
def test_on_a_cpu_it_is_accelerated_unless_asked_not_to(option, interpreted, is_accelerated, saved, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", interpreted)
    found = load_other_codec(arguments_of(accelerate=option), "dac", str(saved("dac")), pytest.fail)
    assert any(isinstance(module, Form) for module in found.model.modules()) == is_accelerated


@pytest.mark.parametrize("name", NAMES)
def test_a_library_that_is_left_alone_is_said_to_be(name, saved, monkeypatch):
    report = Report((Swap("", "Model", "all", None, "it was not tested"),))
    monkeypatch.setattr(acceleration, "accelerate_", lambda model, **policy: report)
    said = []
    transcoder = load_other_codec(arguments_of(accelerate=True), name, str(saved(name)), said.append)
    assert said == [f"{name} runs as {transcoder.library} has it: it was not tested"]
