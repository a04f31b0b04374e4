"""From a recording to the tokens of those parts of it that are wanted, in one pass."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from silk_fast.errors import SilkError
from silk_fast.reference.streaming import Stream
from silk_fast.runtime.codec import Codec, Silk
from silk_fast.runtime.tokenize.blocks import Form, Sound
from silk_fast.runtime.tokenize.sources import Input, Refused

SLACK = 0.05  # seconds by which an end may be behind that of the recording: ends are often rounded
BLOCK_SECONDS = 10.0  # read at once for codecs other than Silk


@dataclass(frozen=True)
class Encoded:
    """Tokens int32 ``[F, K]`` of ``n_samples`` at the codec's rate."""

    tokens: np.ndarray
    n_samples: int


class _Sink(Protocol):
    def push(self, samples: np.ndarray) -> None: ...

    def finish(self) -> np.ndarray: ...


class _Chunks:
    """Silk, a chunk at a time, each as long as ``SilkCodec.encode`` has them, so that tokens are its own to the bit."""

    def __init__(self, codec: Silk, free: list[Stream]) -> None:
        self._codec, self._free = codec, free
        self._stream = free.pop() if free else codec.model.streaming()
        self._n_chunk = chunk_samples(codec)
        self._held = np.zeros(0, np.float32)
        self._tokens = bytearray()  # many small tensors would keep the memory between them from being used again

    def push(self, samples: np.ndarray) -> None:
        held = np.concatenate([self._held, samples]) if len(self._held) else samples
        n_whole = len(held) // self._n_chunk * self._n_chunk
        for start in range(0, n_whole, self._n_chunk):
            self._encode(held[start : start + self._n_chunk])
        self._held = held[n_whole:]

    def _encode(self, samples: np.ndarray) -> None:
        self._add(self._stream.encode(torch.from_numpy(samples)[None, None].to(self._codec.device)))

    def _add(self, tokens: Tensor) -> None:
        self._tokens += tokens[0].cpu().numpy().tobytes()

    def finish(self) -> np.ndarray:
        if len(self._held):
            self._encode(self._held)
        self._add(self._stream.finish())
        self._stream.reset()
        self._free.append(self._stream)  # it would take longer to check the weights and make another
        return np.frombuffer(self._tokens, np.int32).reshape(-1, self._codec.tokens_per_frame)


class _Whole:
    """Any codec, which gets the whole at once."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._blocks: list[np.ndarray] = []

    def push(self, samples: np.ndarray) -> None:
        self._blocks.append(samples)

    def finish(self) -> np.ndarray:
        audio = torch.from_numpy(np.concatenate(self._blocks))
        return self._codec.encode(audio.view(len(audio), self._codec.n_channels).T[None])[0].numpy()


class Encoder:
    """A codec at work on parts of recordings; streams of Silk are used again."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._free: list[Stream] = []

    def sink(self) -> _Sink:
        """Begin a part."""
        return _Chunks(self.codec, self._free) if isinstance(self.codec, Silk) else _Whole(self.codec)


class _Part:
    """Samples ``first`` to ``last`` of a recording; the end of it where that is None."""

    def __init__(self, one: Input, rate: int) -> None:
        self.one, self.n_samples = one, 0
        self.first = round((one.start or 0.0) * rate)
        self.last = None if one.end is None else max(self.first + 1, round(one.end * rate))
        self.sink: _Sink | None = None

    def push(self, encoder: Encoder, block: np.ndarray, position: int) -> None:
        """Take what is wanted of a block that begins at ``position``."""
        samples = block[max(0, self.first - position) : None if self.last is None else self.last - position]
        if self.sink is None:
            self.sink = encoder.sink()
        self.sink.push(samples)
        self.n_samples += len(samples)

    def finish(self) -> Encoded:
        assert self.sink is not None, "a part was begun before it is ended"
        return Encoded(self.sink.finish(), self.n_samples)


def chunk_samples(codec: Codec) -> int:
    """Say how many samples are read at once."""
    if isinstance(codec, Silk):
        return codec.model.chunk_frames() * codec.frame_samples
    return round(BLOCK_SECONDS * codec.sample_rate)


def form_of(codec: Codec) -> Form:
    """Say in what blocks a codec wants its recordings."""
    return Form(codec.sample_rate, codec.n_channels, chunk_samples(codec))


def encode_parts(
    encoder: Encoder, sound: Sound, inputs: Sequence[Input], most_seconds: float, tell: Callable[[float], None]
) -> Iterator[tuple[Input, Encoded | SilkError]]:
    """Encode the parts of a recording that inputs want, each as if it were a recording of its own.

    Args:
        sound: the recording, in blocks of :func:`form_of` the codec.
        most_seconds: of it that may be read.
        tell: called with the seconds that were read since the last call.

    Yields:
        Every input with its tokens, or with why it has none.
    """
    rate = encoder.codec.sample_rate
    n_most = round(most_seconds * rate)
    waiting = deque(sorted((_Part(one, rate) for one in inputs), key=lambda part: part.first))
    active: list[_Part] = []
    position = 0
    for part in list(waiting):
        n_wanted = part.last or sound.n_samples or 0
        if n_wanted > n_most:
            waiting.remove(part)
            yield part.one, _too_long(n_wanted / rate, most_seconds)
    while waiting or active:
        try:
            block = next(sound.blocks, None)
            if position > n_most:
                raise _too_long(position / rate, most_seconds)
        except SilkError as error:
            yield from ((part.one, error) for part in (*active, *waiting))
            return
        if block is None:
            break
        n_read = len(block)
        while waiting and waiting[0].first < position + n_read:
            active.append(waiting.popleft())
        going_on = []
        for part in active:
            try:
                part.push(encoder, block, position)
                if part.last is None or part.last > position + n_read:
                    going_on.append(part)
                else:
                    yield part.one, part.finish()
            except SilkError as error:
                yield part.one, error
        active, position = going_on, position + n_read
        tell(n_read / rate)
    for part in active:
        try:
            if part.last is not None and part.last > position + SLACK * rate:
                raise _beyond("end", part.last / rate, position / rate)
            yield part.one, part.finish()
        except SilkError as error:
            yield part.one, error
    yield from ((part.one, _beyond("start", part.first / rate, position / rate)) for part in waiting)


def _too_long(seconds: float, most_seconds: float) -> Refused:
    return Refused("duration", f"lasts {seconds / 3600:.2f} h or more, expected at most {most_seconds / 3600:g} h")


def _beyond(name: str, wanted: float, seconds: float) -> Refused:
    return Refused("segment", f"{name} is {wanted:.3f} s, but the recording has {seconds:.3f} s")
