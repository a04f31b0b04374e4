"""Where the C library is absent its tests are skipped; the others run once for every set of instructions."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from silk_fast.cpu import library
from silk_fast.cpu.library import LEVELS, why_not

if path := os.environ.get("SILK_TEST_LIBRARY"):  # another build of the same sources: tests/cpu/test_build.py
    library._path = lambda: Path(path)


@pytest.fixture
def built() -> None:
    """Skip a test that needs the C library."""
    if why_not():
        pytest.skip(why_not())


@pytest.fixture(params=range(len(LEVELS)), ids=LEVELS)
def level(request: pytest.FixtureRequest, built: None) -> Iterator[int]:
    """Run the loops of one set of instructions, without gradients; what is not written is NaN."""
    if library.load().silk_use_level(request.param) != request.param:
        pytest.skip(f"this processor has no {LEVELS[request.param]}")
    torch.use_deterministic_algorithms(True)  # fills new memory
    with torch.no_grad():
        yield request.param
    torch.use_deterministic_algorithms(False)
    library.load().silk_use_level(len(LEVELS) - 1)
