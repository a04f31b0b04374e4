"""Hand-written PTX on a GPU, where one is at hand, through the C interface of its driver."""

import ctypes
from collections.abc import Sequence

import torch

SHARED_WITHOUT_ASKING = 48 * 1024
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


def is_there(capability: tuple[int, int]) -> bool:
    """Whether the current GPU has exactly this compute capability."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() == capability


def launch(
    ptx: str, grid: Sequence[int], threads: int, shared_bytes: int, values: Sequence[torch.Tensor | int]
) -> None:
    """Assemble the one kernel of a PTX file, run it and wait for it.

    Args:
        values: the parameters: tensors on the GPU for addresses, and 32-bit integers.

    Raises:
        RuntimeError: the driver refuses the PTX or the launch, by the number of its error.
    """
    torch.cuda.current_stream().synchronize()  # also makes the context
    cuda = ctypes.CDLL("libcuda.so.1")

    def check(name: str, *arguments: object) -> None:
        if error := getattr(cuda, name)(*arguments):
            raise RuntimeError(f"{name}: CUDA error {error}")

    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    check("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(ptx.encode()))
    try:
        check("cuModuleGetFunction", ctypes.byref(function), module, b"kernel")
        if shared_bytes > SHARED_WITHOUT_ASKING:
            check("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED, shared_bytes)
        cells = [ctypes.c_uint64(v.data_ptr()) if isinstance(v, torch.Tensor) else ctypes.c_int32(v) for v in values]
        pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
        check("cuLaunchKernel", function, *grid, threads, 1, 1, shared_bytes, None, pointers, None)
        torch.cuda.synchronize()
    finally:
        check("cuModuleUnload", module)
