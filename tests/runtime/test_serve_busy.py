"""A server that is full, slow or failing, and clients that go away: what was taken is given back."""

import io
import json
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from tests.runtime.serving import FRAME, N_TOKENS, RATE, ConnectionClosed, serving, wav, websockets


class Held:
    """A codec that looks ahead, and waits until it may go on."""

    name, sample_rate, n_channels, frame_samples, tokens_per_frame = "held", RATE, 1, FRAME, N_TOKENS
    weights_sha256, causal, versions, device, output_delay = "0" * 64, False, {}, torch.device("cpu"), 0

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def n_frames(self, n_samples: int) -> int:
        return -(-n_samples // FRAME)

    def check_audio(self, audio) -> None:
        pass

    def check_tokens(self, tokens) -> None:
        pass

    def encode(self, audio):
        assert self.go_on.wait(30)
        return torch.zeros(len(audio), self.n_frames(audio.shape[-1]), N_TOKENS, dtype=torch.int32)

    def decode(self, tokens):
        return torch.zeros(len(tokens), 1, tokens.shape[1] * FRAME)


def test_serve_a_full_queue_gives_503_before_the_body_comes():
    codec = Held()
    with serving(codec, n_slots=1, max_queue=2) as running, ThreadPoolExecutor(3) as pool:
        taken = [pool.submit(running.ask, "/v1/codec/encode", wav(np.zeros(5000))) for _ in range(3)]
        running.wait_for((1, 2, 3))
        with running.asked("/v1/codec/encode", b"", 1000) as client:
            head = client.recv(4096).lower()
        assert head.startswith(b"http/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in head
        with websockets.connect(running.stream_url) as stream:
            assert json.loads(stream.recv())["error"]["type"] == "SilkBusyError"
            with pytest.raises(ConnectionClosed):
                stream.recv()
            assert stream.close_code == 1013
        codec.go_on.set()
        assert [future.result().status for future in taken] == [200] * 3
        running.wait_for((0, 0, 0))
        assert running.ask("/v1/codec/encode", wav(np.zeros(5000))).status == 200


def test_serve_one_that_waits_and_goes_away_leaves_the_queue():
    codec = Held()
    with serving(codec, n_slots=1, max_queue=2) as running, ThreadPoolExecutor(1) as pool:
        body = wav(np.zeros(5000))
        first = pool.submit(running.ask, "/v1/codec/encode", body)
        running.wait_for((1, 0, 1))
        with running.asked("/v1/codec/encode", body):
            running.wait_for((1, 1, 2))
        running.wait_for((1, 0, 1))
        codec.go_on.set()
        assert first.result().status == 200


def test_serve_an_answer_that_takes_too_long_gives_503():
    codec = Held()
    with serving(codec, n_slots=1, timeout=0.3) as running:
        answer = running.ask("/v1/codec/encode", wav(np.zeros(5000)))
        assert answer.error == (503, "SilkBusyError")
        assert answer.headers["retry-after"] == "1"
        codec.go_on.set()
        running.wait_for((0, 0, 0))


def test_serve_a_codec_that_looks_ahead_is_decoded_whole_and_not_streamed():
    with serving(Held()) as running:
        tokens = json.dumps({"tokens": [[0] * N_TOKENS] * 3}).encode()
        assert len(running.ask("/v1/codec/decode", tokens).body) == 44 + 2 * 3 * FRAME
        assert running.ask("/v1/codec/encode?format=silk", b"x").error == (422, "SilkInputError")
        with websockets.connect(running.stream_url) as stream:
            stream.send('{"direction": "decode"}')
            assert "cannot be streamed" in json.loads(stream.recv())["error"]["message"]


class Session:
    """A stream of an engine, of which all is there, or the first piece; the others come when the test lets them."""

    def __init__(self, is_all_there: bool = False) -> None:
        self.futures: list[Future] = []
        self.is_all_there = is_all_there
        self.is_closed = threading.Event()

    def push(self, tokens):
        future: Future = Future()
        self.futures.append(future)
        if self.is_all_there or len(self.futures) == 1:
            future.set_result(torch.zeros(1, len(tokens) * FRAME))
        return future

    def finish(self):
        return self.push([])

    def close(self):
        self.is_closed.set()

    @contextmanager
    def engine(self):
        yield SimpleNamespace(stats=lambda: SimpleNamespace(n_slots=1), stream=lambda *_, **__: self)


LONG = json.dumps({"tokens": [[0] * N_TOKENS] * 25}).encode()


def test_serve_wav_is_sent_while_the_rest_is_decoded(codec):
    session = Session()
    with serving(codec, engine=session.engine()) as running:
        connection = running.connection()
        connection.request("POST", "/v1/codec/decode", LONG)
        response = connection.getresponse()
        first = response.read(44 + 2 * 10 * FRAME)
        assert int(response.headers["content-length"]) == 44 + 2 * 25 * FRAME
        for n_frames, future in zip((10, 5, 0), session.futures[1:], strict=True):
            future.set_result(torch.full((1, n_frames * FRAME), 0.5))
        samples, _ = soundfile.read(io.BytesIO(first + response.read()))
        connection.close()
    assert len(samples) == 25 * FRAME
    assert set(samples[: 10 * FRAME]) == {0.0}
    assert set(samples[10 * FRAME :]) == {0.5}


def test_serve_one_that_goes_away_while_it_is_sent_sound_frees_its_slot(codec):
    session = Session()
    with serving(codec, engine=session.engine()) as running:
        with running.asked("/v1/codec/decode", LONG) as client:
            assert client.recv(20).startswith(b"HTTP/1.1 200 ")
        assert session.is_closed.wait(5)


def test_serve_one_that_takes_no_sound_frees_its_slot(codec):
    session = Session(is_all_there=True)
    body = json.dumps({"tokens": [[0] * N_TOKENS] * 1400}).encode()  # more than sockets buffer
    with serving(codec, engine=session.engine(), timeout=0.3) as running, running.asked("/v1/codec/decode", body):
        assert session.is_closed.wait(5)


def test_serve_a_fault_is_told_as_one_and_frees_its_slot(caplog):
    codec = Held()
    codec.encode = lambda audio: 1 // 0
    with serving(codec) as running:
        assert running.ask("/v1/codec/encode", wav(np.zeros(5000))).error == (500, "Failure")
        running.wait_for((0, 0, 0))


def test_serve_an_engine_that_ended_is_told_by_health(codec):
    with serving(codec) as running:
        assert (running.ask("/health").status, running.ask("/health").json["status"]) == (200, "ok")
        running.service.engine.close()
        assert (running.ask("/health").status, running.ask("/health").json["status"]) == (503, "failed")
        assert running.ask("/v1/codec/encode", wav(np.zeros(5000))).error == (503, "SilkBusyError")


def test_serve_streams_wait_for_a_slot_and_leave_the_queue_when_they_go_away(codec):
    frame = np.zeros(FRAME, "<i2").tobytes()

    def opened():
        stream = websockets.connect(running.stream_url)
        stream.send('{"direction": "encode"}')
        assert json.loads(stream.recv())["type"] == "tokens.start"
        stream.send(frame)
        return stream

    with serving(codec, n_slots=1) as running:
        with opened() as first:
            assert len(first.recv()) == 4 * N_TOKENS
            second, third = opened(), opened()
            running.wait_for((1, 2, 3))
            second.socket.shutdown(socket.SHUT_RDWR)
            running.wait_for((1, 1, 2))
        assert len(third.recv()) == 4 * N_TOKENS
        third.close()
        running.wait_for((0, 0, 0))
