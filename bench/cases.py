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
    """One call to compile for every GPU target, and whose work is counted.

    ``make`` gives the inputs; ``call`` is the op, given the kernels and the inputs.
    """

    op: str
    shape: str  # for people
    dtype: torch.dtype  # of the main input
    make: Callable[["Source"], list]
    call: Callable
    wide: frozenset[str] = frozenset()  # memory-bound kernels: their bulk accesses must be 16 bytes wide
    tensor_cores: frozenset[str] = frozenset()  # kernels that must use matrix instructions
    with_gradients: bool = True
    sizes: dict[str, Any] | None = None  # arguments of op_cost, of ops whose arithmetic is matrix products

    def run(self) -> None:
        """Call the op, forward and backward, on CPU tensors."""
        inputs = self.make(Source(torch.device("cpu"), self.dtype, self.with_gradients))
        outputs = outputs_of(self.call(kernels(), *inputs))
        if self.with_gradients:
            differentiable = [y for y in outputs if y.requires_grad]
            torch.autograd.backward(differentiable, [torch.randn_like(y) for y in differentiable])


@dataclass(frozen=True)
class TimingCase:
    """One call to measure, by several providers.

    ``make`` gives the inputs; ``calls`` are by provider the function of the inputs: ours, eager and library rivals;
    ``layouts`` by provider what makes its inputs of those before the clock starts, as packed weights.
    """

    op: str  # as op_cost knows it
    layer: str  # "Silk small 24 kHz"
    point: Point
    dtype: torch.dtype  # of the main input
    direction: str  # "forward" or "backward"; the latter alone, without the forward pass before it
    is_first: bool  # the layer is the first of its op, or a stream
    is_main: bool  # the layer is one of those measured first
    is_stream: bool  # it continues a signal, with a context, a cache or an overlap of earlier frames
    sizes: dict[str, Any]  # arguments of op_cost
    dims: Sequence[int]  # of the main input
    make: Callable[["Source"], list]
    calls: dict[str, Callable]
    layouts: dict[str, Callable] = field(default_factory=dict)

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
    layers: Sequence[str],
    points: Sequence[Point],
    dtypes: Sequence[torch.dtype],
    main: Iterable[str] | None = None,
    directions: Sequence[str] = ("forward", "backward"),
) -> list[TimingCase]:
    """Cases of every layer, point, dtype and direction; of streams, which go frame by frame, forward alone.

    Args:
        describe: gives the other fields of a case, by layer, point, dtype and direction.
        layers: by name; those of streams end in ``stream``.
        main: layers that are measured first, beside streams; None for all.
    """
    cases = []
    for layer, point, dtype, direction in itertools.product(layers, points, dtypes, directions):
        is_stream = layer.endswith("stream")
        if is_stream and (point[1] != FRAME or direction == "backward"):
            continue
        is_main = is_stream or main is None or layer in main
        ranks = (is_stream or layer == layers[0], is_main, is_stream)
        fields = describe(layer, point, dtype, direction)
        cases.append(TimingCase(op, layer, point, dtype, direction, *ranks, **fields))
    return cases


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


def outputs_of(result: object) -> list[Tensor]:
    """Tensors that a call returned."""
    return list(result) if isinstance(result, tuple | list) else [result]


def frames(seconds: float, rate: float) -> int:
    """Frames of ``seconds`` at ``rate`` a second; at least one."""
    return max(1, round(seconds * rate))
