"""What only much of shows: memory of many requests and of a day of sound, and shards after many kills. ``make soak``.

``SOAK_REQUESTS``, ``SOAK_KILLS`` and ``SOAK_HOURS`` of the environment say how much. A worker of Ray that is lost is in
``test_tokenize_ray.py``.
"""

import os
import random
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from silk_fast.cpu.library import why_not
from silk_fast.runtime.engine import Engine
from tests.cli.support import silk
from tests.runtime.corpora import digests, parts_in
from tests.runtime.support import accelerated
from tests.support import make_codec

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc to see memory and processes in"),
]

N_REQUESTS = int(os.environ.get("SOAK_REQUESTS", 10_000))
N_KILLS = int(os.environ.get("SOAK_KILLS", 20))
HOURS = float(os.environ.get("SOAK_HOURS", 24))
N_LOOKS, N_WARM = 20, 5  # at memory, and those of them before it has to stay


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_flat(looks: list[int]) -> None:
    """Memory within 5 % of itself, once warm."""
    print("MiB:", *(f"{look / 2**20:.0f}" for look in looks))
    assert len(looks) == N_LOOKS
    assert max(looks[N_WARM:]) <= 1.05 * min(looks[N_WARM:])


def test_soak_memory_of_a_server_stays_what_it_is(codec, model, monkeypatch):
    from tests.runtime.serving import Running
    from tests.runtime.test_serve import ask_mixed, clips_of
    from tests.runtime.test_serve_command import process

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    clips, looks = clips_of(codec), []
    with process("-m", model, "--slots", 4) as (server, url):
        running = Running(SimpleNamespace(codec=codec), int(url.rpartition(":")[2]))
        for i in range(N_LOOKS):
            ask_mixed(running, clips, N_REQUESTS // N_LOOKS, seed=i)
            running.wait_for((0, 0, 0))
            looks.append(resident(server.pid))
    print(f"{N_REQUESTS // N_LOOKS * N_LOOKS} requests")
    assert_flat(looks)


def test_soak_shards_of_a_run_that_was_killed_many_times_are_those_of_one_that_was_not(model, tmp_path):
    pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'silk_fast[tokenize]'")
    from tests.runtime.test_tokenize_identical import command, kill_after, write_long

    (tmp_path / "corpus").mkdir()
    corpus, out, expected = write_long(tmp_path / "corpus", 2 * N_KILLS + 8), tmp_path / "out", tmp_path / "expected"
    assert silk(*command(corpus, expected, model, "--workers", 1)[1:]) == 1
    arguments, chance = command(corpus, out, model, "--workers", 2), random.Random(0)
    killed = [kill_after(arguments, out, len(parts_in(out)) + 1, chance.uniform(0, 0.2)) for _ in range(N_KILLS)]
    assert all(killed)
    print(f"{N_KILLS} kills, the last after {len(parts_in(out))} of {len(parts_in(expected))} parts")
    assert subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 1
    assert digests(out) == digests(expected)


def test_soak_a_day_of_silence_is_finite_and_takes_no_memory():
    if why := why_not():
        pytest.skip(f"too slow: {why}")
    codec, looks = accelerated(make_codec()), []
    piece = torch.zeros(1, 60 * codec.sample_rate)
    n_minutes, n_samples = round(HOURS * 60 / N_LOOKS), 0
    with Engine(codec) as engine, engine.stream("encode") as encoding, engine.stream("decode") as decoding:
        for _ in range(N_LOOKS):
            for _ in range(n_minutes):
                sound = decoding.push(encoding.push(piece).result()).result()
                assert sound.isfinite().all()
                n_samples += sound.shape[-1]
            looks.append(resident(os.getpid()))
    print(f"{n_samples / codec.sample_rate / 3600:.2f} h of silence, peak {sound.abs().max():.3g}")
    assert n_samples == N_LOOKS * n_minutes * piece.shape[-1]
    assert_flat(looks)
