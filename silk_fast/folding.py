"""Modules that compute what depends on their weights once, instead of at every call.

Folding applies where gradients are off. A fold is renewed when a weight it came from has changed,
and is never part of a state dict, a copy or a pickle.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from silk_fast.reference.conformer import RelativeAttention
from silk_fast.reference.layers import Snake


def _version(tensor: Tensor) -> tuple:
    """Changes whenever the tensor's values may have."""
    return tensor.data_ptr(), tensor.dtype, -1 if tensor.is_inference() else tensor._version


class Folding(nn.Module):
    """Mixin, first among the bases of a module that folds."""

    def folded(self, name: str, compute: Callable[[], Any], *sources: Tensor) -> Any:
        """``compute()``, remembered under ``name`` until one of ``sources`` changes."""
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
    """Attention whose projected positions are computed once for every number of keys."""

    def projected_positions(self, n_keys: int) -> Tensor:
        compute = super().projected_positions
        bounded = None not in self.window
        return self.folded(f"positions {bounded or n_keys}", lambda: compute(n_keys), self.position.weight)
