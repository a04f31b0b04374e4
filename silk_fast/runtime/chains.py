"""Steps of the causal codecs of other libraries, EnCodec and Mimi: one signal at a time, as it arrives.

What a signal remembers is the library's own, and belongs to its slot: attention with a cache, an LSTM's state, and the
frames that convolutions read again. At every step these are computed again, so that short steps cost more.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.codecs.cuts import Chained, ChainState
from silk_fast.codecs.long import PIECE_SECONDS, mover
from silk_fast.runtime.codec import OfLibrary, padded
from silk_fast.runtime.steps import Result


class ChainSteps:
    """Steps of as many frames as a signal has, up to ten seconds.

    Args:
        codec: one that is causal.
        cuts: its own.
        is_encoding: or decoding.
    """

    depth, most, pads = 0, 1, False

    def __init__(self, codec: OfLibrary, cuts: Chained, is_encoding: bool) -> None:
        self._codec, self._cuts, self._is_encoding = codec, cuts, is_encoding
        self._chain = cuts.encoder if is_encoding else cuts.decoder
        self._move = mover(codec.model)
        self._most = max(cuts.unit, round(PIECE_SECONDS * cuts.sample_rate / cuts.hop) // cuts.unit * cuts.unit)
        self._states: dict[int, ChainState] = {}
        self.multiple, self.n_first = cuts.unit, cuts.n_first

    def plan(self, n_ready: Sequence[int]) -> tuple[int, int]:
        return 1, min(n_ready[0], self._most)

    def start(self, slots: Sequence[int], is_new: Sequence[bool], inputs: Tensor) -> Result:
        (slot,), (new,) = slots, is_new
        if self._is_encoding:
            x = padded(self._codec.name, inputs, self._cuts.hop) if new else inputs
        else:
            x = inputs.long().transpose(1, 2)
        if new:
            self._states[slot] = self._chain.initial_state(x)
        y = self._chain.step(x, self._states[slot], self._move).cpu()
        if self._is_encoding:
            outputs = y.transpose(1, 2).int()
        else:
            outputs = F.pad(y.float(), (0, inputs.shape[1] * self._cuts.hop - y.shape[-1]))
        return lambda: (outputs, torch.ones(1, dtype=torch.bool))
