"""What a file of ``bench/ops`` offers: cases, each one call of an op at one shape and dtype."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def dtype_name(dtype: torch.dtype) -> str:
    """``float16`` for ``torch.float16``."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class StaticCase:
    """One call to compile for every GPU target.

    Args:
        op: name of the op.
        shape: what is computed, for people.
        dtype: of the main input.
        run: calls the op, forward and backward, on CPU tensors; nothing is executed, only compiled.
        wide: names of kernels that are memory-bound: their bulk accesses must be 16 bytes wide.
        tensor_cores: names of kernels that must use matrix instructions.
    """

    op: str
    shape: str
    dtype: torch.dtype
    run: Callable[[], None]
    wide: frozenset[str] = field(default_factory=frozenset)
    tensor_cores: frozenset[str] = field(default_factory=frozenset)
