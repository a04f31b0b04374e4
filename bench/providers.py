"""Who computes a case: ours, eager, torch.compile, a library; each as a call to time, or the reason why not."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.cases import TimingCase
from silk_fast.benchmark.costs import Ceilings, bound_by, floor_seconds
from silk_fast.benchmark.limit import TimeLimit, time_limit
from silk_fast.benchmark.rows import OK, Row, Timing, dtype_name, failure
from silk_fast.benchmark.timing import Measurement, measure, release, side_stream

COMPILE = {"compile": None, "compile-max": "max-autotune"}
"""Modes of torch.compile; max-autotune includes CUDA graphs."""

COMPILED = (*COMPILE, "flex_attention")
NEED_TRITON = ("ours", "cudnn")


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run share.

    Args:
        device: where they run.
        ceilings: measured on this machine, by dtype.
        bound_bytes: cases that need more memory are left out.
        seconds_budget: how long to repeat one.
    """

    device: torch.device
    ceilings: dict[torch.dtype, Ceilings]
    bound_bytes: int
    seconds_budget: float = 0.2

    @property
    def threads(self) -> int | None:
        """Of a CPU."""
        return torch.get_num_threads() if self.device.type == "cpu" else None


# ---------------------------------------------------------------- one provider's call


def providers(case: TimingCase, with_compile: bool) -> list[str]:
    """Who can compute a case: ours and eager first, then the library, then torch.compile."""
    libraries = [name for name in case.calls if name not in ("ours", "eager")]
    return ["ours", "eager", *libraries, *(COMPILE if with_compile else ())]


def provided(case: TimingCase, provider: str) -> Callable[..., object]:
    """The provider's function of the case's inputs."""
    if provider in COMPILED:
        # Shapes of earlier cases would count as recompilations, of which PyTorch allows few.
        torch.compiler.reset()
    if provider not in COMPILE:
        return case.calls[provider]
    return torch.compile(case.calls["eager"], fullgraph=True, dynamic=False, mode=COMPILE[provider])


def inputs_of(case: TimingCase, provider: str, device: torch.device) -> list:
    """The inputs of the provider's function."""
    inputs = case.make(device)
    return list(case.layouts[provider](*inputs)) if provider in case.layouts else inputs


def measure_case(case: TimingCase, provider: str, bench: Bench) -> Measurement:
    """Time one provider; a backward pass alone, without the forward pass before it.

    Raises:
        Whatever the provider raises.
    """
    with side_stream(bench.device):  # a backward pass runs on the stream of its forward pass
        call = provided(case, provider)
        inputs = inputs_of(case, provider, bench.device)
        if case.direction == "forward":
            return _measure_forward(case, provider, bench, call, inputs)
        return _measure_backward(case, provider, bench, call, inputs)


def _measure_forward(case: TimingCase, provider: str, bench: Bench, call: Callable, inputs: list) -> Measurement:
    # A call that replays graphs of its own, as compile-max does, cannot be captured into another.
    capture = provider != "compile-max" and provider not in case.uncapturable
    with torch.no_grad():
        return measure(lambda: call(*inputs), bench.device, seconds_budget=bench.seconds_budget, capture=capture)


def _measure_backward(case: TimingCase, provider: str, bench: Bench, call: Callable, inputs: list) -> Measurement:
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    # Of a generator of its own: a capture that failed may have spoiled the default one.
    generator = torch.Generator(bench.device).manual_seed(1)
    gradients = [
        torch.randn(y.shape, generator=generator, device=y.device).to(y.dtype) for y in outputs_of(call(*inputs))
    ]

    def backward(outputs: list[Tensor], keep: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs, leaves, gradients, retain_graph=keep)

    if provider in COMPILED:  # buffers and graphs of compiled code serve one backward pass for each forward pass
        return measure(
            backward, bench.device, seconds_budget=bench.seconds_budget, prepare=lambda: outputs_of(call(*inputs))
        )
    outputs = outputs_of(call(*inputs))
    capture = provider not in case.uncapturable
    return measure(
        lambda: backward(outputs, keep=True), bench.device, seconds_budget=bench.seconds_budget, capture=capture
    )


def outputs_of(result: object) -> list[Tensor]:
    """Tensors that a call returned."""
    return list(result) if isinstance(result, tuple | list) else [result]


# ---------------------------------------------------------------- one row


def absence(case: TimingCase, provider: str, bench: Bench, wrong: dict[tuple, str]) -> str | None:
    """Why a provider is not measured, known beforehand, as the status of its row; None if it is.

    Args:
        wrong: by op, dtype name and direction, status of our rows where the kernel is not known to be right.
    """
    if bench.device.type != "cuda" and (needing := _what_needs_a_gpu(case, provider)):
        return f"absent: {needing} a GPU"
    needs_triton = provider in NEED_TRITON
    if needs_triton and (reason := _triton_absence()):
        return reason
    if provider == "ours" and (reason := wrong.get(family(case))):
        return reason
    needed = 2 * case.cost.bytes if needs_triton else case.eager_bytes
    if needed > bench.bound_bytes:
        return f"skipped: needs about {needed / 2**30:.1f} GiB, more than the bound of {bench.bound_bytes / 2**30:.1f}"
    return None


def _what_needs_a_gpu(case: TimingCase, provider: str) -> str | None:
    """What of a provider does not exist on a CPU."""
    if provider in NEED_TRITON:
        return "Triton needs"
    if provider == "compile-max":
        return "CUDA graphs need"
    if provider == "flex_attention" and case.direction == "backward":
        return "gradients of FlexAttention need"
    return None


def family(case: TimingCase) -> tuple[str, str, str]:
    """What a parity test speaks for."""
    return case.op, dtype_name(case.dtype), case.direction


def _triton_absence() -> str | None:
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"absent: {error}"
    return None


def row_of(case: TimingCase, provider: str, bench: Bench, status: str = OK) -> Row:
    """A row of a case without figures."""
    cost = case.cost
    return Row(
        section="ops",
        op=case.op,
        case=case.case,
        shape=case.shape,
        dtype=dtype_name(case.dtype),
        direction=case.direction,
        provider=provider,
        threads=bench.threads,
        status=status,
        bytes=cost.bytes,
        flops=cost.flops,
        seconds=float(case.point[0] * case.point[1]),
    )


def measured_row(
    case: TimingCase, provider: str, bench: Bench, wrong: dict[tuple, str], limit_seconds: float = math.inf
) -> Row:
    """The row of one provider and case; whatever goes wrong is its status.

    Args:
        wrong: see :func:`absence`.
        limit_seconds: what takes longer is stopped.
    """
    if reason := absence(case, provider, bench, wrong):
        return row_of(case, provider, bench, reason)
    try:
        with time_limit(limit_seconds):
            found = measure_case(case, provider, bench)
    except (Exception, TimeLimit) as error:  # providers may fail in any way, and a failure is a result
        return row_of(case, provider, bench, failure(error))
    finally:
        release(bench.device)
    return with_figures(row_of(case, provider, bench), case, bench, found)


def with_figures(row: Row, case: TimingCase, bench: Bench, found: Measurement) -> Row:
    """``row`` with times, and their share of the ceiling."""
    ceilings = bench.ceilings[case.dtype]
    limits = (ceilings.bandwidth, ceilings.matmul_rate, ceilings.flop_rate)
    timing: Timing = found.kernel or found.call
    return replace(
        row,
        **found.figures,
        share=floor_seconds(case.cost, *limits) * 1e3 / timing.p50,
        ceiling=bound_by(case.cost, *limits),
    )
