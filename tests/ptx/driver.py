"""Triton on the emulator: kernels are compiled for a GPU by Triton's own pipeline, short of ptxas, and run here.

Triton asks a driver for the target, loads what it compiled through it, and starts launches by it; this one says
``GPUTarget("cuda", arch, 32)``, takes the PTX, and runs it on CPU tensors.
"""

from collections.abc import Iterator
from types import SimpleNamespace

import torch
import triton
import triton.backends
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend

from tests.ptx.emulator import Argument, Emulator, Kernel
from tests.ptx.translation.parse import UnsupportedPTX

SHARED_KILOBYTES = {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}  # of a block, CUDA C++ Programming Guide


class PTXBackend(CUDABackend):
    """NVIDIA's backend whose last stage is the PTX, under keys of its own in Triton's cache."""

    def __init__(self, target: GPUTarget) -> None:
        super().__init__(target)
        self.binary_ext = "ptx"

    def add_stages(self, stages: dict, options: object, language: object) -> None:
        super().add_stages(stages, options, language)
        del stages["cubin"]

    def hash(self) -> str:
        return f"{super().hash()}-ptx"


class Launcher:
    """What Triton calls to launch a compiled kernel."""

    def __init__(self, src: object, metadata: object) -> None:
        self.kinds, self.metadata = list(src.signature.values()), metadata
        if getattr(metadata, "num_ctas", 1) != 1 or metadata.global_scratch_size or metadata.profile_scratch_size:
            raise UnsupportedPTX(f"{metadata.name}: clusters or scratch memory")

    def __call__(self, x, y, z, stream, kernel, packed_metadata, launch_metadata, enter, leave, *values) -> None:
        """Run ``kernel`` on a grid of ``x * y * z`` blocks; ``values`` are those of the Python function's arguments."""
        if not x * y * z:
            return
        flat = [a for kind, value in zip(self.kinds, values, strict=True) for a in arguments(kind, value)]
        scratch: list[Argument] = [("*scratch", None)] * 2
        active().launch(kernel(self.metadata), (x, y, z), self.metadata.shared, [*flat, *scratch])


def arguments(kind: str | tuple, value: object) -> Iterator[Argument]:
    """The parameters that an argument becomes: tuples are flattened, constants vanish."""
    if isinstance(kind, tuple):
        for k, v in zip(kind, value, strict=True):
            yield from arguments(k, v)
    elif kind.startswith(("tensordesc", "nvTmaDesc")):
        raise UnsupportedPTX(f"argument of type {kind}")
    elif kind != "constexpr":
        yield kind, value


class EmulatedDriver:
    """Stands in for the driver of a GPU."""

    launcher_cls = Launcher

    def __init__(self) -> None:
        self.utils = SimpleNamespace(get_device_properties=self._properties, load_binary=self._load)

    def _properties(self, device: int) -> dict[str, int]:
        shared = SHARED_KILOBYTES.get(active().arch, 99) * 1024
        clocks = dict.fromkeys(("sm_clock_rate", "mem_clock_rate", "mem_bus_width"), 1)
        return {"max_shared_mem": shared, "max_num_regs": 65536, "multiprocessor_count": 64, "warpSize": 32, **clocks}

    def _load(self, name: str, ptx: bytes, shared: int, device: int) -> tuple:
        """Module, function, registers, spills, and the most threads; the function makes the kernel of the metadata."""
        text = ptx.decode()

        def function(metadata: object) -> Kernel:
            return active().kernel(name, text, metadata.num_warps * 32)

        return ptx, function, 0, 0, 1024

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", active().arch, 32)

    def get_current_device(self) -> int:
        """Kernels are kept per device; every target is one."""
        return active().arch

    def set_current_device(self, device: int) -> None:
        pass

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind


_active: list[Emulator] = []


def active() -> Emulator:
    """The emulator that Triton runs on."""
    return _active[-1]


def install(emulator: Emulator) -> None:
    """Make Triton compile for the emulator's target and run there; a later call moves it to another emulator.

    Raises:
        RuntimeError: triton was imported for its interpreter.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError("triton was imported with TRITON_INTERPRET set; the emulator runs what is compiled")
    nvidia = triton.backends.backends["nvidia"]
    triton.backends.backends["nvidia"] = type(nvidia)(compiler=PTXBackend, driver=nvidia.driver)
    _active[:] = [emulator]
    triton.runtime.driver.set_active(EmulatedDriver())
