"""A server in a thread of this process, and a plain client of HTTP. Tests that use it need fastapi and websockets."""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import soundfile

from silk_fast.runtime.codec import Codec
from silk_fast.runtime.engine import Engine

pytest.importorskip("fastapi", reason="no fastapi: pip install 'silk_fast[serve]'")
websockets = pytest.importorskip("websockets.sync.client", reason="no websockets: pip install 'silk_fast[serve]'")

import uvicorn  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402, F401

from silk_fast.runtime.serve.app import make_app  # noqa: E402
from silk_fast.runtime.serve.service import Limits, Service  # noqa: E402

RATE, FRAME, N_TOKENS = 24_000, 9600, 19  # of the tiny codec


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format="WAV")
    return file.getvalue()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Status and type of an error, whose message must be there."""
        error = self.json["error"]
        assert error["message"]
        return self.status, error["type"]


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    service: Service
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/codec/stream"

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """GET, or POST of a body: bytes, or an iterator of them, which goes in chunks."""
        connection = self.connection()
        try:
            connection.request("GET" if body is None else "POST", path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    @contextmanager
    def asked(self, path: str, sent: bytes, length: int | None = None) -> Iterator[socket.socket]:
        """A connection on which so much of a POST was sent; its body has ``length`` bytes, None for what was sent."""
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            length = len(sent) if length is None else length
            client.sendall(f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n".encode())
            client.sendall(sent)
            yield client

    def counts(self) -> tuple[int, int, int]:
        """Slots that are busy, items that wait, and requests that are open."""
        health = self.ask("/health").json
        return health["slots_busy"], health["queued"], health["open"]

    def wait_for(self, counts: tuple[int, int, int], seconds: float = 10) -> None:
        """Wait until the counts are these."""
        end = time.monotonic() + seconds
        while (found := self.counts()) != counts:
            assert time.monotonic() < end, f"busy, queued, open are {found}, expected {counts}"
            time.sleep(0.02)


@contextmanager
def serving(codec: Codec, n_slots: int = 4, engine: Any = None, **limits: Any) -> Iterator[Running]:
    """Serve a codec until the block ends; ``engine`` None makes the real one."""
    bounds = Limits(**limits)
    with engine or Engine(codec, n_slots=n_slots, max_queue=bounds.max_queue) as running_engine:
        service = Service(codec, running_engine, bounds, "tiny")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            config = uvicorn.Config(
                make_app(service), log_level="warning", ws_max_size=2**20, timeout_graceful_shutdown=2
            )
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            try:
                yield Running(service, listener.getsockname()[1])
            finally:
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()
