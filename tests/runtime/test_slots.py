"""In whichever slot, whoever is in the others: the tokens of a clip are those that it has alone."""

import pytest
import torch
from torch import Tensor

from silk_fast.runtime.engine import Engine
from tests.runtime.support import Pretended, bundled, clips, pretend

N_CLIPS, LONGEST = 40, 60_000
EXACT, IN_THREES = {"deterministic": True}, {"step_frames": 3}


@pytest.fixture(scope="module")
def alone() -> list[tuple[Tensor, Tensor]]:
    """Clips, and what ``codec.encode`` makes of each."""
    codec = bundled()
    return [(clip, codec.model.encode(clip[None]).tokens[0]) for clip in clips(N_CLIPS, LONGEST)]


def assert_alone(engine: Engine, alone: list[tuple[Tensor, Tensor]]) -> None:
    futures = [engine.submit("encode", clip) for clip, _ in alone]
    for future, (_, tokens) in zip(futures, alone, strict=True):
        assert torch.equal(future.result(60), tokens)


@pytest.mark.parametrize(("n_slots", "options"), [(1, {}), (4, {}), (8, {}), (4, EXACT), (8, IN_THREES)])
def test_slots_give_what_clips_give_alone(n_slots, options, alone):
    with Engine(bundled(), n_slots=n_slots, max_queue=N_CLIPS, **options) as engine:
        assert_alone(engine, alone)
        stats = engine.stats()
    assert (stats.n_done, stats.n_busy, stats.n_queued) == (N_CLIPS, 0, 0)
    assert stats.n_frames == sum(len(tokens) for _, tokens in alone)


@pytest.mark.parametrize(("n_slots", "options"), [(1, {}), (4, {}), (8, EXACT), (4, IN_THREES)])
def test_slots_as_on_a_gpu_give_what_clips_give_alone(n_slots, options, alone, monkeypatch):
    device = Pretended()
    pretend(monkeypatch, device)
    with Engine(bundled(), n_slots=n_slots, max_queue=N_CLIPS, **options) as engine:
        assert_alone(engine, alone[:16])
    assert device.n_captured >= 1


@pytest.mark.parametrize("n_slots", [4, 8])
def test_all_slots_give_the_same(n_slots, alone):
    clip, tokens = max(alone, key=lambda pair: len(pair[1]))
    expected = bundled().decode(tokens[None])[0]
    with Engine(bundled(), n_slots=n_slots, deterministic=True) as engine:
        encoding = [engine.stream("encode") for _ in range(n_slots)]
        decoding = [engine.stream("decode") for _ in range(n_slots)]
        assert engine.stats().n_busy == 2 * n_slots
        futures = [session.push(clip) for session in encoding], [session.push(tokens) for session in decoding]
        rests = [session.finish() for session in encoding]
        found = [
            torch.cat([future.result(60), rest.result(60)]) for future, rest in zip(futures[0], rests, strict=True)
        ]
        audio = [future.result(60) for future in futures[1]]
        assert {session.finish().result(60).shape[-1] for session in decoding} == {0}
    assert all(torch.equal(one, tokens) for one in found)
    for one in audio:
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-5)
        assert torch.equal(one, audio[0])


@pytest.mark.parametrize("n_slots", [1, 4, 8])
def test_slots_decode_what_clips_give_alone(n_slots, alone):
    with Engine(bundled(), n_slots=n_slots, max_queue=N_CLIPS) as engine:
        futures = [engine.submit("decode", tokens) for _, tokens in alone]
        for future, (_, tokens) in zip(futures, alone, strict=True):
            torch.testing.assert_close(future.result(60), bundled().decode(tokens[None])[0], rtol=0, atol=1e-5)


def test_a_signal_that_waits_for_its_next_piece_stays_where_it_is(alone):
    """Its neighbour goes on meanwhile."""
    (first, tokens), (second, others) = sorted(alone, key=lambda pair: len(pair[1]))[-2:]
    with Engine(bundled(), n_slots=2, deterministic=True) as engine:
        audio = bundled().decode(tokens[None])[0]
        with engine.stream("decode") as slow, engine.stream("encode") as slow_too:
            found, encoded = [slow.push(tokens[:3]).result(60)], [slow_too.push(first[:, :30_000]).result(60)]
            engine.decode(others)
            assert torch.equal(engine.encode(second), others)
            found += [slow.push(tokens[3:]).result(60), slow.finish().result(60)]
            encoded += [slow_too.push(first[:, 30_000:]).result(60), slow_too.finish().result(60)]
    torch.testing.assert_close(torch.cat(found, -1), audio, rtol=0, atol=1e-5)
    assert torch.equal(torch.cat(encoded), tokens)


@pytest.mark.parametrize("deterministic", [False, True])
def test_each_may_go_on_without_the_others(deterministic, alone):
    longest = sorted((tokens for _, tokens in alone), key=len)[-3:]
    with Engine(bundled(), n_slots=3, deterministic=deterministic) as engine:
        sessions = [engine.stream("decode") for _ in longest]
        found: list[list[Tensor]] = [[], [], []]
        for turn in ([0, 1, 2], [1], [0, 2], [2], [0], [0, 1, 2]):
            futures = [(i, sessions[i].push(longest[i][len(found[i])][None])) for i in turn]
            for i, future in futures:
                found[i].append(future.result(60))
    for tokens, parts in zip(longest, found, strict=True):
        expected = bundled().decode(tokens[None, : len(parts)])[0]
        torch.testing.assert_close(torch.cat(parts, -1), expected, rtol=0, atol=1e-5)


def test_what_cannot_be_captured_runs_eagerly_and_says_so(alone, monkeypatch):
    pretend(monkeypatch, Pretended("a copy from memory that is not pinned\nand more"))
    with Engine(bundled(), n_slots=4, max_queue=N_CLIPS) as engine:
        with pytest.warns(match="run eagerly, for no CUDA graph can be made of them: a copy from memory that is not"):
            assert_alone(engine, alone[:8])
        assert set(engine.stats().why_eager.values()) == {"a copy from memory that is not pinned"}
        assert set(engine.stats().why_eager) <= {"encode 1 x 1 frames", "encode 4 x 1 frames"}
