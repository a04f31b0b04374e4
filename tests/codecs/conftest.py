"""Where the C library was not built its forms are not swapped in, and their tests are skipped."""

import pytest

from silk_fast.cpu import library


@pytest.fixture
def on_cpu(monkeypatch) -> None:
    """Have accelerate_ swap the CPU forms in, also where Triton's interpreter would serve."""
    if library.why_not():
        pytest.skip(library.why_not())
    monkeypatch.setattr("silk_fast.acceleration.swap._why_no_kernels", lambda model: "no card")
