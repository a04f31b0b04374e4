"""Bodies of requests: counted while they come, then read as sound or as tokens, all bounds checked on the way."""

import io
import json
import tempfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from starlette.requests import Request
from torch import Tensor

from silk_fast.arguments import shown, whole_number
from silk_fast.audio import AudioReader
from silk_fast.container import MAGIC, SilkHeader, SilkReader
from silk_fast.errors import SilkFormatError, SilkInputError, SilkLimitError, SilkModelError
from silk_fast.runtime.codec import Codec

TOKEN_BYTES = 32  # that a token may take in JSON, however it is indented


@dataclass(frozen=True, eq=False)
class Tokens:
    """Frames to decode: int32 ``[F, K]``, and how many samples of the sound are wanted, None for all."""

    frames: Tensor
    n_samples: int | None


async def received(request: Request, most: int) -> BinaryIO:
    """Receive a body into an unnamed temporary file, at its start; the caller closes it.

    Raises:
        SilkLimitError: it has more than ``most`` bytes, by its head or as it comes.
        SilkInputError: it is empty, or a form.
        starlette.requests.ClientDisconnect: the client went away.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise SilkInputError("the body is a form, expected the file itself: curl --data-binary @speech.wav")
    declared = request.headers.get("content-length", "0")
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.raw.name = "body"  # type: ignore[attr-defined]  # what messages call it
    try:
        n_bytes = int(declared) if len(declared) < 20 else most + 1
        if n_bytes > most:
            raise SilkLimitError(f"the body has {declared} bytes, expected at most {most}")
        n_bytes = 0
        async for chunk in request.stream():
            n_bytes += len(chunk)
            if n_bytes > most:
                raise SilkLimitError(f"the body has more than {most} bytes, expected at most so many")
            file.write(chunk)
        if not n_bytes:
            raise SilkInputError("the body is empty, expected a file")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def read_audio(file: BinaryIO, codec: Codec, max_seconds: float) -> Tensor:
    """Read a file of sound, and close it: float32 ``[C, T]`` at the codec's rate, T >= 1.

    Raises:
        SilkAudioError: it is no sound that silk_fast reads, or damaged.
        SilkLimitError: it is longer than ``max_seconds``.
    """
    n_most, n_read, blocks = int(max_seconds * codec.sample_rate), 0, []
    with file, AudioReader(file, codec.sample_rate, channels=codec.n_channels) as reader:
        for block in reader:
            n_read += len(block)
            if max(n_read, reader.n_samples_estimate or 0) > n_most:
                raise SilkLimitError(f"the sound is longer than {max_seconds:g} s, expected at most so much")
            blocks.append(block)
    return torch.from_numpy(np.concatenate(blocks)).view(n_read, codec.n_channels).T.contiguous()


def most_token_bytes(codec: Codec, max_seconds: float) -> int:
    """Count the bytes that a body with tokens of ``max_seconds`` may have."""
    n_frames = max_seconds * codec.sample_rate / codec.frame_samples + 1
    return 2**16 + int(n_frames * codec.tokens_per_frame * TOKEN_BYTES)


def read_tokens(file: BinaryIO, codec: Codec, header: SilkHeader | None, max_seconds: float) -> Tokens:
    """Read tokens, a ``.silk`` file or a JSON object, and close them.

    Args:
        header: of the codec's ``.silk`` files; None if it has none.

    Raises:
        SilkFormatError: neither, damaged, or not of this codec.
        SilkModelError: other weights made the tokens.
        SilkLimitError: they are of more than ``max_seconds``.
    """
    n_most = int(max_seconds * codec.sample_rate / codec.frame_samples) + 1
    with file:
        data = file.read()
    tokens = _of_silk(data, header, n_most) if data.startswith(MAGIC[:5]) else _of_json(data, codec)
    if len(tokens.frames) > n_most:
        raise SilkLimitError(f"{len(tokens.frames)} frames, expected at most {n_most}, {max_seconds:g} s")
    return tokens


def check_weights(sha256: Any, codec: Codec) -> None:
    """Raise SilkModelError unless tokens are of the codec's weights, or do not say of which."""
    if sha256 is not None and sha256 != codec.weights_sha256:
        raise SilkModelError(f"made by weights {shown(sha256)}, but those of this server are {codec.weights_sha256}")


def _of_silk(data: bytes, expected: SilkHeader | None, n_most: int) -> Tokens:
    if expected is None:
        raise SilkFormatError("a .silk file, but the codec of this server has none; expected JSON")
    reader = SilkReader(io.BytesIO(data))
    for name in ("sample_rate", "frame_samples", "output_delay", "dims", "levels", "group_size", "weights_sha256"):
        found, needed = getattr(reader.header, name), getattr(expected, name)
        if found != needed:
            error = SilkModelError if name == "weights_sha256" else SilkFormatError
            raise error(f"not a file for this model: {name} is {found}, the model's is {needed}")
    if reader.n_frames > n_most:
        raise SilkLimitError(f"{reader.n_frames} frames, expected at most {n_most}")
    return Tokens(torch.from_numpy(reader.read(0, reader.n_frames)), reader.n_samples)


def _of_json(data: bytes, codec: Codec) -> Tokens:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SilkFormatError(f"neither a .silk file nor JSON ({error})") from error
    if not isinstance(given, dict) or "tokens" not in given:
        raise SilkFormatError(f'expected a JSON object with "tokens", got {shown(given)}')
    check_weights(given.get("weights_sha256"), codec)
    frames = frames_of(given["tokens"], codec)
    n_samples = given.get("n_samples")
    if n_samples is not None:
        n_samples = whole_number("n_samples", n_samples, 1, len(frames) * codec.frame_samples)
    return Tokens(frames, n_samples)


def frames_of(rows: Any, codec: Codec) -> Tensor:
    """Give lists or an array of tokens as int32 ``[F, K]``, F >= 1.

    Raises:
        SilkInputError: another shape, something else than integers, or tokens that there are not.
    """
    expected = f"tokens must be integers [F, {codec.tokens_per_frame}], F >= 1"
    try:
        array = np.asarray(rows)
    except (ValueError, TypeError, OverflowError) as error:
        raise SilkInputError(f"{expected}, got rows of several lengths ({error})") from error
    if array.ndim != 2 or not len(array) or array.shape[1] != codec.tokens_per_frame or array.dtype.kind not in "iu":
        raise SilkInputError(f"{expected}, got {array.dtype} {list(array.shape)}")
    if array.min() < 0 or array.max() >= 2**31:
        raise SilkInputError(f"tokens are {array.min()} .. {array.max()}, expected what an int32 holds, from 0")
    frames = torch.from_numpy(array.astype(np.int32))
    codec.check_tokens(frames[None])
    return frames
