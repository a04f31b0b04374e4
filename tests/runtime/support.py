"""Codecs as the runtime has them, and a device that only pretends to run CUDA graphs."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from silk_fast import SilkCodec, accelerate_
from silk_fast.acceleration import swap
from silk_fast.reference.pretrained import weights_sha256
from silk_fast.runtime import halves
from silk_fast.runtime.codec import BUNDLED, Loaded, Silk
from silk_fast.runtime.graphs import GraphSteps
from silk_fast.runtime.steps import Direction
from tests.support import make_codec, speech


def as_loaded(model: SilkCodec) -> Silk:
    return Silk(Loaded(model, weights_sha256(model), None))


@cache
def tiny() -> Silk:
    """The smallest codec, untrained."""
    return as_loaded(make_codec())


def accelerated(model: SilkCodec) -> Silk:
    """A model with the forms for a CPU, also where Triton's interpreter would serve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap, "_why_no_kernels", lambda model: "no card")
        accelerate_(model)
    return as_loaded(model)


@cache
def bundled() -> Silk:
    """The bundled model, accelerated."""
    return accelerated(SilkCodec.from_pretrained(BUNDLED))


def clips(n: int, longest: int, seed: int = 0) -> list[Tensor]:
    """Speech ``[1, T]`` from here and there, of 1 to ``longest`` samples, no two of one length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = (torch.randperm(longest, generator=generator)[:n] + 1).tolist()
    return [speech(length, start=7919 * i)[0] for i, length in enumerate(lengths)]


class Pretended:
    """A device whose graphs are the steps themselves: what comes of them must lie in the buffers that were there.

    Args:
        why_not: why nothing can be captured, if so.
    """

    device = torch.device("cpu")

    def __init__(self, why_not: str = "") -> None:
        self.why_not = why_not
        self.n_captured = 0

    def pinned(self, like: Tensor) -> Tensor:
        return torch.full_like(like, -1)

    def captured(self, step: Callable[[], None]) -> Callable[[], None]:
        if self.why_not:
            raise RuntimeError(self.why_not)
        step()
        self.n_captured += 1
        return step

    def marked(self) -> Callable[[], None]:
        return lambda: None


def pretend(monkeypatch: pytest.MonkeyPatch, device: Pretended) -> None:
    """Have engines run as they would on a GPU."""

    def steps(direction: Direction, n_slots: int, n_frames: int | None, fixed: bool) -> GraphSteps:
        return GraphSteps(direction, n_slots, n_frames or 1, device, fixed)

    monkeypatch.setattr(halves, "EagerSteps", steps)
