"""Shards are the same bytes whether the process that encodes reads or others do; a reader that is lost is told of."""

import json
import os
import signal
import subprocess
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import soundfile

from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.runtime.codec import open_codec
from tests.cli.support import files_in, silk
from tests.codecs.configurations import TINY
from tests.codecs.saved import save_model
from tests.runtime.corpora import digests, parts_in, tokenize, write_folder, write_parquet, write_tar
from tests.runtime.test_tokenize_errors import bad_files
from tests.runtime.test_tokenize_identical import children_of, command, kill_after, write_long
from tests.support import speech

pytest.importorskip("pyarrow")

from silk_fast.runtime.tokenize.blocks import Form, hear
from silk_fast.runtime.tokenize.readers import N_AHEAD, ReaderLostError, Readers, Work, _causes, _chained
from silk_fast.runtime.tokenize.run import tokenize as tokenize_from_python


def write_parts(folder: Path, clips: dict[str, bytes]) -> Path:
    """A manifest of parts, of recordings longer than readers may be ahead, and of one that is damaged at its end."""
    folder.mkdir()
    soundfile.write(folder / "long.flac", speech(24_000 * 130)[0, 0].numpy(), 24_000)
    soundfile.write(folder / "late.wav", np.r_[speech(24_000 * 130)[0, 0].numpy(), np.nan], 24_000, "FLOAT")
    rows = [{"path": "long.flac", "id": "first", "end": 1.0}, {"path": "long.flac", "id": "later", "start": 90.0}]
    rows += [{"path": "late.wav", "id": "late", "end": 1.0}, {"path": "late.wav"}, {"path": "nowhere.wav"}]
    rows += [{"path": "long.flac", "id": "end", "start": 100.0, "end": 200.0}, {"path": "zoe.flac"}]
    rows += [{"path": "late.wav", "id": "begun", "end": 1.0}, {"path": "long.flac", "id": "begun too", "end": 1.0}]
    write_folder(folder, clips)
    (folder / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "m.jsonl"


def write_bad_folder(folder: Path, clips: dict[str, bytes]) -> Path:
    write_folder(folder, clips)
    bad_files(folder)
    return folder


SOURCES = {
    "folder": write_bad_folder,
    "parts": write_parts,
    "tar": lambda folder, clips: write_tar(folder.with_suffix(".tar"), {**clips, "bad": b"RIFF"}),
    "tar.gz": lambda folder, clips: write_tar(folder.with_suffix(".tar.gz"), clips, "w:gz"),
    "parquet": lambda folder, clips: write_parquet(folder.with_suffix(".parquet"), {**clips, "none": b""}),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("unit_hours", [0.0005, pytest.param(1.0, marks=pytest.mark.slow)])
def test_shards_of_a_run_with_readers_are_identical(source, unit_hours, clips, model, tmp_path):
    path = SOURCES[source](tmp_path / "in", clips)
    more = ("--unit-hours", unit_hours, "--max-hours", 0.05)
    status = tokenize(path, tmp_path / "out", model, *more)
    assert tokenize(path, tmp_path / "read", model, *more, "--readers", 2) == status
    assert digests(tmp_path / "read") == digests(tmp_path / "out")
    assert len(parts_in(tmp_path / "out")) >= (1 if unit_hours == 1.0 else 2)


def test_shards_of_a_codec_of_two_channels_are_identical(corpus, tmp_path):
    pytest.importorskip("transformers", reason="no transformers: pip install 'silk_fast[codecs]'")
    soundfile.write(corpus / "two.wav", np.stack([speech(50_000)[0, 0].numpy(), np.zeros(50_000)], 1), 48_000)
    weights = save_model("encodec", tmp_path / "model", TINY["encodec"].build(audio_channels=2))
    assert open_codec("encodec", str(weights)).n_channels == 2
    arguments = ("tokenize", corpus, "--codec", "encodec", "--weights", weights, "-q", "--workers", 1)
    for out, more in (("out", ()), ("read", ("--readers", 2))):
        assert silk(*arguments[:2], tmp_path / out, *arguments[2:], *more) == 0
    assert digests(tmp_path / "read") == digests(tmp_path / "out")


def test_a_reader_that_is_killed_ends_the_run_without_a_shard(corpus, model, tmp_path):
    def kill(n_done: float, n_total: float) -> None:
        for reader in active_children():
            reader.kill()

    soundfile.write(corpus / "b.flac", speech(24_000 * 130)[0, 0].numpy(), 24_000)
    with pytest.raises(ReaderLostError, match="expected it to finish; run again to go on"):
        tokenize_from_python(corpus, tmp_path / "out", weights=str(model), readers=2, progress=kill)
    assert sorted(files_in(tmp_path / "out")) == [".lock", "plan.parquet"]
    assert not active_children()


@pytest.mark.slow
def test_a_command_whose_reader_is_killed_says_so_and_can_go_on(model, tmp_path):
    (tmp_path / "in").mkdir()
    corpus, out = write_long(tmp_path / "in", 12), tmp_path / "out"
    assert silk(*command(corpus, tmp_path / "expected", model, "--workers", 1)[1:]) == 1
    arguments = command(corpus, out, model, "--readers", 2)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not parts_in(out):
        time.sleep(0.002)
    readers = [pid for pid in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(readers) == 2
    os.kill(readers[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("silk: a process that reads recordings was killed or could not begin")
    assert err.count("\n") == 1
    assert not [name for name in files_in(out) if name.endswith(".tmp")]
    expected = digests(tmp_path / "expected")
    assert 0 < len(parts_in(out)) < len(parts_in(tmp_path / "expected"))
    assert all(digests(out)[path.name] == expected[path.name] for path in parts_in(out))
    assert kill_after(arguments, out, len(parts_in(out)) + 1)  # and no reader outlives it
    assert silk(*arguments[1:]) == 1
    assert digests(out) == expected


@pytest.fixture
def work(tmp_path, clips, model) -> Work:
    """Readers of a plan of a recording that is longer than they may be ahead, between others."""
    write_folder(tmp_path / "in", clips)
    soundfile.write(tmp_path / "in" / "b.flac", speech(24_000 * 20)[0, 0].numpy(), 24_000)
    assert tokenize(tmp_path / "in", tmp_path / "out", model) == 0
    form = Form(24_000, 1, 24_000)
    return Work(str(tmp_path / "out" / "plan.parquet"), [0, 0], "files", str(tmp_path / "in"), form, 2)


def test_readers_give_the_blocks_of_every_unit_and_pass_over_what_is_not_wanted(work):
    from silk_fast.runtime.tokenize.plan import read_unit

    expected = []
    for inputs, opening in hear(work.kind, work.root, read_unit(work.plan, 0), work.form):
        with opening as sound:
            expected.append((inputs, sound.sha256, sound.n_samples, list(sound.blocks)))
    assert max(len(blocks) for *_, blocks in expected) > N_AHEAD
    with Readers(work) as readers:
        for n_wanted in (100, 1):
            found = list(expected)
            for inputs, opening in readers.hear([]):
                with opening as sound:
                    blocks = [block for block, _ in zip(sound.blocks, range(n_wanted), strict=False)]
                    first = found.pop(0)
                    assert (inputs, sound.sha256, sound.n_samples) == first[:3]
                    assert all(map(np.array_equal, blocks, first[3]))
                    assert len(blocks) == min(n_wanted, len(first[3]))
            assert not found
        processes = [taker.process for taker in readers._takers]
    assert not any(process.is_alive() for process in processes)


def test_a_lost_reader_is_an_error_of_its_own(work):
    with Readers(work) as readers:
        for taker in readers._takers:
            taker.process.kill()
        with pytest.raises(ReaderLostError, match="was killed"):
            list(readers.hear([]))


def test_what_breaks_a_reader_is_raised_here(work, tmp_path):
    Path(work.plan).write_bytes(b"PAR1")
    with Readers(work) as readers, pytest.raises(Exception, match="Parquet"):
        next(readers.hear([]))


def test_errors_are_sent_with_their_causes():
    class Odd(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} and {two}")

    error = SilkAudioError("a: is not there")
    error.__cause__ = OSError(28, "No space left on device")
    error.__cause__.__cause__ = Odd(1, 2)
    found = _chained(_causes(error))
    assert (type(found), str(found)) == (SilkAudioError, "a: is not there")
    assert (type(found.__cause__), found.__cause__.errno) == (OSError, 28)
    odd = found.__cause__.__cause__
    assert (type(odd).__name__, str(odd), odd.__cause__) == ("Odd", "1 and 2", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readers": -1}, "readers must be an integer >= 0, got -1"),
        ({"readers": True}, "readers must be an integer >= 0, got True"),
        ({"readers": 1, "workers": 2}, "readers feed one worker of the engine local, got 2"),
        ({"readers": 1, "engine": "ray"}, "readers feed one worker of the engine local"),
    ],
)
def test_readers_that_are_impossible(options, message, corpus, model, tmp_path):
    with pytest.raises(SilkInputError, match=message):
        tokenize_from_python(corpus, tmp_path / "out", weights=str(model), **options)
    assert not (tmp_path / "out").exists()
