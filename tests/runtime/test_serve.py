"""A server answers as the codec does, whatever comes beside, and lets go of all that it took."""

import io
import json
import random
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
import torch

from silk_fast.container import SilkReader
from tests.runtime.serving import FRAME, N_TOKENS, RATE, ConnectionClosed, Running, serving, wav, websockets
from tests.runtime.test_serve_refusals import BAD_SOUND, BAD_TOKENS, LATER
from tests.support import ROOT, speech


@pytest.fixture(scope="module")
def server(codec):
    with serving(codec) as running:
        yield running
        running.wait_for((0, 0, 0))


class Clip:
    """A recording as 16 bits hold it, and what the codec makes of it alone."""

    def __init__(self, codec, n_samples: int, start: int) -> None:
        self.pcm = (speech(n_samples, start)[0] * 2**15).round().short()
        self.tokens = codec.encode(self.pcm[None].float() / 2**15)[0]
        decoded = codec.decode(self.tokens[None])[0]
        self.sound = (decoded * 2**15).round().clamp(-(2**15), 2**15 - 1).numpy().T
        self.wav = wav(self.pcm[0].numpy(), RATE)
        self.json = json.dumps({"tokens": self.tokens.tolist(), "n_samples": n_samples}).encode()

    def assert_tokens(self, rows) -> None:
        assert np.array_equal(np.asarray(rows), self.tokens.numpy())

    def assert_sound(self, samples: np.ndarray, n_samples: int | None = None) -> None:
        """To the step of 16 bits in which 1e-5 may round to the other side."""
        expected = self.sound[: self.pcm.shape[1] if n_samples is None else n_samples]
        assert samples.shape == (len(expected),)
        assert np.abs(samples.astype(np.int32) - expected[:, 0]).max() <= 1


def clips_of(codec) -> list[Clip]:
    lengths = (1, 500, FRAME - 1, FRAME, FRAME + 1, 30_000, 50_001, 100_000)
    return [Clip(codec, n, 7000 * i) for i, n in enumerate(lengths)]


@pytest.fixture(scope="module")
def clips(codec) -> list[Clip]:
    return clips_of(codec)


# ---------------------------------------------------------------- ways to ask


def encode_to_json(server: Running, clip: Clip) -> None:
    answer = server.ask("/v1/codec/encode", clip.wav)
    assert answer.status == 200
    clip.assert_tokens(answer.json["tokens"])
    assert answer.json["n_samples"] == clip.pcm.shape[1]
    assert answer.json["n_frames"] == len(clip.tokens)
    assert answer.json["weights_sha256"] == server.service.codec.weights_sha256


def encode_to_silk(server: Running, clip: Clip) -> None:
    answer = server.ask("/v1/codec/encode", clip.wav, {"accept": "application/x-silk"})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-silk")
    reader = SilkReader(io.BytesIO(answer.body))
    clip.assert_tokens(reader.read(0, reader.n_frames))
    assert reader.n_samples == clip.pcm.shape[1]
    again = server.ask("/v1/codec/decode", answer.body)
    clip.assert_sound(soundfile.read(io.BytesIO(again.body), dtype="int16")[0])


def decode_to_wav(server: Running, clip: Clip) -> None:
    answer = server.ask("/v1/codec/decode", clip.json)
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
    samples, rate = soundfile.read(io.BytesIO(answer.body), dtype="int16")
    assert rate == RATE
    clip.assert_sound(samples)


def decode_to_pcm(server: Running, clip: Clip) -> None:
    answer = server.ask("/v1/codec/decode?response_format=pcm", clip.json)
    assert answer.status == 200
    clip.assert_sound(np.frombuffer(answer.body, "<i2"))


def decode_to_flac(server: Running, clip: Clip) -> None:
    answer = server.ask("/v1/codec/decode?response_format=flac", clip.json)
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/flac")
    clip.assert_sound(soundfile.read(io.BytesIO(answer.body), dtype="int16")[0])


@contextmanager
def opened(server: Running, direction: str) -> Iterator:
    with websockets.connect(server.stream_url) as stream:
        stream.send(json.dumps({"direction": direction}))
        assert json.loads(stream.recv())["type"] == {"encode": "tokens.start", "decode": "audio.start"}[direction]
        yield stream


def rest_of(stream) -> tuple[bytes, dict]:
    """Data up to the last message, and that."""
    data = b""
    for message in stream:
        if isinstance(message, str):
            with pytest.raises(ConnectionClosed):
                stream.recv()
            assert stream.close_code == 1000
            return data, json.loads(message)
        data += message
    raise AssertionError("the stream ended without its last message")


def stream_sound(server: Running, clip: Clip) -> None:
    pcm = clip.pcm[0].numpy().astype("<i2").tobytes()
    with opened(server, "encode") as stream:
        for start in range(0, len(pcm), 14_002):
            stream.send(pcm[start : start + 14_002])
        stream.send('{"type": "end"}')
        data, done = rest_of(stream)
    clip.assert_tokens(np.frombuffer(data, "<i4").reshape(-1, N_TOKENS))
    assert done == {"type": "tokens.done", "n_samples": clip.pcm.shape[1], "n_frames": len(clip.tokens)}


def stream_tokens(server: Running, clip: Clip) -> None:
    with opened(server, "decode") as stream:
        for rows in clip.tokens.split(2):
            stream.send(rows.numpy().astype("<i4").tobytes())
        stream.send('{"type": "end"}')
        data, done = rest_of(stream)
    clip.assert_sound(np.frombuffer(data, "<i2"), len(clip.tokens) * FRAME)
    assert done == {"type": "audio.done", "n_samples": len(clip.sound), "n_frames": len(clip.tokens)}


GOOD = (encode_to_json, encode_to_silk, decode_to_wav, decode_to_pcm, decode_to_flac, stream_sound, stream_tokens)


def vanish(server: Running, clip: Clip, how: int) -> None:
    """Go away in the middle of a body, behind it, in the middle of an answer, or of a stream."""
    if how == 3:
        with opened(server, "encode") as stream:
            stream.send(clip.pcm[0].numpy().tobytes()[:10_000])
            stream.socket.shutdown(socket.SHUT_RDWR)
        return
    path, body = ("decode", clip.json) if how == 2 else ("encode", clip.wav)
    with server.asked(f"/v1/codec/{path}", body[: len(body) // 2] if how == 0 else body, len(body)) as client:
        if how == 2:
            assert client.recv(20).startswith(b"HTTP/1.1 200 ")


def malformed(server: Running, i: int) -> None:
    kinds = [("encode", *case) for case in BAD_SOUND.values()] + [("decode", *case) for case in BAD_TOKENS.values()]
    if i % 5 == 0:
        direction, message = list(LATER.values())[i // 5 % len(LATER)]
        with opened(server, direction) as stream:
            stream.send(message)
            assert json.loads(stream.recv())["error"]["type"] == "SilkInputError"
        return
    path, body, kind = kinds[i % len(kinds)]
    assert server.ask(f"/v1/codec/{path}", body).error == (422, kind)


def ask_mixed(server: Running, clips: list[Clip], n: int, seed: int = 0) -> None:
    """Ask by 12 clients at a time: of ten requests eight are good, one is malformed, and one goes away."""
    chance = random.Random(seed)
    jobs = [(vanish, chance.choice(clips), i % 4) for i in range(n // 10)] + [(malformed, i) for i in range(n // 10)]
    jobs += [(chance.choice(GOOD), chance.choice(clips)) for _ in range(n - len(jobs))]
    chance.shuffle(jobs)
    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(job, server, *arguments) for job, *arguments in jobs]:
            future.result()


def test_serve_300_mixed_requests(server, clips):
    before = server.service.engine.stats()
    ask_mixed(server, clips, 300)
    server.wait_for((0, 0, 0))
    after = server.service.engine.stats()
    assert after.n_done - before.n_done >= 240
    assert after.n_failed == before.n_failed
    counted = server.ask("/metrics").body.decode()
    for name in ("silk_open", "silk_slots_busy", "silk_queue"):
        assert re.search(f"^{name} 0.0$", counted, re.MULTILINE)


@pytest.mark.parametrize("way", GOOD)
def test_serve_every_way_of_every_length(way, server, clips):
    for clip in clips:
        way(server, clip)


def test_serve_formats_hold_the_same_samples_as_files_of_silk_decode(server, codec, clips, tmp_path):
    from silk_fast.audio import save

    decoded = codec.decode(clips[-1].tokens[None])[0, 0, : clips[-1].pcm.shape[1]]
    save(tmp_path / "a.wav", decoded.numpy())
    expected = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    for name in ("wav", "pcm", "flac"):
        body = server.ask(f"/v1/codec/decode?response_format={name}", clips[-1].json).body
        samples = np.frombuffer(body, "<i2") if name == "pcm" else soundfile.read(io.BytesIO(body), dtype="int16")[0]
        assert np.mean(samples != expected) < 0.01, name


def test_serve_sound_of_another_rate_and_with_channels_is_read_as_silk_encode_does(server, codec, tmp_path):
    from silk_fast.audio import load

    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([speech(40_000)[0, 0]] * 2, 1), 44_100)
    answer = server.ask("/v1/codec/encode", path.read_bytes())
    expected = codec.encode(torch.from_numpy(load(path))[None, None])[0]
    assert answer.json["tokens"] == expected.tolist()


def test_serve_what_encode_answers_decode_takes(server, clips):
    answer = server.ask("/v1/codec/encode", clips[-1].wav)
    samples, _ = soundfile.read(io.BytesIO(server.ask("/v1/codec/decode", answer.body).body), dtype="int16")
    clips[-1].assert_sound(samples)


# ---------------------------------------------------------------- what else it tells


def test_serve_tells_of_its_model_and_limits(server, codec):
    [model] = server.ask("/v1/models").json["data"]
    assert (model["id"], model["codec"], model["bits_per_frame"]) == ("tiny", "silk", 384)
    assert (model["sample_rate"], model["weights_sha256"]) == (RATE, codec.weights_sha256)
    assert (model["max_bytes"], model["max_seconds"]) == (64 * 2**20, 600.0)


def test_serve_counts_for_prometheus(server, clips):
    from prometheus_client.parser import text_string_to_metric_families

    def sample(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(server.ask("/metrics").body.decode())
        found = [s.value for family in families for s in family.samples if (s.name, s.labels) == (name, labels)]
        return found[0] if found else 0.0

    names = {"route": "/v1/codec/encode", "status": "200"}
    before = sample("silk_requests_total", **names), sample("silk_audio_seconds_total", direction="encode")
    encode_to_json(server, clips[-1])
    after = sample("silk_requests_total", **names), sample("silk_audio_seconds_total", direction="encode")
    assert after[0] - before[0] == 1
    assert after[1] - before[1] == pytest.approx(100_000 / RATE)
    server.ask("/no/such/path")
    assert sample("silk_requests_total", route="other", status="404") >= 1
    assert sample("silk_slots") == 4


def test_serve_page_comes_with_security_headers_and_names_no_other_host(server):
    from silk_fast.runtime.serve.app import PAGE

    for path in PAGE:
        answer = server.ask(path)
        assert answer.status == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["permissions-policy"].startswith("microphone=(self)")
        if path != "/example.flac":
            named = set(re.findall(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", answer.body))
            assert named <= {b"http://www.w3.org"}, path
    assert server.ask("/nothing").headers["x-content-type-options"] == "nosniff"


def test_serve_examples_of_its_page_of_documentation_are_of_its_paths():
    page = (ROOT / "docs" / "serve.md").read_text()
    assert set(re.findall(r"/v1/[a-z/]+", page)) == {
        "/v1/codec/encode", "/v1/codec/decode", "/v1/codec/stream", "/v1/models",
    }  # fmt: skip
