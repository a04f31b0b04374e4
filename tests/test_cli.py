"""The silk command, as a person and as a script use it."""

import fcntl
import io
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import silk_fast
from silk_fast import SilkConfig, __version__
from silk_fast.audio import load
from silk_fast.cli import main
from tests.test_codec import make_codec
from tests.test_initialisation import voices

SILK = Path(sys.executable).with_name("silk")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model")
    make_codec().save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def codec():
    return make_codec()


@pytest.fixture
def speech(tmp_path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, voices()[0, 0, :50_000].numpy(), 24_000)
    return path


def silk(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ---------------------------------------------------------------- what works


def test_encode_then_decode_gives_what_the_library_gives(speech, model, codec, capsys):
    assert silk("encode", speech, "-m", model) == 0
    assert (
        silk("decode", speech.with_suffix(".silk"), "-o", speech.with_name("out.wav"), "-m", model, "--bits", "float")
        == 0
    )
    assert files_in(speech.parent) == ["out.wav", "speech.silk", "speech.wav"]
    encoded = codec.encode(torch.from_numpy(load(speech))[None, None])
    expected = codec.decode(encoded.tokens, encoded.lengths)[0, 0].numpy()
    np.testing.assert_allclose(load(speech.with_name("out.wav")), expected, atol=1e-5)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2.08 s, 6 frames, 114 tokens" in captured.err


def test_folders_are_mirrored_and_one_bad_file_does_not_stop_the_rest(speech, model, tmp_path, capsys):
    tree = tmp_path / "in"
    (tree / "deep" / "er").mkdir(parents=True)
    for name in ("a.wav", "deep/b.flac", "deep/er/c.ogg"):
        samples, rate = soundfile.read(speech)
        soundfile.write(tree / name, samples, rate)
    (tree / "deep" / "broken.wav").write_text("this is text")
    (tree / "notes.txt").write_text("not audio")
    assert silk("encode", tree, "-o", tmp_path / "tokens", "-m", model) == 1
    assert files_in(tmp_path / "tokens") == ["a.silk", "deep/b.silk", "deep/er/c.silk"]
    err = capsys.readouterr().err
    assert "broken.wav" in err
    assert "3 done, 1 failed" in err
    assert silk("decode", tmp_path / "tokens", "-o", tmp_path / "out", "-m", model, "--format", "flac") == 0
    assert files_in(tmp_path / "out") == ["a.flac", "deep/b.flac", "deep/er/c.flac"]
    assert soundfile.info(tmp_path / "out" / "a.flac").frames == 50_000


def test_existing_output_is_kept_unless_forced(speech, model, capsys):
    target = speech.with_suffix(".silk")
    target.write_text("precious")
    assert silk("encode", speech, "-m", model) == 1
    assert "exists already, give -f to overwrite" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert silk("encode", speech, "-m", model, "-f") == 0
    assert target.read_bytes().startswith(b"\x89SILK")


def test_json_describes_every_file(speech, model, capsys):
    assert silk("encode", speech, "missing.wav", "-o", speech.parent / "out", "-m", model, "--json", "-q") == 1
    report = json.loads(capsys.readouterr().out)
    assert [row["n_frames"] for row in report["done"]] == [6]
    assert report["done"][0]["seconds"] == pytest.approx(50_000 / 24_000)
    assert report["failed"][0]["input"] == "missing.wav"
    assert "No such file" in report["failed"][0]["error"]


def test_standard_input_and_output_are_pipes(speech, model):
    encode = subprocess.run(
        [SILK, "encode", "-", "-m", model], input=speech.read_bytes(), capture_output=True, check=True
    )
    decode = subprocess.run([SILK, "decode", "-", "-m", model], input=encode.stdout, capture_output=True, check=True)
    samples, rate = soundfile.read(io.BytesIO(decode.stdout))
    assert (len(samples), rate) == (50_000, 24_000)


def test_other_rates_and_stereo_are_converted_with_a_notice(model, tmp_path, capsys):
    stereo = np.random.default_rng(0).uniform(-0.1, 0.1, (44_100, 2))
    soundfile.write(tmp_path / "stereo.wav", stereo, 44_100)
    assert silk("encode", tmp_path / "stereo.wav", "-m", model) == 0
    assert "stereo.wav: 2 channels mixed down to mono" in capsys.readouterr().err
    assert silk("info", tmp_path / "stereo.silk", "--json") == 0
    assert json.loads(capsys.readouterr().out)["described"][0]["samples"] == 24_000


def test_clipped_samples_are_counted(model, tmp_path, capsys):
    loud = make_codec()
    loud.decoder.head.bias.data[: loud.decoder.n_bins] += 6
    loud.save_pretrained(tmp_path / "loud")
    soundfile.write(tmp_path / "a.wav", voices()[0, 0, :9600].numpy(), 24_000)
    assert silk("encode", tmp_path / "a.wav", "-m", tmp_path / "loud") == 0
    capsys.readouterr()
    assert silk("decode", tmp_path / "a.silk", "-o", tmp_path / "b.wav", "-m", tmp_path / "loud") == 0
    assert "samples were beyond full scale and clipped" in capsys.readouterr().err


def test_info_describes_silk_audio_and_model(speech, model, capsys):
    assert silk("encode", speech, "-m", model) == 0
    assert silk("info", speech.with_suffix(".silk"), speech) == 0
    out = capsys.readouterr().out
    for text in ("silk version 1", "128 of 8 levels, 7 to a token", "WAV PCM_16", "intact  True"):
        assert text in out
    assert silk("info", "-m", model, "--json") == 0
    described = json.loads(capsys.readouterr().out)["described"][0]
    assert (described["tokens_per_frame"], described["bits_per_second"]) == (19, 960.0)


def test_compare_measures_and_draws(speech, tmp_path, capsys):
    samples, rate = soundfile.read(speech, dtype="float32")
    soundfile.write(tmp_path / "half.wav", samples / 2, rate, "FLOAT")
    assert silk("compare", speech, tmp_path / "half.wav", "--png", tmp_path / "out.png", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reference_level_db"] - values["other_level_db"] == pytest.approx(6.02, abs=0.01)
    assert values["si_sdr_db"] > 100
    assert 3 < values["log_spectral_distance_db"] < 6.1
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert silk("compare", speech, tmp_path / "half.wav", "--png", tmp_path / "out.png") == 1
    assert "exists already" in capsys.readouterr().err


def test_demo_writes_a_table_and_a_picture(model, tmp_path, capsys):
    assert silk("demo", "-m", model, "-o", tmp_path / "demo") == 0
    out = capsys.readouterr().out
    for name in ("duration_seconds", "frames", "tokens", "bits_per_second", "encode_realtime_factor", "log_spectral"):
        assert name in out
    assert files_in(tmp_path / "demo") == ["speech.png", "speech.silk", "speech.wav"]


def run_on_a_terminal(*command: object) -> tuple[str, int]:
    """What a command writes to a terminal of 40 rows and 120 columns, and its exit status."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen([str(part) for part in command], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:  # Linux: the other end was closed
        pass
    os.close(ours)
    return written.decode(), process.wait()


def test_progress_with_rate_and_remaining_time_on_a_terminal(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(voices()[0, 0].numpy(), 4), 24_000)
    written, status = run_on_a_terminal(SILK, "encode", tmp_path / "a.wav", "-m", model)
    assert status == 0
    assert re.search(r"a\.wav: +[0-9]+%\|.*\| [0-9.]+/23[0-9] \[[0-9:]+<[0-9:]+, .* s/s\]", written), written
    quiet, status = run_on_a_terminal(SILK, "encode", tmp_path / "a.wav", "-m", model, "-q", "-f")
    assert (quiet, status) == ("", 0)


def test_version():
    done = subprocess.run([SILK, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"silk {__version__}\n"


def test_importing_the_package_imports_no_heavy_module():
    modules = "triton soundfile soxr matplotlib scipy transformers huggingface_hub"
    code = (
        f"import silk_fast, sys, torch; print([m for m in {modules.split()!r} if m in sys.modules]); "
        "assert not torch.cuda.is_initialized()"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


# ---------------------------------------------------------------- what is refused


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


def damage_model(kind: str, model: str, folder: Path) -> str:
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
def test_bad_model_gives_one_line_and_no_output(kind, message, speech, model, tmp_path, capsys):
    name = damage_model(kind, model, tmp_path)
    assert silk("encode", speech, "-m", name) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not speech.with_suffix(".silk").exists()


@pytest.fixture
def tokens(speech, model) -> Path:
    assert silk("encode", speech, "-q", "-m", model) == 0
    return speech.with_suffix(".silk")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("magic", "not a .silk file"),
        ("version", "format version is 2"),
        ("header CRC", "header CRC-32"),
        ("block CRC", "block CRC-32"),
        ("truncated", "file size"),
        ("trailing", "file size"),
        ("empty", "not a .silk file"),
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


def test_tokens_of_another_model_need_force(tokens, tmp_path, capsys):
    other = make_codec()
    other.decoder.head.bias.data += 1e-3
    other.save_pretrained(tmp_path / "other")
    target = tokens.with_name("out.wav")
    assert silk("decode", tokens, "-o", target, "-m", tmp_path / "other") == 1
    assert "made by a model with weights" in capsys.readouterr().err
    assert not target.exists()
    assert silk("decode", tokens, "-o", target, "-m", tmp_path / "other", "--force-model") == 0
    assert target.exists()


def test_tokens_of_another_geometry_are_refused_even_with_force(tokens, tmp_path, capsys):
    make_codec(SilkConfig.preset("tiny", output_delay=960)).save_pretrained(tmp_path / "late")
    assert silk("decode", tokens, "-o", tmp_path / "o.wav", "-m", tmp_path / "late", "--force-model") == 1
    assert "not a file for this model: output_delay is 0, the model's is 960" in capsys.readouterr().err


def test_recover_fills_gaps_with_silence_and_says_what_was_lost(model, codec, tmp_path, capsys):
    audio = voices()[0, 0].repeat(2)[: 9600 * 200].numpy()  # 200 frames: blocks of 64, 64, 64 and 8
    soundfile.write(tmp_path / "long.wav", audio, 24_000)
    assert silk("encode", tmp_path / "long.wav", "-q", "-m", model) == 0
    path = tmp_path / "long.silk"
    whole = tmp_path / "whole.wav"
    assert silk("decode", path, "-o", whole, "-q", "-m", model) == 0
    data = bytearray(path.read_bytes())
    data[80 + 3088 + 500] ^= 1  # in the second block
    path.write_bytes(data)
    capsys.readouterr()
    assert silk("info", path) == 1
    assert "intact  False" in capsys.readouterr().out
    assert silk("decode", path, "-o", tmp_path / "out.wav", "-m", model) == 1
    assert not (tmp_path / "out.wav").exists()
    assert silk("decode", path, "-o", tmp_path / "out.wav", "-m", model, "--recover") == 0
    assert "lost 64 frames from frame 64" in capsys.readouterr().err
    expected, found = load(whole), load(tmp_path / "out.wav")
    assert len(found) == len(expected) == len(audio)
    gap = slice(64 * 9600, 128 * 9600)
    assert (found[gap] == 0).all()
    np.testing.assert_allclose(found[: 64 * 9600], expected[: 64 * 9600], atol=1e-4)
    np.testing.assert_allclose(found[140 * 9600 :], expected[140 * 9600 :], atol=1e-4)  # past the decoder's memory


def test_recover_ends_with_the_last_intact_block(model, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", voices()[0, 0, : 9600 * 100].numpy(), 24_000)
    assert silk("encode", tmp_path / "a.wav", "-q", "-m", model) == 0
    path = tmp_path / "a.silk"
    path.write_bytes(path.read_bytes()[: 80 + 3088 + 100])
    assert silk("decode", path, "-o", tmp_path / "b.wav", "-m", model, "--recover") == 0
    assert "36 of 100 frames were lost" in capsys.readouterr().err
    assert soundfile.info(tmp_path / "b.wav").frames == 64 * 9600


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
    ],
)
def test_impossible_requests_are_explained(arguments, message, speech, model, tmp_path, capsys):
    if torch.cuda.is_available() and "--device" in arguments:
        pytest.skip("this machine has a GPU")
    (tmp_path / "twins").mkdir()
    for name in ("a.wav", "b.wav", "twins/x.wav", "twins/x.flac"):
        soundfile.write(tmp_path / name, np.zeros(9600), 24_000)
    assert silk("encode", tmp_path / "a.wav", "-m", model, "-q") == 0
    before = files_in(tmp_path)
    capsys.readouterr()
    status = silk(*(a.format(d=tmp_path) for a in arguments), *(["-m", model] if arguments[0] != "compare" else []))
    assert status == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert files_in(tmp_path) == before


def test_wrong_usage_has_status_two(capsys):
    with pytest.raises(SystemExit) as exit_info:
        silk("encode", "a.wav", "--threads", "0")
    assert exit_info.value.code == 2
    assert "expected a whole number >= 1, got '0'" in capsys.readouterr().err


def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


def test_full_disk_leaves_nothing(tokens, model):
    target = tokens.with_name("out.wav")
    done = subprocess.run(
        [SILK, "decode", tokens, "-o", target, "-m", model], capture_output=True, text=True, preexec_fn=limit_file_size
    )
    assert done.returncode == 1
    assert "out.wav: cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert files_in(tokens.parent) == ["speech.silk", "speech.wav"]


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


def test_output_directory_that_cannot_be_made_is_refused(speech, model, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert silk("encode", speech, "-o", tmp_path / "file" / "out.silk", "-m", model) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err


INTERRUPTED_IMPORT = """
import sys

class Interrupt:
    def find_spec(name, *_):
        if name == "torch":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt)
from silk_fast.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_torch_is_imported_by_commands_only_and_can_be_interrupted(speech):
    def run(*arguments):
        command = [sys.executable, "-c", INTERRUPTED_IMPORT, *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert run("encode", "--help").returncode == 0
    done = run("encode", speech)
    assert (done.returncode, done.stderr) == (130, "silk: interrupted; unfinished files were removed\n")


def test_public_names_are_there_though_imported_late():
    for name in silk_fast.__all__:
        assert getattr(silk_fast, name).__name__ == name
    assert set(silk_fast.__all__) <= set(dir(silk_fast))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        silk_fast.absent  # noqa: B018


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_leaves_no_partial_output(number, model, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(voices()[0, 0].numpy(), 60), 24_000)
    command = [SILK, "encode", tmp_path / "long.wav", "-m", model, "--threads", "1"]
    # A shell without job control starts background jobs deaf to Ctrl-C; these tests may be run by one.
    hear = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".silk-*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.glob(".silk-*.tmp")), "encoding never began to write"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert files_in(tmp_path) == ["long.wav"]
