"""``torch.compile`` as training uses it."""

from collections.abc import Callable

import torch


def compiled(function: Callable) -> Callable:
    """``torch.compile`` of a function or module.

    On processors with AVX-512 it is told to use vectors of 256 bits: torch 2.13's code with 512 bits gave NaN where
    bfloat16 is read transposed, with the decoder on a Xeon of 2023, and was no faster.
    """
    options = {"cpp.simdlen": 256} if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else None
    return torch.compile(function, options=options)
