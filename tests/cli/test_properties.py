"""Whatever is typed and whatever the files hold: a line and a documented status, no traceback, nothing lost."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from silk_fast.cli import main
from silk_fast.container import SilkHeader, SilkWriter
from tests.audio.support import noise, wav_bytes
from tests.support import TINY, make_codec

NAMES = ("a.wav", "b.flac", "c.mp3", "d.silk", "odd.wav", "odd.silk", "odd.mp3", "sub", "sub/a.wav", "it's $x.wav")
SOURCES = (*NAMES, "missing.wav", "", "-", ".", "sub/", "/dev/null", "\udcff.wav", "a\0b.wav", "x" * 300 + ".wav")
TARGETS = (
    *NAMES,
    "new.silk",
    "new.wav",
    "new.png",
    "new",
    "deep/er/new.silk",
    "a.wav/x.silk",
    "loop.silk",
    "",
    "-",
    ".",
    "sub/",
    "/dev/null",
)
VALUES = {
    "-o": TARGETS,
    "--png": TARGETS,
    "--format": ("wav", "flac", "ogg", "opus", "mp3", "xyz", ""),
    "--bits": ("16", "24", "32", "float", "8"),
    "--rate": ("1", "100", "8000", "24000", "1000001", "2147483648", "0", "-1", "x", "9" * 30, "9" * 5000),
    "--threads": ("1", "2", "0", "x", "100000", "9" * 30),
    "--device": ("cpu", "auto", "tpu", "cuda:99", "cuda:" + "9" * 30, "cuda:x", "cpu:1", ""),
    "-m": ("model", "a.wav", "sub", "no-such-model", ""),
}
FLAGS = ("-f", "-q", "--json", "--recover", "--force-model", "--any-suffix")
OPTIONS = {
    "encode": ("-o", "--threads", "--device", "-m", "-f", "-q", "--json", "--any-suffix"),
    "decode": ("-o", "--format", "--bits", "--device", "-m", *FLAGS),
    "info": ("-m", "-q", "--json"),
    "compare": ("--png", "--rate", "-f", "-q", "--json"),
    "demo": ("-o", "--threads", "--device", "-m", "-f", "-q", "--json"),
}


@st.composite
def command_lines(draw):
    """Arguments that mostly mean something."""
    command = draw(st.sampled_from(list(OPTIONS)))
    n_inputs = {"compare": 2, "demo": 1}.get(command) or draw(st.sampled_from([1, 1, 1, 2, 2, 0]))
    line = [command, *draw(st.lists(st.sampled_from(SOURCES), min_size=n_inputs, max_size=n_inputs))]
    for option in draw(st.lists(st.sampled_from(OPTIONS[command]), max_size=4, unique=True)):
        line += [option] if option in FLAGS else [option, draw(st.sampled_from(VALUES[option]))]
    return line


class Contents(dict):
    """Bytes of files by their names, too long to be printed."""

    def __repr__(self):
        return "contents"


@pytest.fixture(scope="module")
def contents(tmp_path_factory) -> Contents:
    """A good file of each kind."""
    folder, found = tmp_path_factory.mktemp("good"), Contents()
    for name in ("a.wav", "b.flac", "c.mp3"):
        soundfile.write(folder / name, noise(4000), 24_000)
        found[name] = (folder / name).read_bytes()
    codec = make_codec()
    header = SilkHeader(
        dims=TINY.latent_dim,
        levels=TINY.levels,
        group_size=TINY.group_size,
        sample_rate=TINY.sample_rate,
        frame_samples=TINY.frame_samples,
        weights_sha256=codec.weights_sha256,
    )
    tokens = io.BytesIO()
    writer = SilkWriter(tokens, header)
    writer.write([[1] * TINY.tokens_per_frame] * 2)
    writer.close(2 * TINY.frame_samples)
    found["d.silk"] = tokens.getvalue()
    return found


@st.composite
def odd_bytes(draw):
    """A good file's name, and how it is spoiled: cut, overwritten in places, and followed by something."""
    cut = draw(st.one_of(st.none(), st.integers(0, 400)))
    changes = draw(st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=8)), max_size=3))
    return cut, changes, draw(st.sampled_from([b"", b"more", b"ID3\4\0\0\0\0\0\5hello", wav_bytes()]))


def spoil(data, how):
    cut, changes, tail = how
    spoilt = bytearray(data[:cut])
    for start, new in changes:
        spoilt[start : start + len(new)] = new
    return bytes(spoilt) + tail


def lay_out(folder, contents, how):
    (folder / "sub").mkdir()
    spoilt = {f"odd{os.path.splitext(name)[1]}": spoil(contents[name], how) for name in ("a.wav", "c.mp3", "d.silk")}
    extra = {"sub/a.wav": contents["a.wav"], "it's $x.wav": contents["a.wav"]}
    for name, data in {**contents, **spoilt, **extra}.items():
        (folder / name).write_bytes(data)
    (folder / "loop.silk").symlink_to("loop.silk")
    os.mkfifo(folder / "sub" / "pipe.wav")


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(line, stdin):
    """The status of a command, and what it wrote to stderr."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with contextlib.redirect_stderr(err):
            try:
                return main(line), err.getvalue()
            except SystemExit as usage:
                return usage.code, err.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=command_lines(), how=odd_bytes(), stdin_name=st.sampled_from(["a.wav", "d.silk", "odd.wav"]))
@example(line=["compare", "a.wav", "b.flac", "--rate", "1"], how=(None, [], b""), stdin_name="a.wav")
def test_any_command_line_ends_as_documented(line, how, stdin_name, contents, model, monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, contents, how)
        monkeypatch.chdir(folder)
        line = [str(model) if part == "model" else part for part in line]
        if line[0] in ("encode", "decode", "demo") and "-m" not in line:
            line += ["-m", str(model)]
        before = snapshot(folder)
        status, err = run(line, (folder / stdin_name).read_bytes())
        after = snapshot(folder)
        folders = [path for path in folder.rglob("*") if path.is_dir()]
        monkeypatch.undo()
    assert status in (0, 1, 2), err
    assert "Traceback" not in err
    if status == 1 and line[0] != "info":
        assert any(part.startswith("silk: ") for part in err.splitlines())
    if "-f" not in line:
        assert {path: after.get(path) for path in before} == before
    assert not [path for path in after if path.name.endswith(".tmp")]
    if status == 2:
        assert after == before
    assert not [path for path in folders if not any(inside.is_relative_to(path) for inside in after)]


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=300), name=st.sampled_from(["a.wav", "b.flac", "c.mp3", "d.silk", None]), how=odd_bytes()
)
def test_any_bytes_are_described_or_refused(data, name, how, contents, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data if name is None else spoil(contents[name], how) + data)
    status, err = run(["info", str(path)], b"")
    assert status in (0, 1)
    assert err.startswith("silk: ") or not err
    assert "Traceback" not in err
