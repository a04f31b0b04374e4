"""What ``pytest bench`` needs: the GPU of the parity checks, and numbers of threads."""

from collections.abc import Callable, Iterator

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--device", default="cuda", help="GPU whose kernels are checked (default: %(default)s)")


@pytest.fixture
def n_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads of a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
