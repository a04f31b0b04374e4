"""Streaming state: plain dataclasses of tensors, one per module, made by ``module.initial_state``.

A module's ``forward(x, state)`` reads and updates its state in place. Buffers keep their size and
address, so a step can be captured in a CUDA graph. ``state=None`` means one whole signal.
"""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from silk_fast.arguments import shown
from silk_fast.errors import SilkInputError
from silk_fast.reference.checks import INTEGER_DTYPES, check_values

StateT = TypeVar("StateT", bound="State")


@dataclass
class State:
    """Base of all states: tensors, integers, other states and lists of them."""

    def clone(self: StateT) -> StateT:
        """Copy every tensor; nothing is shared."""
        with torch.inference_mode(False):
            return copy.deepcopy(self)

    def tensors(self) -> dict[str, Tensor]:
        """Copy every leaf, by dotted name, integers as int64 scalars; fit for ``safetensors``."""
        leaves: dict[str, Tensor] = {}
        for name, value in self._children():
            if isinstance(value, State):
                leaves |= {f"{name}.{key}": tensor for key, tensor in value.tensors().items()}
            else:
                leaves[name] = value.clone() if isinstance(value, Tensor) else torch.tensor(value, device="cpu")
        return leaves

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Copy in what :meth:`tensors` gave.

        Raises:
            SilkInputError: a leaf is missing, unknown, of another shape or kind, or not finite; nothing is changed.
        """
        if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
            raise SilkInputError(f"a state must be a dict of tensors by name, got {shown(tensors)}")
        mine = self.tensors()
        for name in sorted(mine.keys() | tensors.keys()):
            if isinstance(tensors.get(name), Tensor):
                check_values(f"state {name}", tensors[name])
            found = tuple(getattr(tensors[name], "shape", ["no tensor"])) if name in tensors else "nothing"
            expected = tuple(mine[name].shape) if name in mine else "nothing"
            if found != expected:
                raise SilkInputError(f"state {name}: expected {expected}, got {found}")
            _check_leaf(name, tensors[name], mine[name])
        self._check_together(tensors)
        self._load(tensors, "")

    def _check_together(self, tensors: dict[str, Tensor]) -> None:
        """Raise SilkInputError if leaves that are right by themselves do not go together."""

    @torch.no_grad()
    def reset_rows(self, rows: Sequence[int]) -> None:
        """Take these signals of the batch back to their start: every state starts as zeros."""
        for tensor in self.leaves():
            tensor[rows] = 0

    def rows(self: StateT, start: int, stop: int) -> StateT:
        """Make a state of some signals of the batch that shares their memory: what is done to it is done to them."""

        def view(value: Any) -> Any:
            if isinstance(value, State):
                return value.rows(start, stop)
            if isinstance(value, list):
                return [view(item) for item in value]
            return value[start:stop] if isinstance(value, Tensor) else value

        return type(self)(**{field.name: view(getattr(self, field.name)) for field in dataclasses.fields(self)})

    def leaves(self) -> Iterator[Tensor]:
        """Give every tensor itself, always in the same order."""
        for _, value in self._children():
            if isinstance(value, State):
                yield from value.leaves()
            elif isinstance(value, Tensor):
                yield value

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
            elif value is not None:
                yield field.name, value


def _check_leaf(name: str, found: Tensor, mine: Tensor) -> None:
    """Raise unless ``found``, of the right shape, may take the place of ``mine``."""
    if not isinstance(found, Tensor):
        raise SilkInputError(f"state {name}: expected a tensor, got {type(found).__name__}")
    if mine.is_floating_point():
        if not found.is_floating_point() or not torch.isfinite(found.to(mine.dtype)).all():
            raise SilkInputError(f"state {name}: expected finite {mine.dtype}, got {found.dtype} that is not")
    elif found.dtype not in INTEGER_DTYPES or (found < 0).any():
        raise SilkInputError(f"state {name}: expected integers >= 0, got {found.dtype} {shown(found.tolist())}")


@contextmanager
def unchanged_on_failure(*states: State) -> Iterator[None]:
    """Give ``states`` back their values if the block ends in an exception."""
    tensors = [tensor for state in states for tensor in state.leaves()]
    before = [tensor.clone() for tensor in tensors]
    try:
        yield
    except BaseException:
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
        raise


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
