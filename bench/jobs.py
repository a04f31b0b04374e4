"""Who computes a case: ours, eager, torch.compile, a library; each a job for the runner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from bench.cases import TimingCase, outputs_of
from silk_fast.benchmark.codec import COMPILE_MODES
from silk_fast.benchmark.costs import Cost
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import COMPILED, Bench
from silk_fast.cpu.library import why_not

NEED_GPU = ("cudnn", "compile-max")
ON_GPU_ALONE = ("rel_attention", "rel_key_attention", "rvq_encode", "rvq_decode", "factorized_rvq_encode")


def providers(case: TimingCase, with_compile: bool) -> list[str]:
    """Who can compute a case: ours and eager first, then the library, then torch.compile."""
    libraries = [name for name in case.calls if name not in ("ours", "eager")]
    return ["ours", "eager", *libraries, *(COMPILE_MODES if with_compile else ())]


@dataclass(frozen=True, eq=False)
class OpJob:
    """One case by one provider; on a CPU with so many threads."""

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
        if bench.device.type != "cuda":
            if self.provider == "ours" and (self.case.op in ON_GPU_ALONE or why_not()):
                return f"absent: {why_not() or 'the op is served on a GPU alone'}"
            return "absent: Triton and CUDA graphs need an NVIDIA GPU" if self.provider in NEED_GPU else None
        return bench.wrong.get(self.case.family) if self.provider == "ours" else None

    def ready(self, device: torch.device) -> tuple[Callable[..., object], Callable[[], object] | None]:
        """The call of the provider; a backward pass alone, prepared by a forward pass where that is compiled."""
        if self.provider in COMPILED:
            # Shapes of earlier cases would count as recompilations, of which PyTorch allows few.
            torch.compiler.reset()
        call, inputs = self.call(), self.case.inputs(device)
        if self.provider in self.case.layouts:
            inputs = self.case.layouts[self.provider](*inputs)
        if self.case.direction == "forward":
            return torch.no_grad()(partial(call, *inputs)), None
        forward, backward = passes(call, inputs)
        if self.provider in COMPILED:  # buffers and graphs of compiled code serve one backward pass each
            return backward, forward
        return partial(backward, forward(), keep=True), None

    def call(self) -> Callable[..., object]:
        """The provider's function of the inputs."""
        if self.provider not in COMPILE_MODES:
            return self.case.calls[self.provider]
        eager, mode = self.case.calls["eager"], COMPILE_MODES[self.provider]
        return torch.compile(eager, fullgraph=True, dynamic=False, mode=mode)

    def peak_memory(self) -> int | None:
        """None: of one op the process says nothing."""
        return None


def passes(call: Callable, inputs: Sequence) -> tuple[Callable[[], list[Tensor]], Callable[..., list[Tensor]]]:
    """The forward pass of a call, and the backward pass of random gradients to all inputs that require gradients."""

    def forward() -> list[Tensor]:
        return outputs_of(call(*inputs))

    outputs = forward()
    generator = torch.Generator(outputs[0].device).manual_seed(1)
    gradients = [torch.randn(y.shape, generator=generator, device=y.device).to(y.dtype) for y in outputs]
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]

    def backward(outputs: list[Tensor], keep: bool = False) -> list[Tensor]:
        return list(torch.autograd.grad(outputs, leaves, gradients, retain_graph=keep))

    return forward, backward
