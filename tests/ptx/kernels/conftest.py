"""Kernels that have nothing to do with the project run for the target of ``--emulate``, with every check."""

import pytest
import torch

from tests.ptx.emulator import CHECKS, Emulator
from tests.ptx.plugin import MACHINE


@pytest.fixture
def machine(request):
    """An emulator of its own, whose findings fail the test unless it has taken them."""
    session = request.config.stash.get(MACHINE, None)
    if session is None:
        pytest.skip("needs Triton's compiler instead of its interpreter: pytest --emulate 86 tests/ptx/kernels")
    from tests.ptx.driver import install

    emulator = Emulator(session.arch, CHECKS, session.hardware_errors)
    install(emulator)
    torch.manual_seed(0)
    yield emulator
    install(session)
    assert not emulator.findings, "\n".join(map(str, emulator.take_findings()))
