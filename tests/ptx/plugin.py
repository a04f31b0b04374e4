"""pytest options that run tests on kernels compiled for a GPU, executed by the emulator.

    pytest --emulate 86 --emulate-checks race,init,grace tests/kernels

A finding of the checks fails the test in which it was made.
"""

import os
import sys
from collections.abc import Generator

import pytest
import torch

from tests.ptx.emulator import CHECKS, Emulator, Finding
from tests.ptx.library import NoCompiler, library

TARGETS = (80, 86, 89, 90, 120)
DEFAULT_CHECKS = "race,init,grace"
MACHINE = pytest.StashKey[Emulator]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("emulate", "kernels compiled for a GPU and executed by an emulator of PTX")
    group.addoption("--emulate", type=int, choices=TARGETS, metavar="ARCH", help=f"target: one of {TARGETS}")
    group.addoption(
        "--emulate-checks", default=DEFAULT_CHECKS, help=f"some of {','.join(CHECKS)} (default {DEFAULT_CHECKS})"
    )
    group.addoption(
        "--emulate-hardware", action="store_true", help="approximate and matrix instructions err as hardware may"
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "not_emulated(reason): skipped with --emulate, for the reason given")
    config.addinivalue_line("markers", "not_interpreted(reason): skipped where kernels are not compiled")
    arch = config.getoption("--emulate")
    if arch is None:
        return
    checks = [c for c in config.getoption("--emulate-checks").split(",") if c]
    if unknown := set(checks) - set(CHECKS):
        raise pytest.UsageError(
            f"--emulate-checks: no check {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}"
        )
    if torch.cuda.is_available():
        raise pytest.UsageError("--emulate: kernels run on CPU tensors; hide the GPU by CUDA_VISIBLE_DEVICES=")
    if "triton" in sys.modules:
        raise pytest.UsageError("--emulate: triton has been imported already, for its interpreter")
    try:
        library()
    except NoCompiler as error:
        raise pytest.UsageError(f"--emulate: {error}") from None
    os.environ.pop("TRITON_INTERPRET", None)
    # Convolutions are this processor's. By AMX oneDNN of torch 2.13 gets bfloat16 ones of 8 or 16 channels and stride 8
    # wrong: of 16 to 24 channels with 16 taps by 1.18 of the result's norm, without AMX by 0.002.
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    machine = Emulator(arch, checks, config.getoption("--emulate-hardware"))
    from tests.ptx.driver import install  # imports triton, which reads the environment then

    install(machine)
    accept_cpu_tensors()
    add_bfloat16()
    config.stash[MACHINE] = machine


def accept_cpu_tensors() -> None:
    """Let silk_fast run its kernels on CPU tensors."""
    from silk_fast.kernels import _launch

    _launch.DEVICES.add("cpu")


def add_bfloat16() -> None:
    """Add bfloat16, for which only the interpreter is wrong, to the dtypes that every kernel is tested in."""
    from tests.kernels import support

    if torch.bfloat16 not in support.DTYPES:
        support.DTYPES.append(torch.bfloat16)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if MACHINE in config.stash:
        name, why = "not_emulated", "emulated"
    elif not torch.cuda.is_available():
        name, why = "not_interpreted", "interpreted"
    else:
        return
    for item in items:
        if marker := item.get_closest_marker(name):
            item.add_marker(pytest.mark.skip(reason=f"{why}: {marker.kwargs.get('reason') or marker.args[0]}"))


class FindingsError(AssertionError):
    """The checks of the emulator found something during a test."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join([f"{len(findings)} findings of the emulator", *map(str, findings[:20])]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test on what was found since the test before it."""
    try:
        result = yield
    finally:
        found = item.config.stash[MACHINE].take_findings() if MACHINE in item.config.stash else []
    if found:
        raise FindingsError(found)
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    machine = config.stash.get(MACHINE, None)
    if machine is None or not machine.kernels:
        return
    kernels = machine.kernels.values()
    instructions = sum(int(k.warps.sum()) for k in kernels) / 1e6
    terminalreporter.write_sep("=", f"emulated sm_{machine.arch}")
    terminalreporter.write_line(
        f"{len(kernels)} kernels, {sum(k.launches for k in kernels)} launches, {instructions:.1f} M warp instructions "
        f"in {sum(k.seconds for k in kernels):.1f} s"
    )
