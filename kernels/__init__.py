"""Triton kernels, one op a file, importing torch and triton only. Installed as ``silk_fast.kernels``."""

try:
    import triton
except ImportError as error:
    raise ImportError("triton is not installed; kernels need Linux with an NVIDIA GPU") from error

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 3):  # no tl.gather
    raise ImportError(f"triton {triton.__version__} is too old; kernels need 3.3 or later, which torch 2.7 brings")
