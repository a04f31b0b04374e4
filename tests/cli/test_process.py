"""The command as a process: pipes, terminals, signals, a full disk, and what importing brings."""

import fcntl
import io
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

import numpy as np
import pytest
import soundfile

import silk_fast
from silk_fast import __version__
from tests.cli.support import files_in
from tests.support import SILK, voices


def test_standard_input_and_output_are_pipes(speech, model):
    encode, decode = ([SILK, command, "-", "-m", model] for command in ("encode", "decode"))
    with (
        subprocess.Popen(encode, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as encoder,
        subprocess.Popen(decode, stdin=encoder.stdout, stdout=subprocess.PIPE) as decoder,
    ):
        encoder.stdin.write(speech.read_bytes())
        encoder.stdin.close()
        decoded, _ = decoder.communicate()
    assert (encoder.returncode, decoder.returncode) == (0, 0)
    samples, rate = soundfile.read(io.BytesIO(decoded))
    assert (len(samples), rate) == (50_000, 24_000)


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
    soundfile.write(tmp_path / "b.wav", voices()[0, 0, :48_000].numpy(), 24_000)
    quiet, status = run_on_a_terminal(SILK, "encode", tmp_path / "b.wav", "-m", model, "-q")
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interruption_leaves_no_partial_output(number, model, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(24_000 * 1800, np.int16), 24_000)
    command = [SILK, "encode", tmp_path / "long.wav", "-m", model, "--threads", "1"]
    # A shell without job control starts background jobs deaf to Ctrl-C; these tests may be run by one.
    hear = partial(signal.signal, number, signal.SIG_DFL)
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
