"""How the codecs of other libraries are cut in time: what each reads, and what it carries from piece to piece.

A codec of convolutions alone is cut into pieces that overlap by their reach, counted from the modules. One with a part
that remembers all before, an LSTM or attention, is a chain of convolutions, that part with its state, and convolutions.
Frames of a piece are whole units, so that groups of frames with one code and windows of attention stay together.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

Move = Callable[[Tensor], Tensor]


def reach(module: nn.Module, rate: int) -> int:
    """Count how many frames a chain of convolutions reads, at most, on one side of a frame.

    Args:
        module: its convolutions in the order in which they are applied, and of parallel branches all.
        rate: elements of a frame, of the signal that it gets.
    """
    elements, left, right = Fraction(rate), Fraction(0), Fraction(0)
    for layer in module.modules():
        if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            continue
        stride, padding = int(layer.stride[0]), int(layer.padding[0])
        span = (layer.kernel_size[0] - 1) * layer.dilation[0]
        if isinstance(layer, nn.ConvTranspose1d):
            left += Fraction(max(span - padding, 0), stride) / elements
            right += Fraction(padding, stride) / elements
            elements *= stride
        else:
            left += padding / elements
            right += max(span - padding, 0) / elements
            elements /= stride
    return math.ceil(max(left, right)) + 1  # a frame is read from its start to its end


@dataclass(frozen=True)
class Piece:
    """Frames ``first`` to ``last`` are read, ``start`` to ``end`` are kept."""

    first: int
    last: int
    start: int
    end: int
    is_last: bool

    def kept(self, y: Tensor, stride: int | Fraction) -> Tensor:
        """Of results with an element for every ``stride`` frames; at the end all there is."""
        first = int((self.start - self.first) / stride)
        return y[..., first : None if self.is_last else first + int((self.end - self.start) / stride)]


def pieces(n_frames: int, size: int, n_before: int = 0, n_after: int = 0) -> Iterator[Piece]:
    """Pieces of ``size`` frames, the last of up to half as many more, that read so many before and after them."""
    for start in range(0, n_frames, size):
        end = min(start + size, n_frames)
        if n_frames - end < size // 2:  # no piece too short for the model's padding
            end = n_frames
        yield Piece(max(0, start - n_before), min(n_frames, end + n_after), start, end, end == n_frames)
        if end == n_frames:
            return


@dataclass(frozen=True)
class Cuts:
    """How a model is cut.

    Args:
        sample_rate, n_channels: of its audio.
        hop: samples of a frame.
        unit: frames that stay together.
        strides: frames for one element of each result; one for all where it is an integer.
        join: what ``encode_long`` returns, of the joined results: tensors with time in the last dimension.
        split: results, of what ``encode_long`` returns and ``decode_long`` is given.
    """

    sample_rate: int
    n_channels: int
    hop: int
    unit: int
    strides: tuple[int, ...]
    join: Callable[[list[Tensor]], Any]
    split: Callable[[Any], list[Tensor]]

    def encoded(self, audio: Tensor, size: int, move: Move) -> Iterator[list[Tensor]]:
        """Results of every piece of ``size`` frames of audio ``[B, C, T]``, once a piece was moved to the model."""
        raise NotImplementedError

    def decoded(self, results: list[Tensor], n_frames: int, size: int, move: Move) -> Iterator[Tensor]:
        """Audio ``[B, C, T]`` of every piece of ``size`` frames."""
        raise NotImplementedError


@dataclass(frozen=True)
class Overlapping(Cuts):
    """Pieces overlap by a reach.

    Args:
        reaches: of the encoder and the decoder, frames.
        encode: audio ``[B, C, T]`` to results.
        decode: results to audio.
    """

    reaches: tuple[int, int]
    encode: Callable[[Tensor], list[Tensor]]
    decode: Callable[[list[Tensor]], Tensor]

    def encoded(self, audio: Tensor, size: int, move: Move) -> Iterator[list[Tensor]]:
        n_frames = -(-audio.shape[-1] // self.hop)
        for piece in self._pieces(n_frames, size, self.reaches[0]):
            end = piece.last * self.hop if piece.last < n_frames else None
            results = self.encode(move(audio[..., piece.first * self.hop : end]))
            yield [piece.kept(y, stride) for y, stride in zip(results, self.strides, strict=True)]

    def decoded(self, results: list[Tensor], n_frames: int, size: int, move: Move) -> Iterator[Tensor]:
        for piece in self._pieces(n_frames, size, self.reaches[1]):
            parts = zip(results, self.strides, strict=True)
            inputs = [move(part[..., piece.first // stride : piece.last // stride]) for part, stride in parts]
            yield piece.kept(self.decode(inputs), Fraction(1, self.hop))

    def _pieces(self, n_frames: int, size: int, n_reach: int) -> Iterator[Piece]:
        """Where a unit is more than a frame, as attention spreads a reach over it, one more on either side."""
        n_more = (-(-n_reach // self.unit) + (self.unit > 1)) * self.unit
        return pieces(n_frames, size, n_more, n_more)


@dataclass
class ChainState:
    """What a chain remembers of a signal: frames that ``front`` and ``back`` read again, and the state between them."""

    heard: Tensor
    hidden: Tensor
    middle: Any = None


@dataclass(frozen=True)
class Chain:
    """Causal convolutions, a part with a state, causal convolutions.

    Args:
        front, back: of signals ``[B, C, T]``; what else they do is done to every frame by itself.
        middle: of a signal and the state that it returned last, None at first; its result, and the state after it.
        reaches: of ``front`` and ``back``, frames.
        sizes: elements of a frame, of the signals before ``front``, in the middle, and after ``back``.
    """

    front: Callable[[Tensor], Tensor]
    middle: Callable[[Tensor, Any], tuple[Tensor, Any]]
    back: Callable[[Tensor], Tensor]
    reaches: tuple[int, int]
    sizes: tuple[int, int, int]

    def run(self, x: Tensor, n_frames: int, size: int, move: Move) -> Iterator[Tensor]:
        """Results of every piece of ``size`` frames of ``x``."""
        n_in, state = self.sizes[0], self.initial_state(x)
        for piece in pieces(n_frames, size):
            yield self.step(x[..., piece.start * n_in : None if piece.is_last else piece.end * n_in], state, move)

    def initial_state(self, x: Tensor) -> ChainState:
        """What is remembered before the first frames of ``x``: nothing."""
        return ChainState(x[..., :0], x.new_empty(0))

    def step(self, x: Tensor, state: ChainState, move: Move) -> Tensor:
        """Results of the next frames, whole ones but at the end of the signal."""
        n_in, n_middle, n_out = self.sizes
        n_heard, n_hidden = state.heard.shape[-1] // n_in, state.hidden.shape[-1] // n_middle
        heard = torch.cat([state.heard, x], -1)
        hidden, state.middle = self.middle(self.front(move(heard))[..., n_heard * n_middle :], state.middle)
        hidden = torch.cat([state.hidden, hidden], -1) if n_hidden else hidden
        state.heard, state.hidden = heard[..., -self.reaches[0] * n_in :], hidden[..., -self.reaches[1] * n_middle :]
        return self.back(hidden)[..., n_hidden * n_out :]


@dataclass(frozen=True)
class Chained(Cuts):
    """Pieces follow one another through an encoder and a decoder that are chains; codes are one tensor."""

    encoder: Chain
    decoder: Chain
    n_first: int = 1  # frames that the first piece has, for what its padding mirrors

    def encoded(self, audio: Tensor, size: int, move: Move) -> Iterator[list[Tensor]]:
        return ([y] for y in self.encoder.run(audio, -(-audio.shape[-1] // self.hop), size, move))

    def decoded(self, results: list[Tensor], n_frames: int, size: int, move: Move) -> Iterator[Tensor]:
        return self.decoder.run(results[0], n_frames, size, move)
