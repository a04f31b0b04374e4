"""One signal on its way through an engine: what of it waits, what is done, and who waits for that."""

import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.errors import SilkInputError
from silk_fast.reference.checks import described
from silk_fast.runtime.codec import Codec

Way = Literal["encode", "decode"]
Answer = tuple[Future, "Tensor | BaseException"]


def answer(answers: list[Answer]) -> None:
    """Give every future its result or its error, but for those that were cancelled meanwhile."""
    for future, result in answers:
        with suppress(InvalidStateError):
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)


class Track:
    """A signal of an engine, which calls the methods one at a time.

    Args:
        codec: whose signal it is.
        way: encode or decode.
        multiple: frames that are taken at a time, but at the end.
        n_first: frames without which none is taken, but at the end.
        pads: whether what is taken at the end gets zeros to whole frames.
        is_whole: whether all of it comes at once, is taken at once, and as it is.
        timeout: seconds until it is late; None for never.

    Attributes:
        slot: where its state is, while it has one.
        is_new: whether no frame was taken yet.
        is_ended: whether nothing more is to come.
        error: why it was given up, if it was.
        ready_since: when it had frames that could be taken, in seconds of ``time.monotonic``.
        late_at: when it is late, of the same clock.
    """

    def __init__(
        self,
        codec: Codec,
        way: Way,
        timeout: float | None,
        *,
        multiple: int = 1,
        n_first: int = 1,
        pads: bool = True,
        is_whole: bool = False,
    ) -> None:
        self._codec, self.way, self._timeout, self.is_whole = codec, way, timeout, is_whole
        self._multiple, self._n_first, self._pads = multiple, n_first, pads and not is_whole
        self._is_audio = way == "encode"
        self._unit = codec.frame_samples if self._is_audio else 1
        shape = (codec.n_channels, 0) if self._is_audio else (0, codec.tokens_per_frame)
        self._held = torch.zeros(shape, dtype=torch.float32 if self._is_audio else torch.int32)
        self._n_pushed = self._n_taken = self._n_done = 0  # samples or frames; frames; frames
        self._n_skip = 0 if self._is_audio else codec.output_delay  # samples of what is decoded
        self._waiting: deque[tuple[Future, int]] = deque()  # and the frames that it takes
        self._done: list[Tensor] = []
        self.slot: int | None = None
        self.is_ended = False
        self.error: BaseException | None = None
        self.ready_since = 0.0
        self.touch()

    def touch(self) -> None:
        """Start its time anew."""
        self.late_at = None if self._timeout is None else time.monotonic() + self._timeout

    @property
    def is_new(self) -> bool:
        return self._n_taken == 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.error is not None or (self.is_ended and not self._waiting)

    @property
    def n_waiting(self) -> int:
        """Pieces that are not done."""
        return len(self._waiting)

    @property
    def _n_frames(self) -> int:
        """Frames of what was pushed that can be taken sooner or later."""
        if not self.is_ended:
            n_whole = self._n_pushed // self._unit
            return 0 if n_whole < self._n_first else n_whole // self._multiple * self._multiple
        return self._codec.n_frames(self._n_pushed) if self._is_audio else self._n_pushed

    @property
    def n_ready(self) -> int:
        """Frames that can be taken now."""
        return 0 if self.error else self._n_frames - self._n_taken

    @property
    def n_held(self) -> int:
        """Samples or frames that were not taken; those of two tracks are alike if these are."""
        return self._held.shape[-1 if self._is_audio else 0]

    def push(self, future: Future, piece: Tensor | None, is_end: bool) -> list[Answer]:
        """Take more of the signal, checked, on the CPU, and perhaps its end; gives what can be answered at once."""
        if not self.n_ready:
            self.ready_since = time.monotonic()
        if piece is not None and piece.numel():
            self._held = torch.cat([self._held, piece], -1 if self._is_audio else 0) if self.n_held else piece
            self._n_pushed += piece.shape[-1 if self._is_audio else 0]
        self.is_ended = is_end
        self._waiting.append((future, self._n_frames))
        self.touch()
        return self._answers()

    def take(self, n_frames: int) -> Tensor:
        """Give the next frames, and at the end of the signal, if it pads, zeros behind it."""
        n_wanted = n_frames * self._unit
        self._n_taken += min(n_frames, self.n_ready)
        dim = -1 if self._is_audio else 0
        n_given = min(n_wanted, self.n_held)
        given, self._held = self._held.split([n_given, self.n_held - n_given], dim)
        if n_given == n_wanted or not self._pads:
            return given
        return F.pad(given, (0, n_wanted - n_given) if self._is_audio else (0, 0, 0, n_wanted - n_given))

    def accept(self, output: Tensor) -> list[Answer]:
        """Take what a step made of the frames that were taken first, and maybe of zeros behind them."""
        if self.error is not None:
            return []
        n_new = min(self._n_taken - self._n_done, self._n_of(output))
        self._n_done += n_new
        if self._is_audio:
            self._done.append(output[:n_new])
        else:
            output = output[..., : n_new * self._codec.frame_samples]
            n_skipped = min(self._n_skip, output.shape[-1])
            self._n_skip -= n_skipped
            self._done.append(output[..., n_skipped:])
        return self._answers()

    def _n_of(self, output: Tensor) -> int:
        return len(output) if self._is_audio else output.shape[-1] // self._codec.frame_samples

    def _answers(self) -> list[Answer]:
        answers: list[Answer] = []
        while self._waiting and self._waiting[0][1] <= self._n_done:
            dim = 0 if self._is_audio else -1
            answers.append((self._waiting.popleft()[0], torch.cat([self._nothing(), *self._done], dim)))
            self._done = []
        return answers

    def _nothing(self) -> Tensor:
        if self._is_audio:
            return torch.zeros(0, self._codec.tokens_per_frame, dtype=torch.int32)
        return torch.zeros(self._codec.n_channels, 0)

    def fail(self, error: BaseException) -> list[Answer]:
        """Give the signal up."""
        self.error, self._held = error, self._held[:0]
        answers: list[Answer] = [(future, error) for future, _ in self._waiting]
        self._waiting.clear()
        self._done = []
        return answers


def checked_item(codec: Codec, way: Way, item: Any, may_be_empty: bool = False) -> Tensor:
    """Give audio ``[C, T]`` in float32, or tokens ``[F, K]`` in int32, on the CPU.

    Raises:
        SilkInputError: another shape, dtype or value; or nothing in it, unless it ``may_be_empty``.
    """
    shape = f"[{codec.n_channels}, T]" if way == "encode" else f"[F, {codec.tokens_per_frame}]"
    what = f"audio must be floating-point {shape}" if way == "encode" else f"tokens must be int32 or int64 {shape}"
    if not isinstance(item, Tensor) or item.ndim != 2:
        raise SilkInputError(f"{what}, got {described(item)}")
    empty = (codec.n_channels, 0) if way == "encode" else (0, codec.tokens_per_frame)
    if not (may_be_empty and tuple(item.shape) == empty):
        check = codec.check_audio if way == "encode" else codec.check_tokens
        check(item[None])
    return item.detach().to("cpu", torch.float32 if way == "encode" else torch.int32)
