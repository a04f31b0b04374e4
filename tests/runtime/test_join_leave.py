"""Streams that join and leave at random: what comes out is what whole signals give, and no slot stays taken."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from silk_fast import SilkInputError
from silk_fast.runtime.engine import Engine
from tests.runtime.support import Pretended, as_loaded, clips, pretend, tiny
from tests.support import TINY, make_codec

N_THREADS = 12


def pieces_of(item: Tensor, dim: int, rng: random.Random) -> list[Tensor]:
    """A signal in pieces of every size, some with nothing in them."""
    cuts = sorted(rng.randint(0, item.shape[dim]) for _ in range(rng.randint(0, 5)))
    return list(item.tensor_split(cuts, dim))


@pytest.mark.parametrize(("n_streams", "like_a_gpu"), [(200, False), (60, True)], ids=["", "graphs"])
def test_join_leave(n_streams, like_a_gpu, monkeypatch):
    if like_a_gpu:
        pretend(monkeypatch, Pretended())
    codec = tiny()
    audio = clips(n_streams, 50_000)
    tokens = [codec.encode(clip[None])[0] for clip in audio]
    decoded = [codec.decode(one[None])[0] for one in tokens]

    def run(i: int) -> None:
        rng = random.Random(i)
        way, item, dim = ("encode", audio[i], 1) if i % 3 == 0 else ("decode", tokens[i], 0)
        leaves_early = i % 7 == 3
        with engine.stream(way) as session:
            pieces = pieces_of(item, dim, rng)
            if leaves_early:
                for piece in pieces[: len(pieces) // 2]:
                    session.push(piece)
                return
            if rng.random() < 0.5:
                found = [session.push(piece).result(60) for piece in pieces]
            else:  # without waiting
                found = [future.result(60) for future in [session.push(piece) for piece in pieces]]
            found.append(session.finish().result(60))
        if way == "encode":
            assert torch.equal(torch.cat(found), tokens[i])
        else:
            torch.testing.assert_close(torch.cat(found, -1), decoded[i], rtol=0, atol=1e-5)

    with Engine(codec, n_slots=5, max_queue=n_streams) as engine:
        with ThreadPoolExecutor(N_THREADS) as pool:
            list(pool.map(run, range(n_streams)))
        stats = engine.stats()
        assert (stats.n_busy, stats.n_queued, stats.n_failed) == (0, 0, 0)
        n_early = len(range(3, n_streams, 7))
        assert (stats.n_done, stats.n_cancelled) == (n_streams - n_early, n_early)
        assert [sorted(half.free) for half in engine._driver.halves.values()] == [[*range(5)]] * 2


def test_an_output_delay_is_dropped_once_of_every_signal():
    from silk_fast import SilkConfig

    codec = as_loaded(make_codec(SilkConfig.preset("tiny", output_delay=960)))
    assert codec.model.config.frame_samples == TINY.frame_samples
    audio = clips(6, 40_000)
    with Engine(codec, n_slots=2) as engine:
        for clip in audio:
            whole = codec.model.encode(clip[None])
            assert torch.equal(engine.encode(clip), whole.tokens[0])
            with engine.stream("decode") as session:
                found = [session.push(row[None]).result(60) for row in whole.tokens[0]] + [session.finish().result(60)]
            ours = torch.cat(found, -1)
            assert ours.shape == (1, len(whole.tokens[0]) * 9600 - 960)
            torch.testing.assert_close(ours[:, : clip.shape[1]], codec.model.decode(whole)[0], rtol=0, atol=1e-5)


def test_a_session_that_is_over_says_why():
    with Engine(tiny(), n_slots=1) as engine:
        with engine.stream("decode") as session:
            session.finish().result(60)
            for call in (session.finish, lambda: session.push(torch.zeros(0, 19, dtype=torch.int32))):
                with pytest.raises(SilkInputError, match="the session is over: finish was called"):
                    call()
        session = engine.stream("decode")
        session.close()
        session.close()
        with pytest.raises(SilkInputError, match="the session is over: the session was closed"):
            session.push(torch.zeros(1, 19, dtype=torch.int32))
        assert engine.stats().n_busy == 0
