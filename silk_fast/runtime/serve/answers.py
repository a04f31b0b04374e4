"""Answers: tokens as JSON or ``.silk``, sound as WAV, PCM or FLAC."""

import io
import struct
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from torch import Tensor

from silk_fast.audio import AudioWriter
from silk_fast.container import SilkHeader, SilkWriter
from silk_fast.runtime.codec import Codec
from silk_fast.runtime.serve.connection import disconnected, while_connected
from silk_fast.runtime.serve.service import Service

SILK_TYPE = "application/x-silk"
WAV_HEAD = struct.Struct("<4sI4s 4sIHHIIHH 4sI")  # RIFF, the format, and the head of the data


def token_object(model: str, codec: Codec, tokens: Tensor, n_samples: int) -> dict[str, Any]:
    """Lay out tokens as JSON has them, for ``POST /v1/codec/decode`` to take as they are.

    Args:
        model: name under which the codec is served.
        tokens: int32 ``[F, K]``.
        n_samples: of the sound they are of.
    """
    return {
        "model": model,
        "weights_sha256": codec.weights_sha256,
        "sample_rate": codec.sample_rate,
        "frame_samples": codec.frame_samples,
        "n_samples": n_samples,
        "n_frames": len(tokens),
        "tokens": tokens.tolist(),
    }


def silk_file(header: SilkHeader, tokens: Tensor, n_samples: int) -> bytes:
    """Write a ``.silk`` file of tokens int32 ``[F, K]``."""
    file = io.BytesIO()
    with SilkWriter(file, replace(header, n_samples=n_samples)) as writer:
        writer.write(tokens.numpy())
    return file.getvalue()


def pcm16(audio: Tensor) -> bytes:
    """Round sound float32 ``[C, T]`` to PCM16, little-endian, channels interleaved, as ``AudioWriter`` does."""
    steps = np.rint(audio.T.double().numpy() * 2**15).clip(-(2**15), 2**15 - 1)
    return steps.astype("<i2").tobytes()


def wav_head(sample_rate: int, n_channels: int, n_samples: int) -> bytes:
    """Write the 44 bytes before the samples of a WAV file of PCM16."""
    width = 2 * n_channels
    n_bytes = n_samples * width
    form = (b"fmt ", 16, 1, n_channels, sample_rate, sample_rate * width, width, 16)
    return WAV_HEAD.pack(b"RIFF", 36 + n_bytes, b"WAVE", *form, b"data", n_bytes)


def flac_file(codec: Codec, audio: Tensor) -> bytes:
    """Write a FLAC file of sound float32 ``[C, T]``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "decoded.flac"
        samples = audio.T.numpy() if len(audio) > 1 else audio[0].numpy()
        with AudioWriter(path, codec.sample_rate, channels=len(audio)) as writer:
            writer.write(samples)
        return path.read_bytes()


class Sound(Response):
    """PCM16 that is sent while the rest of it is decoded; its length is known, so one cut short is seen to be.

    Args:
        service: that decodes.
        first: sound float32 ``[C, T]`` that is there already.
        rest: what the engine still makes, in order.
        n_samples: how many are sent, of each channel.
        is_wav: with a WAV header before it.

    Attributes:
        held: what is closed at the end, however it comes; set by whoever opened it.
    """

    def __init__(
        self, service: Service, first: Tensor, rest: Sequence["Future[Tensor]"], n_samples: int, is_wav: bool
    ) -> None:
        codec = service.codec
        self.head = wav_head(codec.sample_rate, codec.n_channels, n_samples) if is_wav else b""
        length = len(self.head) + 2 * codec.n_channels * n_samples
        media_type = "audio/wav" if is_wav else "application/octet-stream"
        super().__init__(None, 200, {"content-length": str(length)}, media_type)
        self.service, self.first, self.rest, self.n_left, self.held = service, first, rest, n_samples, ExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.held, suppress(ClientDisconnect):
            await while_connected(disconnected(receive), self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await self._send(send, self.head + self._kept(self.first))
        for future in self.rest:
            await self._send(send, self._kept(await self.service.result(future)))
        await send({"type": "http.response.body", "body": b""})

    def _kept(self, audio: Tensor) -> bytes:
        audio = audio[:, : self.n_left]
        self.n_left -= audio.shape[1]
        return pcm16(audio)

    @staticmethod
    async def _send(send: Send, data: bytes) -> None:
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
