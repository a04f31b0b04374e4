"""What a server refuses: each with its status, the project's error and its words, and nothing left behind."""

import io
import json
import socket
import zlib

import numpy as np
import pytest
import soundfile

from tests.runtime.serving import N_TOKENS, ConnectionClosed, InvalidStatus, serving, wav, websockets
from tests.support import speech


@pytest.fixture(scope="module")
def server(codec):
    with serving(codec, max_seconds=4.0, max_bytes=10**6, hosts=frozenset({"127.0.0.1", "localhost"})) as running:
        yield running
        running.wait_for((0, 0, 0))


def rows(value: object) -> bytes:
    return json.dumps({"tokens": [[value] * N_TOKENS]}).encode()


SOUND = wav(speech(10_000)[0, 0].numpy())
BAD_SOUND = {
    "empty": (b"", "SilkInputError"),
    "text": (b"dear diary, " * 50, "SilkAudioError"),
    "cut short": (SOUND[:5000], "SilkAudioError"),
    "joined": (SOUND + SOUND, "SilkAudioError"),
    "no samples": (wav(np.zeros(0)), "SilkAudioError"),
    "not finite": (wav(np.array([0, np.nan]), subtype="FLOAT"), "SilkAudioError"),
}
BAD_TOKENS = {
    "empty": (b"", "SilkInputError"),
    "no JSON": (b"\x00\xff", "SilkFormatError"),
    "half of JSON": (b'{"tokens": [[1, 2', "SilkFormatError"),
    "nested": (b"[" * 50_000, "SilkFormatError"),
    "no object": (b"[[1, 2]]", "SilkFormatError"),
    "no tokens": (b'{"token": []}', "SilkFormatError"),
    "no frames": (b'{"tokens": []}', "SilkInputError"),
    "ragged": (b'{"tokens": [[1, 2], [3]]}', "SilkInputError"),
    "too few": (b'{"tokens": [[1, 2]]}', "SilkInputError"),
    "fractions": (rows(1.5), "SilkInputError"),
    "words": (rows("a"), "SilkInputError"),
    "true": (rows(True), "SilkInputError"),
    "negative": (rows(-1), "SilkInputError"),
    "too large": (rows(2**31 - 1), "SilkInputError"),
    "too large at the end": (
        json.dumps({"tokens": [[0] * N_TOKENS] * 30 + [[2**21] * N_TOKENS]}).encode(),
        "SilkInputError",
    ),
    "no int32": (rows(2**40), "SilkInputError"),
    "no int64": (rows(2**70), "SilkInputError"),
    "no digits": (rows(0).replace(b"[0,", b"[" + b"9" * 5000 + b","), "SilkFormatError"),
    "too many samples": (rows(0).replace(b"{", b'{"n_samples": 9601, '), "SilkInputError"),
    "no number of samples": (rows(0).replace(b"{", b'{"n_samples": "9", '), "SilkInputError"),
    "of other weights": (rows(0).replace(b"{", b'{"weights_sha256": "00", '), "SilkModelError"),
    "head of .silk": (b"\x89SILK\r\n\x1a", "SilkFormatError"),
}


@pytest.mark.parametrize("kind", BAD_SOUND)
def test_serve_bad_sound_is_refused_with_its_error(kind, server):
    body, error = BAD_SOUND[kind]
    assert server.ask("/v1/codec/encode", body).error == (422, error)


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_serve_bad_tokens_are_refused_with_their_error(kind, server):
    body, error = BAD_TOKENS[kind]
    assert server.ask("/v1/codec/decode", body).error == (422, error)


def test_serve_damaged_and_foreign_silk_files_are_refused(server):
    file = bytearray(server.ask("/v1/codec/encode?format=silk", SOUND).body)
    assert server.ask("/v1/codec/decode", bytes(file)).status == 200
    assert server.ask("/v1/codec/decode", bytes(file[:-1])).error == (422, "SilkFormatError")
    file[100] ^= 1
    assert server.ask("/v1/codec/decode", bytes(file)).error == (422, "SilkFormatError")
    file[100] ^= 1
    file[40:72] = bytes(32)
    file[76:80] = zlib.crc32(file[:76]).to_bytes(4, "little")
    assert server.ask("/v1/codec/decode", bytes(file)).error == (422, "SilkModelError")


def test_serve_wrong_questions(server):
    assert server.ask("/v1/codec/decode?response_format=mp3", rows(0)).error == (422, "SilkInputError")
    assert server.ask("/v1/codec/encode?format=xml", SOUND).error == (422, "SilkInputError")
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert server.ask("/v1/codec/encode", SOUND, form).error == (422, "SilkInputError")
    assert server.ask("/v1/codec/encode").error == (405, "HTTPError")
    assert server.ask("/v1/nothing").error == (404, "HTTPError")


def test_serve_bodies_are_counted_while_they_come(server):
    n_most = server.service.limits.max_bytes
    assert server.ask("/v1/codec/encode", bytes(n_most + 1)).error == (413, "SilkLimitError")
    with socket.create_connection(("127.0.0.1", server.port)) as client:  # its length is not told
        client.sendall(b"POST /v1/codec/encode HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n" % 2**16 + bytes(2**16) + b"\r\n"
        for _ in range(n_most // 2**16 + 1):
            client.sendall(chunk)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_serve_a_length_that_is_too_large_is_refused_before_the_body_comes(server):
    for length in (server.service.limits.max_bytes + 1, 10**18):
        with server.asked("/v1/codec/encode", b"", length) as client:
            assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_serve_sound_that_is_too_long_is_refused(server):
    assert server.ask("/v1/codec/encode", wav(np.zeros(96_000))).status == 200
    assert server.ask("/v1/codec/encode", wav(np.zeros(96_001))).error == (413, "SilkLimitError")
    bomb = io.BytesIO()
    soundfile.write(bomb, np.zeros(24_000 * 600, np.int16), 24_000, format="FLAC")
    assert len(bomb.getvalue()) < 10**6
    assert server.ask("/v1/codec/encode", bomb.getvalue()).error == (413, "SilkLimitError")
    assert server.ask("/v1/codec/decode", json.dumps({"tokens": [[0] * N_TOKENS] * 12}).encode()).error[0] == 413
    assert server.ask("/v1/codec/decode", b" " * 10**6).error == (413, "SilkLimitError")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://[", ""])
def test_serve_pages_of_other_sites_are_refused(origin, server):
    assert server.ask("/v1/codec/encode", SOUND, {"origin": origin}).error == (403, "Forbidden")
    with pytest.raises(InvalidStatus, match="403"):
        websockets.connect(server.stream_url, additional_headers={"origin": origin})


def test_serve_its_own_page_is_answered(server):
    assert server.ask("/v1/codec/encode", SOUND, {"origin": server.url}).status == 200
    with websockets.connect(server.stream_url, origin=server.url) as stream:
        stream.send('{"direction": "encode"}')
        assert json.loads(stream.recv())["type"] == "tokens.start"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "[", ""])
def test_serve_names_that_are_not_its_own_are_refused(host, server):
    assert server.ask("/", headers={"host": host}).error == (403, "Forbidden")


FIRST = {
    "no JSON": "hello",
    "binary": b"{}",
    "no object": "[]",
    "no direction": "{}",
    "other direction": '{"direction": "both"}',
    "unknown key": '{"direction": "encode", "volume": 11}',
    "other rate": '{"direction": "encode", "sample_rate": 16000}',
    "other weights": '{"direction": "decode", "weights_sha256": "00"}',
}
LATER = {
    "half a sample": ("encode", b"abc"),
    "no end": ("encode", '{"type": "stop"}'),
    "nothing to encode": ("encode", '{"type": "end"}'),
    "half a frame": ("decode", bytes(4 * N_TOKENS + 4)),
    "empty": ("decode", b""),
    "negative": ("decode", b"\xff" * 4 * N_TOKENS),
    "no such token": ("decode", b"\xff\xff\xff\x7f" * N_TOKENS),
    "nothing to decode": ("decode", '{"type": "end"}'),
}


def assert_refused(stream, code: int, kinds: tuple[str, ...]) -> None:
    said = json.loads(stream.recv())
    assert said["type"] == "error"
    assert said["error"]["type"] in kinds
    assert said["error"]["message"]
    with pytest.raises(ConnectionClosed):
        stream.recv()
    assert stream.close_code == code


@pytest.mark.parametrize("kind", FIRST)
def test_serve_bad_configurations_of_streams(kind, server):
    with websockets.connect(server.stream_url) as stream:
        stream.send(FIRST[kind])
        assert_refused(stream, 1008, ("SilkInputError", "SilkModelError"))


@pytest.mark.parametrize("kind", LATER)
def test_serve_bad_data_of_streams(kind, server):
    direction, message = LATER[kind]
    with websockets.connect(server.stream_url) as stream:
        stream.send(json.dumps({"direction": direction}))
        stream.recv()
        stream.send(message)
        assert_refused(stream, 1008, ("SilkInputError",))


def test_serve_bodies_and_streams_that_do_not_come_time_out(codec):
    with serving(codec, timeout=0.3) as running:
        with running.asked("/v1/codec/encode", b"RIFF", 100) as client:
            assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
        with websockets.connect(running.stream_url) as stream:
            stream.send('{"direction": "encode"}')
            stream.recv()
            stream.send(bytes(1000))
            assert_refused(stream, 1008, ("Silent",))
        running.wait_for((0, 0, 0))
