"""Shards that a Ray cluster makes are those of one process, also where an actor is killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from silk_fast import SilkInputError
from tests.runtime.corpora import digests, parts_in, tokenize, write_folder
from tests.support import SILK

pytest.importorskip("pyarrow")


def test_actors_leave_ray_data_what_it_needs():
    from silk_fast.runtime.tokenize.ray_pool import actors_and_cpus

    assert actors_and_cpus(None, 1) == (1, 0.5)
    assert actors_and_cpus(None, 2) == (2, 0.5)
    assert actors_and_cpus(1, 2) == (1, 1.0)
    assert actors_and_cpus(None, 64) == (63, 1.0)
    assert actors_and_cpus(64, 64) == (64, 0.5)
    for n in range(1, 9):
        for workers in (None, *range(1, n + 1)):
            n_actors, n_cpus = actors_and_cpus(workers, n)
            assert n_actors * n_cpus < n
    with pytest.raises(SilkInputError, match="workers must be at most 2, the CPUs of the Ray cluster, got 3"):
        actors_and_cpus(3, 2)


def actors() -> list[int]:
    """Processes of Ray that make units."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"MapWorker(MapBatches(_Worker))" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="no /proc to see processes in")
def test_shards_of_a_cluster_of_which_an_actor_is_killed_are_identical(clips, model, tmp_path):
    pytest.importorskip("ray", reason="no ray: pip install 'silk_fast[ray]'")
    corpus = tmp_path / "corpus"
    for i in range(12):
        write_folder(corpus / f"{i:02d}", clips)
    (corpus / "bad.wav").write_bytes(b"RIFF")
    assert tokenize(corpus, tmp_path / "expected", model, "--unit-hours", 0.0005) == 1
    n_parts = len(parts_in(tmp_path / "expected"))
    out = tmp_path / "out"
    arguments = [SILK, "tokenize", corpus, out, "-m", model, "-q", "--unit-hours", 0.0005, "--engine", "ray"]
    command = [str(part) for part in (*arguments, "--workers", 2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and len(parts_in(out)) < n_parts // 2:
            time.sleep(0.01)
        before = actors()
        os.kill(before[0], signal.SIGKILL)
        printed, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "60 done, 1 failed" in printed
    assert digests(out) == digests(tmp_path / "expected")
    assert before
