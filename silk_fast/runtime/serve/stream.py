"""WebSocket: sound to tokens, or tokens to sound, as they arrive. ``docs/serve.md`` has the protocol."""

import asyncio
import json
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from anyio import fail_after
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from silk_fast.arguments import shown
from silk_fast.errors import SilkBusyError, SilkError, SilkInputError
from silk_fast.runtime.engine import WAYS, Session
from silk_fast.runtime.serve.answers import pcm16
from silk_fast.runtime.serve.bodies import check_weights, frames_of
from silk_fast.runtime.serve.connection import while_connected
from silk_fast.runtime.serve.guard import error_body
from silk_fast.runtime.serve.service import Service
from silk_fast.runtime.tracks import Way

NORMAL, UNUSABLE, FAILED, BUSY = 1000, 1008, 1011, 1013  # codes of closing, RFC 6455


class Silent(SilkError):
    """A stream that neither sends nor ends."""


class Messages:
    """Messages of a client: a few are taken in before they are wanted, so that its going away is seen meanwhile."""

    def __init__(self, socket: WebSocket, timeout: float) -> None:
        self._socket, self._timeout = socket, timeout
        self._queue: asyncio.Queue[bytes | str] = asyncio.Queue(4)

    async def come_in(self) -> None:
        """Take messages in until the client goes away."""
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            data = message.get("bytes")
            await self._queue.put(message["text"] if data is None else data)

    async def next(self) -> bytes | str:
        """Give the next message.

        Raises:
            Silent: none came in time.
        """
        try:
            with fail_after(self._timeout):
                return await self._queue.get()
        except TimeoutError as error:
            raise Silent(f"no message for {self._timeout:g} s, expected data or an end") from error


async def serve_stream(socket: WebSocket, service: Service) -> None:
    """Run one stream from its first message to its end; an error is sent as a message before it is closed."""
    await socket.accept()
    try:
        with service.place():
            messages = Messages(socket, service.limits.timeout)
            await while_connected(messages.come_in(), _run(socket, service, messages))
        await socket.close(NORMAL)
    except (ClientDisconnect, WebSocketDisconnect):
        pass
    except SilkBusyError as error:
        await _end(socket, BUSY, error)
    except TimeoutError:
        await _end(socket, BUSY, SilkBusyError("no slot became free in time; try again later"))
    except SilkError as error:
        await _end(socket, UNUSABLE, error)
    except Exception:
        await _end(socket, FAILED, SilkError("the server failed; its log says why"))
        raise


async def _end(socket: WebSocket, code: int, error: SilkError) -> None:
    try:
        await socket.send_json({"type": "error", **error_body(type(error).__name__, str(error))})
        await socket.close(code)
    except (WebSocketDisconnect, RuntimeError):  # it is closed already
        pass


async def _run(socket: WebSocket, service: Service, messages: Messages) -> None:
    direction = await _configured(messages, service)
    with service.engine.stream(direction, timeout=None) as session:
        if direction == "encode":
            await _encode(socket, service, messages, session)
        else:
            await _decode(socket, service, messages, session)


def _object(message: bytes | str, expected: str) -> dict[str, Any]:
    """Give a message as the JSON object that it must be."""
    try:
        given = json.loads(message) if isinstance(message, str) else None
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise SilkInputError(f"expected {expected}, got {shown(message)}")
    return given


async def _configured(messages: Messages, service: Service) -> Way:
    """Receive the first message, which says what the stream is to do."""
    codec = service.codec
    given = _object(await messages.next(), 'a JSON object such as {"direction": "encode"}')
    direction = given.pop("direction", None)
    if direction not in WAYS:
        raise SilkInputError(f"direction must be one of {', '.join(WAYS)}, got {shown(direction)}")
    check_weights(given.pop("weights_sha256", None), codec)
    for name, needed in (("sample_rate", codec.sample_rate), ("n_channels", codec.n_channels)):
        if given.pop(name, needed) != needed:
            raise SilkInputError(f"{name} of a stream must be the codec's, {needed}")
    if given:
        names = "direction, sample_rate, n_channels or weights_sha256"
        raise SilkInputError(f"unknown {shown(min(given))} in the configuration, expected {names}")
    return direction


async def _data(messages: Messages) -> bytes | None:
    """Receive the next data; None at the end."""
    message = await messages.next()
    if isinstance(message, bytes):
        return message
    if _object(message, '{"type": "end"}') != {"type": "end"}:
        raise SilkInputError(f'expected {{"type": "end"}} or binary data, got {shown(message)}')
    return None


async def _encode(socket: WebSocket, service: Service, messages: Messages, session: Session) -> None:
    codec, n_samples, n_frames = service.codec, 0, 0
    sizes = {"sample_rate": codec.sample_rate, "n_channels": codec.n_channels}
    sizes |= {"frame_samples": codec.frame_samples, "tokens_per_frame": codec.tokens_per_frame}
    await socket.send_json({"type": "tokens.start", **sizes, "weights_sha256": codec.weights_sha256})

    async def send(future: "Future[Tensor]") -> int:
        frames = await service.result(future)
        if len(frames):
            await socket.send_bytes(frames.numpy().astype("<i4").tobytes())
        return len(frames)

    while (data := await _data(messages)) is not None:
        if len(data) % (2 * codec.n_channels):
            raise SilkInputError(f"{len(data)} bytes are not whole samples of {codec.n_channels} channels in 16 bits")
        samples = np.frombuffer(data, "<i2").reshape(-1, codec.n_channels).T
        n_samples += samples.shape[1]
        n_frames += await send(session.push(torch.from_numpy(samples.astype(np.float32) / 2**15)))
    if not n_samples:
        raise SilkInputError("the stream ended without a sample, expected at least one")
    n_frames += await send(session.finish())
    service.metrics.audio.labels("encode").inc(n_samples / codec.sample_rate)
    await socket.send_json({"type": "tokens.done", "n_samples": n_samples, "n_frames": n_frames})


async def _decode(socket: WebSocket, service: Service, messages: Messages, session: Session) -> None:
    codec, n_samples, n_frames = service.codec, 0, 0
    sizes = {"format": "pcm_s16le", "sample_rate": codec.sample_rate, "n_channels": codec.n_channels}
    await socket.send_json({"type": "audio.start", **sizes})

    async def send(future: "Future[Tensor]") -> int:
        audio = await service.result(future)
        if audio.shape[1]:
            await socket.send_bytes(pcm16(audio))
        return audio.shape[1]

    while (data := await _data(messages)) is not None:
        width = 4 * codec.tokens_per_frame
        if not data or len(data) % width:
            raise SilkInputError(
                f"{len(data)} bytes are not whole frames of {codec.tokens_per_frame} tokens in 32 bits"
            )
        frames = frames_of(np.frombuffer(data, "<i4").reshape(-1, codec.tokens_per_frame), codec)
        n_frames += len(frames)
        n_samples += await send(session.push(frames))
    if not n_frames:
        raise SilkInputError("the stream ended without a frame, expected at least one")
    n_samples += await send(session.finish())
    service.metrics.audio.labels("decode").inc(n_samples / codec.sample_rate)
    await socket.send_json({"type": "audio.done", "n_samples": n_samples, "n_frames": n_frames})
