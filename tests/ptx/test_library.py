"""How the machine is compiled and kept."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ptx import library as module


def test_without_a_compiler_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(module.NoCompiler, match=r"needs a C\+\+ compiler"):
        module.library.__wrapped__()


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_only_one_file_is_compiled_for_rounding_modes(monkeypatch, tmp_path):
    monkeypatch.setattr(module.subprocess, "run", lambda command, **options: commands.append(command) or touch(command))
    commands = []

    def touch(command):
        Path(command[command.index("-o") + 1]).write_bytes(b"")

    module._build("c++", module.FLAGS, tmp_path / "cache" / "machine.so")
    own = [c for c in commands if "-frounding-math" in c]
    assert len(own) == 1
    assert own[0][own[0].index("-c") + 1].endswith("directed.cpp")
    assert not any(flag.startswith("-ffast") for c in commands for flag in c)
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.name != "lock"] == ["machine.so"]


def test_processes_that_start_together_compile_once(tmp_path):
    """The one that comes second finds the library that the first has made."""
    path = tmp_path / "machine.so"
    program = f"""
import pathlib, subprocess, time
from tests.ptx import library
def compile(command, **options):
    time.sleep(0.02)
    pathlib.Path(command[command.index("-o") + 1]).write_text("x")
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write("-shared" in command and "linked " or "")
library.subprocess.run = compile
library._build("c++", [], pathlib.Path({str(path)!r}))
"""
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [p.wait() for p in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "linked "
    assert path.exists()
