"""What a file of ``bench/ops`` offers: cases, each one call of an op at one shape and dtype.

``static_cases()`` are compiled for GPU targets by ``bench.static``; ``timing_cases(points, dtypes)`` are measured.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from silk_fast.benchmark.costs import Cost, op_cost
from silk_fast.benchmark.rows import dtype_name
from silk_fast.reference import ops as reference

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

Point = tuple[int, float]
"""Batch size, and seconds of audio."""

FRAME = 0.4
"""Seconds of one frame of Silk."""

GRID: tuple[Point, ...] = tuple((batch, seconds) for seconds in (FRAME, 10, 60) for batch in (1, 8, 64))
"""One frame of Silk, a sentence, a minute; alone, in a small and in a large batch."""

TELLING: tuple[Point, ...] = ((1, FRAME), (8, 10))
"""The points that are measured first: launches dominate the one, the device the other."""


@dataclass(frozen=True)
class StaticCase:
    """One call to compile for every GPU target.

    Args:
        op: name of the op.
        shape: what is computed, for people.
        dtype: of the main input.
        run: calls the op, forward and backward, on CPU tensors; nothing is executed, only compiled.
        wide: names of kernels that are memory-bound: their bulk accesses must be 16 bytes wide.
        tensor_cores: names of kernels that must use matrix instructions.
    """

    op: str
    shape: str
    dtype: torch.dtype
    run: Callable[[], None]
    wide: frozenset[str] = field(default_factory=frozenset)
    tensor_cores: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class TimingCase:
    """One call to measure, by several providers.

    Args:
        op: name of the op, as ``op_cost`` knows it.
        layer: whose layer it is: ``"Silk small 24 kHz"``.
        point: batch size and seconds of audio.
        dtype: of the main input.
        direction: ``"forward"`` or ``"backward"``; the latter alone, without the forward pass before it.
        is_main: whether the layer is one of those measured first.
        is_stream: whether it continues a signal, with a context, a cache or an overlap of earlier frames.
        sizes: arguments of ``op_cost``.
        dims: of the main input.
        make: the inputs, from a source of tensors.
        calls: by provider, the function of the inputs: ``"ours"``, ``"eager"`` and library rivals.
        scratch: bytes of what the eager call holds beside tensors of the size of its inputs and outputs.
        layouts: by provider, what makes its inputs of those of the case before the clock starts: packed weights.
        uncapturable: providers that synchronise with the host, so that no CUDA graph can hold them.
    """

    op: str
    layer: str
    point: Point
    dtype: torch.dtype
    direction: str
    is_main: bool
    is_stream: bool
    sizes: dict[str, Any]
    dims: Sequence[int]
    make: Callable[["Source"], list]
    calls: dict[str, Callable]
    scratch: int = 0
    layouts: dict[str, Callable] = field(default_factory=dict)
    uncapturable: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """``"Silk small 24 kHz, 10 s, batch 8"``."""
        batch, seconds = self.point
        return f"{self.layer}, {seconds:g} s, batch {batch}"

    @property
    def cost(self) -> Cost:
        """Least traffic and arithmetic."""
        return op_cost(self.op, self.direction, self.dtype, **self.sizes)

    @property
    def eager_bytes(self) -> int:
        """About what the eager call allocates: some four tensors for each input or output that is needed."""
        return 4 * self.cost.bytes + self.scratch

    @property
    def family(self) -> tuple[str, str, str]:
        """What a parity check speaks for."""
        return self.op, dtype_name(self.dtype), self.direction

    @property
    def is_served(self) -> bool:
        """Whether an accelerated Silk runs the op in this dtype: convolutions in float16, the rest in float32."""
        return self.dtype == (torch.float16 if self.op in ("snake", "residual_unit") else torch.float32)

    @property
    def is_telling(self) -> bool:
        """Whether it is measured first, and by every provider."""
        return self.is_main and self.point in TELLING

    def inputs(self, device: torch.device) -> list:
        """Tensors on a device; those that a backward pass differentiates to require gradients."""
        return self.make(Source(torch.device(device), self.dtype, self.direction == "backward"))


def all_cases(
    op: str,
    describe: Callable[[str, Point, torch.dtype, str], dict[str, Any]],
    layers: Iterable[str],
    points: Sequence[Point],
    dtypes: Sequence[torch.dtype],
    main: Iterable[str] | None = None,
    streams: Iterable[str] = (),
    directions: Sequence[str] = ("forward", "backward"),
) -> list[TimingCase]:
    """Cases of every layer, point, dtype and direction; of streams, which go frame by frame, forward alone.

    Args:
        describe: gives the other fields of a case, by layer, point, dtype and direction.
        main: layers that are measured first; None for all.
    """
    frames = [point for point in points if point[1] == FRAME]
    choices = [
        *itertools.product(layers, points, dtypes, directions),
        *itertools.product(streams, frames, dtypes, ("forward",)),
    ]
    return [
        TimingCase(op, *choice, main is None or choice[0] in main, choice[0] in streams, **describe(*choice))
        for choice in choices
    ]


class Source:
    """Random inputs, the same at every call.

    Args:
        device: where they live.
        dtype: of floating-point tensors.
        with_gradients: whether tensors require gradients, unless ``constant``.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, with_gradients: bool) -> None:
        self.device, self.dtype, self.with_gradients = device, dtype, with_gradients
        self.generator = torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int, scale: float = 1.0, constant: bool = False) -> Tensor:
        """Draw from a normal distribution."""
        return self._input(torch.randn(shape, generator=self.generator, device=self.device) * scale, constant)

    def positive(self, *shape: int) -> Tensor:
        """Draw between 0.5 and 1.5."""
        return self._input(torch.rand(shape, generator=self.generator, device=self.device) + 0.5, False)

    def heads(self, batch: int, heads: int, n_time: int, dim: int) -> Tensor:
        """Draw ``[B, H, T, D]`` as a projection leaves it: heads side by side in memory."""
        flat = torch.randn(batch, n_time, heads * dim, generator=self.generator, device=self.device)
        return self._input(flat.unflatten(-1, (heads, dim)).transpose(1, 2), False)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw int32, uniform below ``high``."""
        return torch.randint(high, shape, generator=self.generator, device=self.device, dtype=torch.int32)

    def _input(self, tensor: Tensor, constant: bool) -> Tensor:
        return tensor.to(self.dtype).requires_grad_(self.with_gradients and not constant)


def both(call: Callable[..., object]) -> dict[str, Callable]:
    """``ours`` and ``eager``: one call given the kernels and the reference functions, in turn."""
    return {"ours": lambda *inputs: call(kernels(), *inputs), "eager": lambda *inputs: call(reference, *inputs)}


def kernels() -> ModuleType:
    """``silk_fast.kernels``, which imports triton."""
    from bench.checkout import find_kernels

    find_kernels()
    from silk_fast import kernels

    return kernels


def frames(seconds: float, rate: float) -> int:
    """Frames of ``seconds`` at ``rate`` a second; at least one."""
    return max(1, round(seconds * rate))
