"""The C library of fused operations: where it is, why it is not there, its instructions and its threads.

It is called by ctypes, without the interpreter's lock, and links to no OpenMP runtime: two of them in a process would
each keep a thread on every core. It is given the entry of the one that PyTorch runs on, and so shares its threads.
"""

import ctypes
import os
import sys
import zlib
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

LEVELS = ("every processor", "x86-64-v3", "x86-64-v4")
"""Sets of instructions that a loop is compiled for; elsewhere than on x86-64 the first stands for the compiler's."""

_HERE = Path(__file__).parent
_POINTER, _INT64, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_FLOAT, _DOUBLE = ctypes.c_float, ctypes.c_double
_SIGNATURES = {
    "silk_snake": (*6 * [_POINTER], *3 * [_INT64], *2 * [_INT]),
    "silk_elu": (*4 * [_POINTER], *3 * [_INT64], *2 * [_INT]),
    "silk_bias_silu": (*3 * [_POINTER], *2 * [_INT64], *2 * [_INT]),
    "silk_add_layer_norm": (*6 * [_POINTER], *2 * [_INT64], *2 * [_FLOAT], *2 * [_INT]),
    "silk_glu_conv_norm_silu": (*8 * [_POINTER], *4 * [_INT64], _FLOAT, *2 * [_INT]),
    "silk_fsq_pack": (*5 * [_POINTER], *3 * [_INT64], _INT),
    "silk_fsq_quantize": (*5 * [_POINTER], *2 * [_INT64], _INT),
    "silk_fsq_unpack": (*3 * [_POINTER], *3 * [_INT64], *2 * [_INT]),
    "silk_polar_spectrum": (*4 * [_POINTER], *9 * [_INT64], *2 * [_INT]),
    "silk_overlap_add": (*4 * [_POINTER], *6 * [_INT64], *2 * [_INT]),
    "silk_add_harmonics": (*7 * [_POINTER], *7 * [_INT64], *3 * [_DOUBLE], _INT),
    "silk_attention_memory": 3 * [_INT64],
    "silk_rel_attention": (*11 * [_POINTER], *7 * [_INT64], _INT),
    "silk_use_parallel": (_POINTER,),
    "silk_conv1d": (*5 * [_POINTER], *4 * [_INT64], _INT),
    "silk_conv_transpose1d": (*3 * [_POINTER], *4 * [_INT64], _INT),
    "silk_residual_unit": (*5 * [_POINTER], *3 * [_INT64], _INT),
    "silk_has_bfloat16": (),
    "silk_has_amx": (),
}
_RESULTS = {
    "silk_attention_memory": _INT64,
    "silk_conv1d": _INT,
    "silk_conv_transpose1d": _INT,
    "silk_residual_unit": _INT,
    "silk_has_bfloat16": _INT,
    "silk_has_amx": _INT,
}


def available() -> bool:
    """Tell whether the operations of :mod:`silk_fast.cpu.ops` can be called."""
    return not why_not()


@cache
def why_not() -> str:
    """Say why the operations cannot be called; empty if they can."""
    path = _path()
    if path is None:
        return "the C library was not built: install a C compiler, then silk_fast again"
    try:
        built_from = ctypes.CDLL(str(path)).silk_sources()
    except (OSError, AttributeError) as error:
        return f"the C library does not load: {error}"
    if _sources() not in (0, built_from % 2**32):
        return "the C library was built from other sources: install silk_fast again"
    return ""


@cache
def load() -> ctypes.CDLL:
    """Load the library and tell it what the process has.

    Raises:
        RuntimeError: it is not :func:`available`.
    """
    if reason := why_not():
        raise RuntimeError(reason)
    library = ctypes.CDLL(str(_path()))
    for name, types in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, _RESULTS.get(name)
    library.silk_use_level(len(LEVELS) - 1)
    library.silk_use_parallel(None if _forked else _parallel())
    return library


_forked = False


def _after_fork() -> None:
    """Stay on one thread: the others stayed behind, and a child that waited for them would wait for ever."""
    global _forked
    _forked = True
    if load.cache_info().currsize:
        load().silk_use_parallel(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _path() -> Path | None:
    paths = (_HERE / f"_library{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _sources() -> int:
    """Checksum of the C files beside this one, as ``setup.py`` takes it; 0 where only the library was installed."""
    files = sorted(_HERE.glob("*.[ch]"))
    return zlib.crc32(b"".join(path.read_bytes() for path in files)) if files else 0


def _parallel() -> int | None:
    """Find how PyTorch's OpenMP runtime starts a parallel region, in the order in which the loader finds it.

    First among what was preloaded, then among what PyTorch was linked to; None where its threads are others.
    """
    if sys.platform != "linux" or not torch.backends.openmp.is_available():
        return None
    torch_cpu = str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")
    for name, mode in ((None, ctypes.DEFAULT_MODE), (torch_cpu, os.RTLD_NOLOAD | os.RTLD_LAZY)):
        try:
            return ctypes.cast(ctypes.CDLL(name, mode).GOMP_parallel, ctypes.c_void_p).value
        except (AttributeError, OSError):
            continue
    return None
