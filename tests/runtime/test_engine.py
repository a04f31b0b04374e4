"""What callers can do to an engine: cancel, wait too long, ask too much, hand in nonsense, leave; and batches."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from silk_fast import SilkBusyError, SilkInputError, SilkTimeoutError
from silk_fast.reference.pretrained import weights_sha256
from silk_fast.runtime.codec import Loaded, OfLibrary
from silk_fast.runtime.engine import Engine
from silk_fast.runtime.steps import Decoding, Encoding
from tests.codecs.configurations import TINY as OTHERS
from tests.runtime.support import Pretended, clips, pretend, tiny
from tests.support import FRAME, speech


class Gate:
    """Holds the model up until it is opened; ``reached`` is set when it is held up."""

    def __init__(self) -> None:
        self.reached, self._may_go = threading.Event(), threading.Event()

    def open(self) -> None:
        self._may_go.set()

    def wait(self) -> None:
        self.reached.set()
        assert self._may_go.wait(30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    for direction in (Encoding, Decoding):
        run = direction.run

        def held_up(self, inputs, state, run=run):
            gate.wait()
            return run(self, inputs, state)

        monkeypatch.setattr(direction, "run", held_up)
    yield gate
    gate.open()


def tokens_of(n_frames: int) -> Tensor:
    return tiny().encode(speech(n_frames * FRAME))[0]


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_whole_signals_of_many_threads_are_what_they_are_alone():
    audio = clips(60, 60_000)
    expected = [tiny().encode(clip[None])[0] for clip in audio]
    with Engine(tiny(), n_slots=3, max_queue=60) as engine, ThreadPoolExecutor(8) as pool:
        for ours, theirs in zip(pool.map(engine.encode, audio), expected, strict=True):
            assert torch.equal(ours, theirs)
        for ours, theirs in zip(pool.map(engine.decode, expected), expected, strict=True):
            torch.testing.assert_close(ours, tiny().decode(theirs[None])[0], rtol=0, atol=1e-5)
        stats = engine.stats()
    assert (stats.n_done, stats.n_failed, stats.n_busy) == (120, 0, 0)
    assert stats.seconds_busy > 0


def test_asyncio_waits_for_futures():
    async def run() -> list[Tensor]:
        return await asyncio.gather(*(asyncio.wrap_future(engine.submit("encode", clip)) for clip in audio))

    audio = clips(9, 30_000)
    with Engine(tiny()) as engine:
        found = asyncio.run(run())
    assert all(torch.equal(one, tiny().encode(clip[None])[0]) for one, clip in zip(found, audio, strict=True))


def test_a_full_queue_is_refused_and_what_was_taken_in_is_done(gate):
    with Engine(tiny(), n_slots=2, max_queue=3) as engine:
        futures = [engine.submit("encode", speech(FRAME)[0]) for _ in range(5)]
        with pytest.raises(SilkBusyError, match="3 signals wait already, of at most 3"):
            engine.submit("encode", speech(FRAME)[0])
        with pytest.raises(SilkBusyError, match="3 signals wait already"):
            engine.stream("encode")
        assert (engine.stats().n_busy, engine.stats().n_queued) == (2, 3)
        gate.open()
        assert {future.result(60).shape for future in futures} == {(1, 19)}
        assert (engine.stats().n_busy, engine.stats().n_queued) == (0, 0)


def test_a_stream_whose_pieces_pile_up_is_refused_more(gate):
    with Engine(tiny(), n_slots=1, max_queue=2) as engine, engine.stream("decode") as session:
        tokens = tokens_of(3)
        futures = [session.push(row[None]) for row in tokens[:2]]
        with pytest.raises(SilkBusyError, match="2 pieces wait already"):
            session.push(tokens[2:])
        gate.open()
        found = [future.result(60) for future in futures] + [session.push(tokens[2:]).result(60)]
        torch.testing.assert_close(torch.cat(found, -1), tiny().decode(tokens[None])[0], rtol=0, atol=1e-5)


def test_cancelling_frees_the_slot_for_who_waits(gate):
    tokens = tokens_of(2)
    with Engine(tiny(), n_slots=1) as engine:
        first, second, third = (engine.submit("decode", tokens) for _ in range(3))
        assert gate.reached.wait(20)
        assert second.cancel()
        assert engine.stats().n_queued == 1
        assert first.cancel()
        assert (engine.stats().n_queued, engine.stats().n_busy) == (0, 1)
        gate.open()
        torch.testing.assert_close(third.result(60), tiny().decode(tokens[None])[0], rtol=0, atol=1e-5)
        for future in (first, second):
            with pytest.raises(CancelledError):
                future.result(0)
        stats = engine.stats()
    assert (stats.n_done, stats.n_cancelled, stats.n_failed, stats.n_busy) == (1, 2, 0, 0)


def test_cancelling_a_piece_ends_its_stream(gate):
    with Engine(tiny(), n_slots=1) as engine:
        session = engine.stream("decode")
        first, second = session.push(tokens_of(1)), session.push(tokens_of(1))
        assert gate.reached.wait(20)
        assert second.cancel()
        gate.open()
        with pytest.raises(SilkInputError, match="one of its futures was cancelled"):
            first.result(20)
        with pytest.raises(SilkInputError, match="the session is over: one of its futures was cancelled"):
            session.push(tokens_of(1))
        assert engine.stats().n_busy == 0


def test_what_takes_too_long_fails_and_frees_its_slot(gate):
    with Engine(tiny(), n_slots=1, step_frames=1) as engine:
        late = engine.submit("decode", tokens_of(3), timeout=0.05)
        waits = engine.submit("decode", tokens_of(1), timeout=0.05)
        patient = engine.submit("decode", tokens_of(1))
        assert gate.reached.wait(20)
        time.sleep(0.1)
        gate.open()
        for future in (late, waits):
            with pytest.raises(SilkTimeoutError, match="longer than its time-out"):
                future.result(20)
        assert patient.result(60).shape == (1, FRAME)
        stats = engine.stats()
    assert (stats.n_done, stats.n_failed, stats.n_busy) == (1, 2, 0)


def test_a_stream_of_which_nothing_comes_loses_its_slot():
    with Engine(tiny(), n_slots=1) as engine:
        idle = engine.stream("encode", timeout=0.05)
        idle.push(speech(10)[0]).result(20)
        until(lambda: engine.stats().n_busy == 0)
        with pytest.raises(SilkInputError, match="the session is over: it took longer than its time-out"):
            idle.push(speech(10)[0])
        assert torch.equal(engine.encode(speech(FRAME)[0]), tokens_of(1))


@pytest.mark.parametrize("like_a_gpu", [False, True], ids=["", "graphs"])
def test_refused_pieces_fail_alone(like_a_gpu, monkeypatch):
    if like_a_gpu:
        pretend(monkeypatch, Pretended())
    audio = speech(3 * FRAME)[0]
    with Engine(tiny(), n_slots=4) as engine:
        with engine.stream("encode") as session:
            found = [session.push(audio[:, :FRAME])]
            bad = {
                "audio must be finite, got NaN": session.push(audio * torch.nan),
                r"audio must be floating-point \[1, T\], got": session.push(audio[0]),
                r"audio must be \[B?1?, 1, T\], got shape \(1, 2, 3\)": session.push(torch.zeros(2, 3)),
                "audio must be a floating-point tensor": session.push(audio.int()),
                "audio must be finite, got NaN or inf": engine.submit("encode", audio / 0),
                r"audio must be \[B, 1, T\] with at least one sample": engine.submit("encode", audio[:, :0]),
                r"tokens must be int32 or int64 \[F, 19\], got list \[\]": engine.submit("decode", []),
                "token 0 of frame 0, sample 0, must be in 0": engine.submit("decode", torch.eye(19).int()[1:3] - 1),
                r"tokens must be \[B, F, K\] with at least one": engine.submit("decode", torch.zeros(0, 19).int()),
            }
            found += [session.push(audio[:, FRAME:]), session.finish()]
            for message, future in bad.items():
                with pytest.raises(SilkInputError, match=message):
                    future.result(20)
        assert torch.equal(torch.cat([future.result(60) for future in found]), tokens_of(3))
        assert engine.stats().n_busy == 0


@pytest.mark.filterwarnings("ignore:audio has samples of magnitude")
@pytest.mark.parametrize("like_a_gpu", [False, True], ids=["", "graphs"])
def test_latents_that_are_not_finite_end_one_session_and_leave_no_trace(like_a_gpu, monkeypatch):
    if like_a_gpu:
        pretend(monkeypatch, Pretended())
    audio = speech(3 * FRAME)[0]
    run = Encoding.run

    def overflowing(self, inputs, state):
        inputs = torch.where(inputs.abs().amax((1, 2), keepdim=True) > 1e9, torch.inf, inputs)
        return run(self, inputs, state)

    monkeypatch.setattr(Encoding, "run", overflowing)
    with Engine(tiny(), n_slots=2, deterministic=True) as engine:
        with engine.stream("encode") as well, engine.stream("encode") as ill:
            found = [well.push(audio[:, :FRAME]), well.push(audio[:, FRAME:])]
            lost = ill.push(torch.full((1, FRAME), 2e9))
            with pytest.raises(SilkInputError, match="latents are not finite"):
                lost.result(20)
            found.append(well.finish())
            with pytest.raises(SilkInputError, match="the session is over: latents are not finite"):
                ill.push(audio)
        assert torch.equal(torch.cat([future.result(60) for future in found]), tokens_of(3))
        for _ in range(2):  # in whichever slot
            assert torch.equal(engine.encode(audio), tokens_of(3))
        assert engine.stats().n_busy == 0


def test_closing_while_busy_fails_what_is_not_done(gate):
    engine = Engine(tiny(), n_slots=1)
    session = engine.stream("encode")
    futures = [session.push(speech(FRAME)[0]), engine.submit("encode", speech(FRAME)[0])]
    assert gate.reached.wait(20)
    closing = threading.Thread(target=engine.close)
    closing.start()
    gate.open()
    closing.join(20)
    assert not closing.is_alive()
    engine.close()
    for future in futures[1:]:
        with pytest.raises(SilkBusyError, match="the engine was closed"):
            future.result(0)
    for call in (lambda: engine.encode(speech(FRAME)[0]), lambda: engine.stream("decode")):
        with pytest.raises(SilkBusyError, match="the engine was closed"):
            call()
    with pytest.raises(SilkInputError, match="the session is over: the engine was closed"):
        session.push(speech(FRAME)[0])
    assert (engine.stats().n_busy, engine.stats().n_queued) == (0, 0)


def test_a_program_may_end_without_closing_it(model):
    program = f"""
import torch
from silk_fast.runtime.codec import open_codec
from silk_fast.runtime.engine import Engine
engine = Engine(open_codec("silk", {str(model)!r}))
futures = [engine.submit("encode", torch.zeros(1, 480_000)) for _ in range(20)]
futures[0].result()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_error_of_the_model_is_told_to_those_it_concerns(monkeypatch):
    def fails(self, inputs, state):
        raise MemoryError("no memory")

    with Engine(tiny(), n_slots=2) as engine:
        monkeypatch.setattr(Encoding, "run", fails)
        with pytest.raises(MemoryError, match="no memory"):
            engine.encode(speech(FRAME)[0])
        monkeypatch.undo()
        assert torch.equal(engine.encode(speech(FRAME)[0]), tokens_of(1))
        assert (engine.stats().n_failed, engine.stats().n_busy) == (1, 0)


def test_signals_take_turns():
    """A long one delays neither a short one of its kind nor one of the other."""
    with Engine(tiny(), n_slots=2, step_frames=1) as engine:
        long = engine.submit("encode", speech(400 * FRAME)[0])
        others = engine.submit("encode", speech(2 * FRAME)[0]), engine.submit("decode", tokens_of(2))
        for future in others:
            future.result(60)
        assert not long.done()


def test_decoding_goes_together(gate):
    """Eight signals of three frames each take three steps, once the first has gone alone."""
    tokens = tokens_of(3)
    with Engine(tiny(), n_slots=8, step_frames=1) as engine:
        futures = [engine.submit("decode", tokens) for _ in range(8)]
        assert gate.reached.wait(20)
        gate.open()
        expected = tiny().decode(tokens[None])[0]
        for future in futures:
            torch.testing.assert_close(future.result(60), expected, rtol=0, atol=1e-5)
        assert engine.stats().n_steps <= 4


def test_a_step_may_wait_for_others_to_join():
    with Engine(tiny(), n_slots=2, max_wait=30.0) as engine:
        first = engine.submit("decode", tokens_of(1))
        time.sleep(0.05)
        assert not first.done()
        engine.submit("decode", tokens_of(1)).result(10)
        first.result(10)
        assert engine.stats().n_steps == 1
    with Engine(tiny(), n_slots=2, max_wait=0.01) as engine:
        engine.decode(tokens_of(1))


def other(name: str) -> OfLibrary:
    model = OTHERS[name].make()
    return OfLibrary(name, Loaded(model, weights_sha256(model), None), {})


@pytest.mark.parametrize("name", ["dac", "mimi"])
def test_a_codec_without_slots_gets_batches_of_one_length(name, monkeypatch):
    codec = other(name)
    signals = [OTHERS[name].speech(0.1 + 0.05 * (i % 3))[0] * (i + 1) / 9 for i in range(9)]
    alone = [codec.encode(signal[None])[0] for signal in signals]
    shapes, encode, held = [], codec.encode, threading.Event()

    def noted(audio: Tensor) -> Tensor:
        assert held.wait(20)
        shapes.append(tuple(audio.shape))
        return encode(audio)

    monkeypatch.setattr(codec, "encode", noted)
    with Engine(codec, n_slots=6, max_queue=9) as engine:
        futures = [engine.submit("encode", signal) for signal in signals]
        held.set()
        for future, expected in zip(futures, alone, strict=True):
            assert torch.equal(future.result(60), expected)
        assert {shape[1:] for shape in shapes} == {tuple(signal.shape) for signal in signals}
        assert max(shape[0] for shape in shapes) > 1
        audio = engine.decode(alone[0])
        assert audio.shape == (1, len(alone[0]) * codec.frame_samples)
        torch.testing.assert_close(audio, codec.decode(alone[0][None])[0], rtol=0, atol=1e-5)
        if name == "dac":
            with pytest.raises(SilkInputError, match="dac cannot be streamed, for it is not causal"):
                engine.stream("encode")
        with pytest.raises(SilkInputError, match="audio must be finite"):
            engine.encode(signals[0] * torch.nan)
        assert engine.stats().n_busy == 0


def pieces_of(signal: Tensor, frame: int, dim: int) -> list[Tensor]:
    """A dozen frames one by one, nothing, much, some more one by one, and the rest in two."""
    cuts = [*range(0, 12 * frame, frame), 11 * frame, *range(90 * frame + 1, 99 * frame, frame), 120 * frame - 3]
    return list(signal.tensor_split([cut for cut in cuts if cut < signal.shape[dim]], dim))


@pytest.mark.parametrize("name", ["encodec", "mimi"])
def test_streams_of_a_causal_codec_of_a_library_are_what_whole_signals_are(name):
    codec = other(name)
    signals = [OTHERS[name].speech(0.11 * (i + 1))[0, :, : -1 - 3 * i] * (i + 1) / 4 for i in range(4)]
    signals.append(signals[0][:, : codec.frame_samples // 2])
    with Engine(codec, n_slots=3) as engine:
        for signal in signals:
            whole = codec.encode(signal[None])
            with engine.stream("encode") as session, engine.stream("decode") as back:
                engine.submit("encode", signal)  # whose batch comes between
                pieces = pieces_of(signal, codec.frame_samples, 1)
                found = torch.cat([*(session.push(piece).result(20) for piece in pieces), session.finish().result(20)])
                pieces = pieces_of(whole[0], 1, 0)
                parts = [*(back.push(piece).result(20) for piece in pieces), back.finish().result(20)]
            assert found.shape == whole.shape[1:]
            assert (found != whole[0]).sum() <= 1
            torch.testing.assert_close(torch.cat(parts, -1), codec.decode(whole)[0], rtol=0, atol=1e-5)


def test_a_batch_that_fails_is_tried_one_by_one(monkeypatch):
    codec, held = other("dac"), threading.Event()
    signals = [OTHERS["dac"].speech(0.1)[0] * (i + 1) for i in range(3)]
    encode = codec.encode

    def fails(audio: Tensor) -> Tensor:
        assert held.wait(20)
        if audio.abs().amax() == signals[1].abs().amax() or len(audio) > 1:
            raise RuntimeError("too loud")
        return encode(audio)

    monkeypatch.setattr(codec, "encode", fails)
    with Engine(codec, n_slots=3) as engine:
        futures = [engine.submit("encode", signal) for signal in signals]
        held.set()
        with pytest.raises(RuntimeError, match="too loud"):
            futures[1].result(20)
        for i in (0, 2):
            assert torch.equal(futures[i].result(20), encode(signals[i][None])[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_slots": 0}, "n_slots must be an integer in 1"),
        ({"step_frames": 0}, "step_frames must be an integer >= 1, got 0"),
        ({"max_queue": -1}, "max_queue must be an integer >= 0, got -1"),
        ({"max_wait": "1"}, "max_wait must be a number of seconds >= 0, got '1'"),
        ({"max_wait": float("nan")}, "max_wait must be a number of seconds >= 0, got nan"),
        ({"deterministic": 1}, "deterministic must be True or False, got 1"),
    ],
)
def test_impossible_engines_are_refused(options, message):
    with pytest.raises(SilkInputError, match=message):
        Engine(tiny(), **options)


def test_impossible_requests_are_refused():
    with Engine(tiny()) as engine:
        with pytest.raises(SilkInputError, match="direction must be 'encode' or 'decode', got 'Encode'"):
            engine.submit("Encode", speech(FRAME)[0])
        for timeout in (0, -1, "1"):
            with pytest.raises(SilkInputError, match="timeout must be"):
                engine.stream("encode", timeout=timeout)
        assert engine.stats().n_busy == 0
