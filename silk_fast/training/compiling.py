"""``torch.compile`` as training uses it."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Pass a function or module through ``torch.compile``.

    On processors with AVX-512 it is told to use vectors of 256 bits: torch 2.13's code with 512 bits gave NaN where
    bfloat16 is read transposed, with the decoder on a Xeon of 2023, and was no faster.
    """
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    options: dict[str, Any] | None = {"cpp.simdlen": 256} if has_avx512 else None
    return cast(Function, torch.compile(function, options=options))
