"""Who computes a case: ours, eager, torch.compile, a library; each a job for the runner."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bench.cases import TimingCase
from silk_fast.benchmark.costs import Cost
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import COMPILED, Bench, triton_absence
from silk_fast.benchmark.timing import Measurement, measure, side_stream

COMPILE = {"compile": None, "compile-max": "max-autotune"}
"""Modes of torch.compile; max-autotune includes CUDA graphs."""

NEED_TRITON = ("ours", "cudnn")


def providers(case: TimingCase, with_compile: bool) -> list[str]:
    """Who can compute a case: ours and eager first, then the library, then torch.compile."""
    libraries = [name for name in case.calls if name not in ("ours", "eager")]
    return ["ours", "eager", *libraries, *(COMPILE if with_compile else ())]


@dataclass(frozen=True, eq=False)
class OpJob:
    """One case by one provider.

    Args:
        threads: of the CPU; None on a GPU.
    """

    case: TimingCase
    provider: str
    threads: int | None = None

    def __str__(self) -> str:
        threads = f"-{self.threads} threads" if self.threads else ""
        return f"{self.case.op}-{self.case.layer}-{self.provider}{threads}"

    @property
    def costs(self) -> list[Cost]:
        """By formula."""
        return [self.case.cost]

    def row(self, **values) -> Row:
        """The row of this job with ``values`` filled in."""
        case, cost = self.case, self.case.cost
        shape = "x".join(map(str, case.dims))
        place = ("ops", case.op, case.name, shape, dtype_name(case.dtype), case.direction, self.provider, self.threads)
        seconds = float(case.point[0] * case.point[1])
        return Row(*place, bytes=cost.bytes, flops=cost.flops, seconds=seconds, **values)

    def absence(self, bench: Bench) -> str | None:
        """Why it cannot be measured, as the status of its row; None if it can."""
        needs_triton = self.provider in NEED_TRITON
        if bench.device.type != "cuda" and (needing := self._what_needs_a_gpu()):
            return f"absent: {needing} a GPU"
        if needs_triton and (reason := triton_absence()):
            return reason
        if self.provider == "ours" and (reason := bench.wrong.get(self.case.family)):
            return reason
        needed, bound = 2 * self.case.cost.bytes if needs_triton else self.case.eager_bytes, bench.bound_bytes
        if needed > bound:
            return f"skipped: needs about {needed / 2**30:.1f} GiB, more than the bound of {bound / 2**30:.1f}"
        return None

    def _what_needs_a_gpu(self) -> str | None:
        if self.provider in NEED_TRITON:
            return "Triton needs"
        if self.provider == "compile-max":
            return "CUDA graphs need"
        if self.provider == "flex_attention" and self.case.direction == "backward":
            return "gradients of FlexAttention need"
        return None

    def call(self) -> Callable[..., object]:
        """The provider's function of the inputs."""
        if self.provider in COMPILED:
            # Shapes of earlier cases would count as recompilations, of which PyTorch allows few.
            torch.compiler.reset()
        if self.provider not in COMPILE:
            return self.case.calls[self.provider]
        return torch.compile(self.case.calls["eager"], fullgraph=True, dynamic=False, mode=COMPILE[self.provider])

    def inputs(self, device: torch.device) -> list:
        """The inputs of the provider's function."""
        inputs = self.case.inputs(device)
        return list(self.case.layouts[self.provider](*inputs)) if self.provider in self.case.layouts else inputs

    def measure(self, bench: Bench, expected_seconds: float = 0.0) -> Measurement:
        """Time it; a backward pass alone, without the forward pass before it.

        Raises:
            Whatever the provider raises.
        """
        with side_stream(bench.device):  # a backward pass runs on the stream of its forward pass
            call, inputs = self.call(), self.inputs(bench.device)
            measure_it = self._measure_forward if self.case.direction == "forward" else self._measure_backward
            return measure_it(bench, call, inputs)

    def _measure_forward(self, bench: Bench, call: Callable, inputs: list) -> Measurement:
        # A call that replays graphs of its own, as compile-max does, cannot be captured into another.
        capture = self.provider != "compile-max" and self.provider not in self.case.uncapturable
        with torch.no_grad():
            return measure(lambda: call(*inputs), bench.device, seconds_budget=bench.seconds, capture=capture)

    def _measure_backward(self, bench: Bench, call: Callable, inputs: list) -> Measurement:
        def forward() -> list[Tensor]:
            return outputs_of(call(*inputs))

        leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        gradients = incoming_gradients(forward())

        def backward(outputs: list[Tensor], keep: bool = False) -> tuple[Tensor, ...]:
            return torch.autograd.grad(outputs, leaves, gradients, retain_graph=keep)

        if self.provider in COMPILED:  # buffers and graphs of compiled code serve one backward pass for each forward
            return measure(backward, bench.device, seconds_budget=bench.seconds, prepare=forward)
        again = partial(backward, forward(), keep=True)
        capture = self.provider not in self.case.uncapturable
        return measure(again, bench.device, seconds_budget=bench.seconds, capture=capture)

    def peak_memory(self) -> int | None:
        """None: of one op the process says nothing."""
        return None


def outputs_of(result: object) -> list[Tensor]:
    """Tensors that a call returned."""
    return list(result) if isinstance(result, tuple | list) else [result]


def incoming_gradients(outputs: list[Tensor]) -> list[Tensor]:
    """Random gradients, by a generator of their own: a capture that failed may have spoiled the default one."""
    generator = torch.Generator(outputs[0].device).manual_seed(1)
    return [torch.randn(y.shape, generator=generator, device=y.device).to(y.dtype) for y in outputs]
