"""Compares launches of the project's kernels on a GPU with the same launches in the emulator.

    python -m tests.ptx.compare record launches.pt    # on a GPU: small calls of every kernel, in every dtype
    python -m tests.ptx.compare replay launches.pt    # anywhere, GPU or not: for the same target

A launch is recorded with all that its tensors held before and after it, so that both start from the same bits. Their
results must be the same bits where PTX defines them; where a kernel has approximate instructions or products on the
matrix unit, whose errors and order of additions it leaves open, numbers may differ by ``OPEN`` of the least exact dtype
in the launch times the largest of their tensor, but integers may not.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

from tests.ptx.driver import install
from tests.ptx.emulator import Emulator, Kernel
from tests.ptx.plugin import accept_cpu_tensors

UNDEFINED = re.compile(r"approx|\.full\.|^w?g?mma")
OPEN = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass
class Launch:
    """One launch: module and name of the kernel, grid, arguments before and after, and options, constants included."""

    call: str
    kernel: tuple[str, str]
    grid: tuple[int, ...]
    before: list[object]
    after: list[object]
    options: dict[str, object]


@dataclass
class Difference:
    """Argument ``index`` of a launch came out otherwise; ``largest`` is the difference over the largest number."""

    launch: Launch
    index: int
    n_different: int
    largest: float
    is_allowed: bool

    def __str__(self) -> str:
        verdict = "within what PTX leaves open" if self.is_allowed else "DIFFERS"
        where = f"{self.launch.call}: {self.launch.kernel[1]}, argument {self.index}"
        return f"{verdict}: {where}: {self.n_different} words, by {self.largest:.1e} of the largest number"


def kept(value: object) -> object:
    """A copy of a tensor on the CPU, with the same strides and offset; what is no tensor as it is."""
    if not isinstance(value, Tensor):
        return value
    storage = value.untyped_storage().clone().cpu()
    return torch.empty(0, dtype=value.dtype).set_(storage, value.storage_offset(), value.shape, value.stride())


@contextmanager
def recorded(call: str, launches: list[Launch]) -> Iterator[None]:
    """Append every launch of a Triton kernel, run wherever Triton runs."""
    run = JITFunction.run

    def keep(self, *args, grid, warmup, **options):
        before = [kept(value) for value in args]
        compiled = run(self, *args, grid=grid, warmup=warmup, **options)
        after = [kept(value) for value in args]
        launches.append(Launch(call, (self.fn.__module__, self.fn.__name__), grid, before, after, options))
        return compiled

    with mock.patch.object(JITFunction, "run", keep):
        yield


def record(names: Iterable[str] | None = None, dtypes: Iterable[torch.dtype] = DTYPES) -> list[Launch]:
    """Run calls of ``tests.kernels.cases``, all by default, forward and backward."""
    from tests.kernels.cases import CALLS, outputs_and_gradients

    launches: list[Launch] = []
    torch.manual_seed(0)
    for name in names or CALLS:
        inputs = CALLS[name].inputs()
        floats = {x.dtype for x in inputs if x.is_floating_point()}
        for dtype in dtypes if floats == {torch.float32} else (None,):
            cast = [x.to(dtype) if dtype and x.is_floating_point() else x for x in inputs]
            with recorded(f"{name}, {dtype or 'as it is'}", launches):
                outputs_and_gradients(CALLS[name], cast)
    return launches


def replay(launches: Iterable[Launch], emulator: Emulator) -> list[Difference]:
    """Run the launches in an emulator of the recorded target; what came out otherwise than it did there."""
    install(emulator)
    ran: list[Kernel] = []
    emulator.before_launch = lambda kernel, *_: ran.append(kernel)
    found = []
    for launch in launches:
        arguments = [kept(value) for value in launch.before]
        module, name = launch.kernel
        getattr(importlib.import_module(module), name)[launch.grid](*arguments, **launch.options)
        is_open = any(UNDEFINED.search(i.opcode) for i in ran[-1].program.instructions)
        bound = max(OPEN.get(x.dtype, 0.0) for x in arguments if isinstance(x, Tensor)) if is_open else 0.0
        for i, (ours, theirs) in enumerate(zip(arguments, launch.after, strict=True)):
            if isinstance(ours, Tensor):
                found += difference(launch, i, ours, theirs, bound)
    return found


def difference(launch: Launch, index: int, ours: Tensor, theirs: Tensor, bound: float) -> list[Difference]:
    """None, or one; NaN equals NaN of any bits."""
    different = (ours != theirs) & ~((ours != ours) & (theirs != theirs))
    if ours.is_floating_point():
        different |= (ours.signbit() != theirs.signbit()) & (ours == theirs)
    if not different.any():
        return []
    x, y = ours.double(), theirs.double()
    apart = ((x - y).abs()[different].max() / y[y.isfinite()].abs().max()).item()
    return [Difference(launch, index, int(different.sum()), apart, ours.is_floating_point() and apart <= bound)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare launches on a GPU with the same launches in the emulator.")
    parser.add_argument("what", choices=("record", "replay"))
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    if triton.knobs.runtime.interpret:
        parser.error("unset TRITON_INTERPRET: interpreted kernels are not compiled")
    if arguments.what == "record":
        if not torch.cuda.is_available():
            parser.error("record needs a GPU")
        major, minor = torch.cuda.get_device_capability()
        torch.save((10 * major + minor, triton.__version__, record()), arguments.file)
        return 0
    arch, version, launches = torch.load(arguments.file, weights_only=False)
    if version != triton.__version__:
        parser.error(
            f"recorded with Triton {version}, which compiles otherwise than {triton.__version__}, the one here"
        )
    accept_cpu_tensors()
    found = replay(launches, Emulator(arch))
    print(*found, sep="\n")
    wrong = sum(not d.is_allowed for d in found)
    print(f"sm_{arch}: {len(launches)} launches, {wrong} tensors differ from the GPU's beyond what PTX leaves open")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
