"""Modules that compute what depends on their weights once, instead of at every call.

Folding applies where gradients are off. A fold is renewed when a weight it came from has changed, or
autocast, and is never part of a state dict, a copy or a pickle. Changes in place of ``weight.data`` escape
PyTorch's count of versions, and so the fold: change weights under ``torch.no_grad()`` instead, or call
``accelerate_`` again, which drops every fold.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from silk_fast.reference.conformer import RelativeAttention
from silk_fast.reference.layers import Snake


def _version(source: Tensor | int) -> object:
    """Changes whenever what is computed of ``source`` may: with its values, and with autocast where it lives."""
    if isinstance(source, int):
        return source
    device = source.device.type
    is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    autocast = torch.get_autocast_dtype(device) if is_autocast else None
    return source.data_ptr(), source.dtype, -1 if source.is_inference() else source._version, autocast


class Folding(nn.Module):
    """Mixin, first among the bases of a module that folds."""

    def folded(self, name: str, compute: Callable[[], Any], *sources: Tensor | int) -> Any:
        """``compute()``, remembered under ``name`` until one of ``sources`` changes, unless ``.data`` hides it."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        folds = self.__dict__.setdefault("_folds", {})
        versions = [_version(source) for source in sources]
        if name not in folds or folds[name][0] != versions:
            folds[name] = (versions, compute())
        return folds[name][1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_folds"}


class FoldedWeight(Folding, ParametrizationList):
    """A parametrised weight, such as one with weight norm, computed once."""

    def forward(self) -> Tensor:
        return self.folded("weight", super().forward, *self.parameters())


class FoldedSnake(Folding, Snake):
    """Snake whose exponentials are computed once."""

    @property
    def alpha(self) -> Tensor:
        return self.folded("alpha", self.log_alpha.exp, self.log_alpha)

    @property
    def beta(self) -> Tensor:
        return self.folded("beta", self.log_beta.exp, self.log_beta)


class FoldedRelativeAttention(Folding, RelativeAttention):
    """Attention whose projected positions are computed once: for the last number of keys, if that matters."""

    def projected_positions(self, n_keys: int) -> Tensor:
        compute = super().projected_positions
        n_rows = n_keys if None in self.window else 0
        return self.folded("positions", lambda: compute(n_keys), self.position.weight, n_rows)
