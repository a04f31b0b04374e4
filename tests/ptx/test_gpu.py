"""How kernels reach a GPU, with a driver that only records what it is asked."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from tests.ptx import gpu


class Driver:
    """Functions that return 0, or the error that is set for one of them, and keep their arguments."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple]] = []
        self.errors: dict[str, int] = {}

    def __getattr__(self, name: str):
        def function(*arguments):
            self.calls.append((name, arguments))
            if name == "cuLaunchKernel":  # parameters live as long as the call
                self.values = [ctypes.c_int64.from_address(cell).value for cell in arguments[-2]]
            return self.errors.get(name, 0)

        return function


@pytest.fixture
def driver(monkeypatch):
    fake = Driver()
    monkeypatch.setattr(gpu.ctypes, "CDLL", lambda name: fake)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(synchronize=lambda: None))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return fake


def test_a_launch_passes_addresses_and_numbers(driver):
    x = torch.zeros(4)
    gpu.launch("ptx", (2, 3, 1), 64, 65536, [x, 7])
    assert [name for name, _ in driver.calls] == [
        "cuModuleLoadData", "cuModuleGetFunction", "cuFuncSetAttribute", "cuLaunchKernel", "cuModuleUnload",
    ]  # fmt: skip
    assert driver.calls[3][1][1:8] == (2, 3, 1, 64, 1, 1, 65536)
    assert driver.values[0] == x.data_ptr()
    assert driver.values[1] & 0xFFFFFFFF == 7


def test_errors_are_raised_and_the_module_unloaded(driver):
    driver.errors["cuLaunchKernel"] = 700
    with pytest.raises(RuntimeError, match="cuLaunchKernel: CUDA error 700"):
        gpu.launch("ptx", (1, 1, 1), 32, 0, [])
    assert driver.calls[-1][0] == "cuModuleUnload"
