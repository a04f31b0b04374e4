"""Modules that compute what depends on their weights once, instead of at every call.

Folding applies where gradients are off. A fold is renewed when a weight it came from has changed, or
autocast, and is never part of a state dict, a copy or a pickle. Changes in place of ``weight.data`` escape
PyTorch's count of versions, and so the fold, as do those of tensors that were made under ``torch.inference_mode()``:
change weights under ``torch.no_grad()`` instead, or call ``accelerate_`` again, which drops every fold. Optimisers that
are ``fused`` do not count what they change; their steps are counted here.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from silk_fast.acceleration.forms import Form
from silk_fast.reference.conformer import RelativeAttention
from silk_fast.reference.layers import Snake

_is_autocast_available = lru_cache(torch.amp.is_autocast_available)


def _autocast(device: str) -> torch.dtype | None:
    """The dtype that autocast computes in on a type of device; None where it is off."""
    is_on = _is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if is_on else None


def _version(tensor: Tensor) -> tuple[int, torch.dtype, int]:
    """Changes whenever the values may."""
    return tensor.data_ptr(), tensor.dtype, -1 if tensor.is_inference() else tensor._version


def _count_changes(optimizer: Optimizer, *_: object) -> None:
    """Count what a step of a fused optimiser has changed."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("fused") else ():
            if parameter.grad is not None and not parameter.is_inference():
                increment_version(parameter)


register_optimizer_step_post_hook(_count_changes)


class _Folds(dict[str, tuple[Any, ...]]):
    """The folds of one module: version, value, and the sources, which are kept so that none gets another's address.

    A copy or a pickle of the module, parametrised or not, begins without any.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Folds":
        return _Folds()

    def __reduce__(self) -> Any:
        return _Folds, ()


class Folding(Form):
    """A form that folds; first among the bases."""

    def folded(self, name: str, compute: Callable[[], Any], *sources: Tensor, key: object = None) -> Any:
        """``compute()``, remembered under ``name`` until ``key``, autocast or one of ``sources`` changes.

        A call costs from 4 to 20 microseconds, by what the processor's caches still hold.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        folds = self.__dict__.setdefault("_folds", _Folds())
        version = (key, _autocast(sources[0].device.type), *map(_version, sources))
        fold = folds.get(name)
        if fold is None or fold[0] != version:
            folds[name] = fold = version, compute(), [source.detach() for source in sources]
        return fold[1]


class FoldedWeight(Folding, ParametrizationList):
    """A parametrised weight, such as one with weight norm, computed once."""

    def forward(self) -> Tensor:
        return self.folded("weight", super().forward, *self.parameters(), *self.buffers())


class FoldedSnake(Folding, Snake):
    """Snake whose exponentials are computed once: two launches less on a GPU. On a CPU the look-up costs as much."""

    @property
    def constants(self) -> tuple[Tensor, Tensor]:
        alpha, beta = self.log_alpha, self.log_beta
        return self.folded("constants", lambda: (alpha.exp(), beta.exp()), alpha, beta)


class FoldedRelativeAttention(Folding, RelativeAttention):
    """Attention whose projected positions are computed once: for the last number of keys, if that matters."""

    def projected_positions(self, n_keys: int) -> Tensor:
        compute = super().projected_positions
        n_rows = n_keys if None in self.window else 0
        return self.folded("positions", lambda: compute(n_keys), self.position.weight, key=n_rows)
