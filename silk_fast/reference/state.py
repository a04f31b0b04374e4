"""Streaming state: plain dataclasses of tensors, one per module, made by ``module.initial_state``.

A module's ``forward(x, state)`` reads and updates its state in place. Buffers keep their size and
address, so a step can be captured in a CUDA graph. ``state=None`` means one whole signal.
"""

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from silk_fast.errors import SilkInputError

StateT = TypeVar("StateT", bound="State")


@dataclass
class State:
    """Base of all states: tensors, integers, other states and lists of them."""

    def clone(self: StateT) -> StateT:
        """Copy every tensor; nothing is shared."""
        return copy.deepcopy(self)

    def tensors(self) -> dict[str, Tensor]:
        """Copy every leaf, by dotted name, integers as int64 scalars; fit for ``safetensors``."""
        leaves: dict[str, Tensor] = {}
        for name, value in self._children():
            if isinstance(value, State):
                leaves |= {f"{name}.{key}": tensor for key, tensor in value.tensors().items()}
            else:
                leaves[name] = value.clone() if isinstance(value, Tensor) else torch.tensor(value)
        return leaves

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy in what :meth:`tensors` gave.

        Raises:
            SilkInputError: a leaf is missing, unknown or of another shape; nothing is changed.
        """
        mine = self.tensors()
        for name in sorted(mine.keys() | tensors.keys()):
            found = tuple(tensors[name].shape) if name in tensors else "nothing"
            expected = tuple(mine[name].shape) if name in mine else "nothing"
            if found != expected:
                raise SilkInputError(f"state {name}: expected {expected}, got {found}")
        self._load(tensors, "")

    def _load(self, tensors: dict[str, Tensor], prefix: str) -> None:
        for name, value in self._children():
            if isinstance(value, State):
                value._load(tensors, f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                value.copy_(tensors[prefix + name])
            else:
                setattr(self, name, int(tensors[prefix + name]))

    def _children(self) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                yield from ((f"{field.name}.{i}", item) for i, item in enumerate(value))
            else:
                yield field.name, value


@dataclass
class ContextState(State):
    """The last inputs of a causal operation, ``[B, C, n]`` or, where time comes second, ``[B, n, C]``."""

    context: Tensor

    def push(self, x: Tensor, dim: int = -1) -> None:
        """Slide ``x`` in at the end of the time dimension ``dim``."""
        size, n_new = self.context.shape[dim], x.shape[dim]
        if n_new < size:
            x = torch.cat([self.context.narrow(dim, n_new, size - n_new), x], dim)
        self.context.copy_(x.narrow(dim, x.shape[dim] - size, size))
