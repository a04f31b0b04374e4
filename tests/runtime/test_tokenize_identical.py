"""Shards are the same bytes for any number of workers and any kill; one run and one process a folder."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from silk_fast.files import printable
from tests.cli.support import files_in, silk
from tests.runtime.corpora import digests, parts_in, tokenize, tokens_in
from tests.support import SILK, speech

pytest.importorskip("pyarrow")

UNIT_HOURS = 0.005  # 18 s
N_CLIPS = 16


def write_long(folder: Path, n_clips: int) -> Path:
    """Write clips of 20 s, each a unit."""
    for i in range(n_clips):
        samples = speech(480_000, 7_001 * i)[0, 0].numpy()
        soundfile.write(folder / f"{i:02d}.flac", samples, 24_000, "PCM_16")
    (folder / "05bad.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory) -> Path:
    return write_long(tmp_path_factory.mktemp("long"), N_CLIPS)


def command(source: Path, out: Path, model: Path, *more: object) -> list[str]:
    arguments = ["tokenize", source, out, "-m", model, "--unit-hours", UNIT_HOURS, "-q", *more]
    return [str(SILK), *map(str, arguments)]


@pytest.fixture(scope="module")
def expected(long_corpus, model, tmp_path_factory) -> dict[str, str]:
    """Digests of what one process makes without a break."""
    out = tmp_path_factory.mktemp("expected") / "out"
    assert silk(*command(long_corpus, out, model, "--workers", 1)[1:]) == 1
    assert len(parts_in(out)) == N_CLIPS
    assert len(tokens_in(out)) == N_CLIPS
    return digests(out)


def children_of(pid: int) -> set[int]:
    """All processes below a process."""
    try:
        below = {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()
    return below.union(*map(children_of, below))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_after(arguments: list[str], out: Path, n_parts: int, delay: float = 0.0) -> bool:
    """Run a command, and kill it ``delay`` s after there are so many parts; tells whether it was still at work."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(parts_in(out)) < n_parts:
        time.sleep(0.002)
    time.sleep(delay)
    below = children_of(process.pid)
    process.kill()
    status = process.wait()
    deadline = time.monotonic() + 10
    while any(map(runs, below)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in below if runs(pid)], "workers outlive the run"
    return status == -signal.SIGKILL


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc to see processes in")
@pytest.mark.parametrize("n_kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_shards_of_a_run_that_was_killed_and_resumed_are_identical(n_kills, long_corpus, expected, model, tmp_path):
    out = tmp_path / "out"
    arguments = command(long_corpus, out, model, "--workers", 2)
    n_killed = 0
    for i in range(n_kills):
        n_killed += kill_after(arguments, out, (i + 1) * N_CLIPS // (n_kills + 2))
        for path in parts_in(out):
            assert digests(out)[path.name] == expected[path.name]
    assert n_killed == n_kills
    n_before = len(parts_in(out))
    assert 0 < n_before < N_CLIPS
    (out / ".silk-0123456789abcdef.tmp").write_bytes(b"unfinished")
    times = {path: path.stat().st_mtime_ns for path in parts_in(out)}
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{n_before} parts were there already" in done.stdout
    assert digests(out) == expected
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


@pytest.mark.slow
def test_an_interrupted_run_ends_soon_and_can_be_resumed(long_corpus, expected, model, tmp_path):
    out = tmp_path / "out"
    arguments = command(long_corpus, out, model, "--workers", 2)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not parts_in(out):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "silk: interrupted; unfinished files were removed\n"
    assert not [name for name in files_in(out) if name.endswith(".tmp")]
    assert silk(*command(long_corpus, out, model, "--workers", 1)[1:]) == 1
    assert digests(out) == expected


def test_a_finished_run_is_not_done_again(corpus, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert tokenize(corpus, out, model) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert silk("tokenize", corpus, out, "-m", model) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert "1 parts were there already" in capsys.readouterr().out


def test_an_output_within_the_source_is_no_part_of_it(corpus, model, tmp_path):
    for _ in range(2):
        assert tokenize(corpus, corpus / "out", model) == 0
    assert tokenize(corpus, corpus, model) == 1
    assert tokenize(corpus, tmp_path / "out", model) == 0
    assert tokens_in(corpus / "out") == tokens_in(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("unit", "unit_hours 1.0, expected 0.5"),
        ("limit", "max_hours 24.0, expected 1.0"),
        ("kind", "to parquet, expected webdataset"),
        ("model", "weights_sha256"),
        ("inputs", "holds the plan of other inputs"),
        ("no plan", "has part-00000.parquet but no plan.parquet"),
        ("broken plan", "is no plan of silk tokenize"),
    ],
)
def test_the_output_of_another_run_is_refused_and_left_as_it_was(change, message, corpus, model, tmp_path, capsys):
    out = tmp_path / "out"
    assert tokenize(corpus, out, model) == 0
    options: list[object] = {
        "unit": ["--unit-hours", 0.5],
        "limit": ["--max-hours", 1],
        "kind": ["--to", "webdataset"],
    }.get(change, [])
    if change == "model":
        model = other_model(tmp_path)
    elif change == "inputs":
        (corpus / "zoe.flac").rename(corpus / "zoe2.flac")
    elif change == "no plan":
        (out / "plan.parquet").unlink()
    elif change == "broken plan":
        (out / "plan.parquet").write_bytes(b"PAR1 and more")
    before = digests(out)
    assert tokenize(corpus, out, model, *options) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert digests(out) == before


def other_model(folder: Path) -> Path:
    from silk_fast import SilkCodec
    from tests.support import TINY

    SilkCodec(TINY, weight_norm=False, seed=5).save_pretrained(folder / "other")
    return folder / "other"


def test_one_process_at_a_time(corpus, model, tmp_path, capsys):
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert tokenize(corpus, out, model) == 1
        assert "another process makes tokens there" in capsys.readouterr().err
        assert files_in(out) == [".lock"]
    assert tokenize(corpus, out, model) == 0


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_of(long_corpus, model, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(command(long_corpus, out, model, "--workers", 2), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not parts_in(out):
        time.sleep(0.002)
    workers = [pid for pid in children_of(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "a process that makes tokens was killed" in err
    assert err.count("\n") == 1
    assert printable(err.strip()) == err.strip()
    assert np.all([path.stat().st_size for path in parts_in(out)])
