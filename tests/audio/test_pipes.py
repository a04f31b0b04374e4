"""Standard input and output, named pipes, and what importing brings."""

import os
import subprocess
import sys

import numpy as np

from silk_fast.audio import load, save
from tests.audio.support import noise, python, sine


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
    copy = (
        "import shutil, sys; shutil.copyfileobj(*(open(name, mode) for name, mode in zip(sys.argv[1:], ('rb', 'wb'))))"
    )
    with subprocess.Popen([sys.executable, "-c", copy, tmp_path / "a.wav", tmp_path / "pipe"]) as feeder:
        samples = load(tmp_path / "pipe")
    assert feeder.returncode == 0
    assert np.array_equal(samples, load(tmp_path / "a.wav"))


def test_import_is_light():
    code = "import sys, silk_fast.audio; print({'soundfile', 'soxr'} & set(sys.modules))"
    assert python(code)[1].strip() == b"set()"
