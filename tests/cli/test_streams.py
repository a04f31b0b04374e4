"""Descriptors, pipes and devices: as outputs they are written to, not replaced; as inputs they are read once."""

import json
import os
import subprocess
import threading
from contextlib import suppress

import numpy as np
import pytest
import soundfile

from silk_fast.container import MAGIC
from silk_fast.runtime.transcode import open_silk
from tests.cli.support import files_in, silk
from tests.support import SILK


def run(*arguments, **kwargs):
    return subprocess.run([SILK, *arguments], capture_output="stdout" not in kwargs, **kwargs)


@pytest.mark.parametrize("name", ["/dev/stdout", "a link"])
def test_standard_output_by_any_name_gets_the_file(name, speech, tokens, model, tmp_path):
    if name == "a link":
        name = tmp_path / "link"
        name.symlink_to("/dev/stdout")
    done = run("encode", speech, "-o", name, "-m", model, "-q")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == tokens.read_bytes()
    assert run("encode", speech, "-o", name, "-m", model, "--json").returncode == 1
    decoded = run("decode", tokens, "-o", name, "-m", model, "-q")
    assert (decoded.returncode, decoded.stderr) == (0, b"")
    assert decoded.stdout[:4] == b"RIFF"
    assert os.path.lexists(name)


def test_a_file_behind_a_descriptor_is_appended_to(speech, tokens, model, tmp_path):
    (tmp_path / "log").write_bytes(b"earlier ")
    with open(tmp_path / "log", "ab") as log:
        assert run("encode", speech, "-o", "/dev/stdout", "-m", model, "-q", stdout=log).returncode == 0
        assert run("encode", speech, "-o", f"/dev/fd/{log.fileno()}", "-m", model, "-q", pass_fds=[log.fileno()])
    assert (tmp_path / "log").read_bytes() == b"earlier " + 2 * tokens.read_bytes()


def read_later(path):
    """Read a named pipe in the background: a thread, and the list that its bytes are added to."""
    found = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread, found


@pytest.mark.parametrize("command", ["encode", "decode", "compare"])
def test_a_named_pipe_is_written_to(command, speech, tokens, model, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    soundfile.write(tmp_path / "b.wav", np.zeros(50_000), 24_000)
    arguments = {
        "encode": ["encode", speech, "-m", model, "-o", tmp_path / "pipe"],
        "decode": ["decode", tokens, "-m", model, "-o", tmp_path / "pipe", "--format", "flac"],
        "compare": ["compare", speech, tmp_path / "b.wav", "--png", tmp_path / "pipe"],
    }[command]
    thread, found = read_later(tmp_path / "pipe")
    assert silk(*arguments) == 0
    thread.join(30)
    assert found[0][:4] == {"encode": MAGIC[:4], "decode": b"fLaC", "compare": b"\x89PNG"}[command]
    assert (tmp_path / "pipe").is_fifo()


def test_a_failure_gives_the_reader_of_a_pipe_nothing(tokens, model, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    tokens.write_bytes(tokens.read_bytes()[:-40] + bytes(40))
    thread, found = read_later(tmp_path / "pipe")
    assert silk("decode", tokens, "-o", tmp_path / "pipe", "-m", model, "--recover", "--bits", "24") == 1
    with suppress(OSError):  # where a reader waits, the pipe was not even opened; else there is none by now
        os.close(os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK))
    thread.join(30)
    assert found == [b""]


@pytest.mark.parametrize("command", ["encode", "decode", "compare"])
def test_the_null_device_stays_a_device(command, speech, tokens, model, tmp_path):
    soundfile.write(tmp_path / "b.wav", np.zeros(50_000), 24_000)
    arguments = {
        "encode": ["encode", speech, "-m", model, "-o"],
        "decode": ["decode", tokens, "-m", model, "-o"],
        "compare": ["compare", speech, tmp_path / "b.wav", "--png"],
    }[command]
    assert silk(*arguments, "/dev/null") == 0
    assert not os.path.isfile("/dev/null")
    assert os.path.exists("/dev/null")


def test_a_descriptor_that_is_closed_is_refused(speech, model, capsys):
    assert silk("encode", speech, "-m", model, "-o", "/dev/fd/987") == 1
    assert "/dev/fd/987: cannot be written: Bad file descriptor" in capsys.readouterr().err


def test_several_inputs_do_not_fit_into_one_stream(speech, model, capsys):
    assert silk("encode", speech, speech.parent, "-m", model, "-o", "/dev/null") == 1
    assert "/dev/null takes one file, got several inputs" in capsys.readouterr().err


def test_the_picture_and_the_numbers_of_compare_do_not_mix(speech, tmp_path):
    soundfile.write(tmp_path / "b.wav", np.zeros(50_000), 24_000)
    for target in ("-", "/dev/stdout"):
        done = run("compare", speech, tmp_path / "b.wav", "--png", target)
        assert done.returncode == 0
        assert done.stdout.startswith(b"\x89PNG")
        assert done.stdout.rstrip().endswith(b"IEND\xaeB`\x82")
        assert b"si_sdr_db" in done.stderr
        assert run("compare", speech, tmp_path / "b.wav", "--png", target, "--json").returncode == 1


@pytest.mark.parametrize("kind", ["silk", "wav"])
@pytest.mark.parametrize("name", ["-", "pipe"])
def test_info_describes_what_comes_through_a_pipe(kind, name, speech, tokens, tmp_path):
    data = (tokens if kind == "silk" else speech).read_bytes()
    if name == "pipe":
        name = tmp_path / "pipe"
        os.mkfifo(name)
        threading.Thread(target=name.write_bytes, args=[data], daemon=True).start()
    done = run("info", name, input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"silk version 1" if kind == "silk" else b"WAV PCM_16") in done.stdout


def test_info_names_standard_input_where_it_is_bad():
    done = run("info", "-", input=b"no audio")
    assert done.returncode == 1
    assert done.stderr.startswith(b"silk: standard input: not audio")


def test_demo_reads_standard_input(speech, model, tmp_path):
    done = run("demo", "-", "-m", model, "-o", tmp_path / "demo", input=speech.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert files_in(tmp_path / "demo") == ["speech.png", "speech.silk", "speech.wav"]


def shell(redirection, *arguments, cwd, unbuffered=""):
    """Run ``silk`` as a shell does, with its standard streams redirected."""
    command = " ".join(["exec", str(SILK), *map(str, arguments), redirection])
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.parametrize(
    ("redirection", "arguments", "message"),
    [
        ("<&-", ["encode", "-", "-o", "a.silk"], "standard input: Bad file descriptor"),
        (">&-", ["info", "speech.wav"], "standard output: cannot be written: it is closed"),
        (">&-", ["info", "speech.wav", "--json"], "standard output: cannot be written: it is closed"),
        (">/dev/full", ["info", "speech.wav"], "standard output: cannot be written: No space left on device"),
        (">/dev/full", ["--help"], "standard output: cannot be written: No space left on device"),
        (">&-", ["encode", "speech.wav", "-o", "/dev/stdout"], "/dev/stdout: cannot be written: Bad file descriptor"),
    ],
    ids=str,
)
def test_standard_streams_that_cannot_be_used_are_named(redirection, arguments, message, speech, model):
    with_model = ["-m", model] if arguments[0] == "encode" else []
    done = shell(redirection, *arguments, *with_model, cwd=speech.parent)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert files_in(speech.parent) == ["speech.wav"]


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 1), (["--version"], 1), (["encode"], 2)], ids=str)
def test_a_full_device_is_noticed_without_a_buffer(arguments, status, tmp_path):
    done = shell(">/dev/full", *arguments, cwd=tmp_path, unbuffered="1")
    assert done.returncode == status
    assert ("standard output: cannot be written: No space left on device" in done.stderr) == (status == 1)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&-", ">&- 2>&-"])
def test_work_goes_on_where_nobody_listens(redirection, speech, model):
    done = shell(redirection, "encode", "speech.wav", "missing.wav", "-o", "out/", "-m", model, cwd=speech.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert files_in(speech.parent) == ["out/speech.silk", "speech.wav"]
    with open_silk(speech.parent / "out" / "speech.silk") as reader:
        assert reader.n_samples == 50_000


def test_pipes_in_a_folder_are_left_alone(speech, model, tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "lost.wav").symlink_to(tmp_path / "nothing")
    done = run("encode", tmp_path, "-m", model)
    assert done.returncode == 1
    assert b"lost.wav: No such file" in done.stderr
    assert b"1 done, 1 failed" in done.stderr


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path):
    for name, level in (("a.wav", 0.0), ("b.wav", 0.5)):
        soundfile.write(tmp_path / name, np.full(50_000, level), 24_000)
    done = run("compare", tmp_path / "a.wav", tmp_path / "b.wav", "--json")
    values = json.loads(done.stdout, parse_constant=lambda text: pytest.fail(text))
    assert values["reference_level_db"] is None


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_audio_far_too_loud_is_noticed_once_a_file(quiet, model, tmp_path, capsys, recwarn):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.full(30_000, 1000.0), 24_000, subtype="FLOAT")
    assert silk("encode", tmp_path, "-m", model, *quiet) == 0
    err = capsys.readouterr().err
    for name in ("a.wav", "b.wav"):
        assert err.count(f"silk: {tmp_path / name}: audio has samples of magnitude 1000") == (not quiet)
    assert not recwarn.list
