"""What every request shares: the codec, its engine, the limits, and a count of those that are being answered."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from anyio import fail_after
from torch import Tensor

from silk_fast.audio import SUFFIXES
from silk_fast.errors import SilkBusyError
from silk_fast.reference.codec import SilkCodec
from silk_fast.runtime.codec import Codec
from silk_fast.runtime.engine import Engine
from silk_fast.runtime.serve.metrics import Metrics
from silk_fast.runtime.tracks import Way
from silk_fast.runtime.transcode import Transcoder

PIECE_SECONDS = 4.0  # of sound that is decoded while what is before it is sent
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        max_bytes: of a body.
        max_seconds: of sound in a request; a stream may go on for ever.
        max_queue: requests beyond the engine's slots, being received or waiting.
        timeout: seconds in which a body must have come, in which its answer must be there, and for which a stream may
            be silent.
        hosts: names by which the server may be called, in lower case; None: by any.
    """

    max_bytes: int = 64 * 2**20
    max_seconds: float = 600.0
    max_queue: int = 64
    timeout: float = 60.0
    hosts: frozenset[str] | None = None


@dataclass
class Service:
    """A codec and its engine behind a server.

    Args:
        codec: that the engine runs.
        engine: closed by whoever made it.
        limits: of requests.
        model: name under which the codec is served.

    Attributes:
        header: of the codec's ``.silk`` files; None of a codec of another library.
    """

    codec: Codec
    engine: Engine
    limits: Limits
    model: str
    n_open: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.engine.stats, lambda: self.n_open)
        model = getattr(self.codec, "model", None)
        self.header = Transcoder(model, self.codec.weights_sha256).header if isinstance(model, SilkCodec) else None
        self._readers = ThreadPoolExecutor(2, "silk-serve")  # of bodies: libsndfile lets other threads run

    def n_decoded(self, n_frames: int) -> int:
        """Count the samples that so many frames decode to, in each channel."""
        return n_frames * self.codec.frame_samples - self.codec.output_delay

    def description(self) -> dict[str, Any]:
        """Describe the codec and what the server takes, as ``/v1/models`` does."""
        codec, limits = self.codec, self.limits
        sizes = ("sample_rate", "n_channels", "frame_samples", "tokens_per_frame", "causal", "weights_sha256")
        return {
            "id": self.model,
            "object": "model",
            "codec": codec.name,
            **{name: getattr(codec, name) for name in sizes},
            "versions": codec.versions,
            "bits_per_frame": None if self.header is None else 8 * self.header.frame_bytes,
            "formats": list(SUFFIXES),
            "max_bytes": limits.max_bytes,
            "max_seconds": limits.max_seconds,
        }

    def close(self) -> None:
        """Let go of the threads that read bodies."""
        self._readers.shutdown(cancel_futures=True)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a request while it is answered.

        Raises:
            SilkBusyError: as many as the engine's slots and the queue hold are being answered.
        """
        n_places = self.engine.stats().n_slots + self.limits.max_queue
        if self.n_open >= n_places:
            raise SilkBusyError(f"{self.n_open} requests are being answered, and no more are taken; try again later")
        self.n_open += 1
        try:
            yield
        finally:
            self.n_open -= 1

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that takes time in one of few threads, which goes on if this is cancelled."""
        return await asyncio.wrap_future(self._readers.submit(function, *args, **kwargs))

    async def computed(self, direction: Way, item: Tensor) -> Tensor:
        """Let the engine encode or decode one item; cancelling this frees its slot."""
        return await self.result(self.engine.submit(direction, item, timeout=self.limits.timeout))

    def decoded_pieces(self, frames: Tensor, held: ExitStack) -> "list[Future[Tensor]]":
        """Let the engine decode frames int32 ``[F, K]``; gives the pieces of the sound, in order, to come.

        Args:
            held: when it is closed, what is not decoded by then is given up.
        """
        codec, timeout = self.codec, self.limits.timeout
        if not codec.causal:
            future = self.engine.submit("decode", frames, timeout=timeout)
            held.callback(future.cancel)
            return [future]
        session = self.engine.stream("decode", timeout=timeout)
        held.callback(session.close)
        size = round(PIECE_SECONDS * codec.sample_rate / codec.frame_samples)
        size = max(size, -(-len(frames) // self.limits.max_queue))  # no more pieces wait than the engine lets
        return [*(session.push(piece) for piece in frames.split(size)), session.finish()]

    async def result(self, future: "Future[Tensor]") -> Tensor:
        """Wait for what the engine makes.

        Raises:
            TimeoutError: it was not there in time.
        """
        with fail_after(self.limits.timeout):
            return await asyncio.wrap_future(future)
