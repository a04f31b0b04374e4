"""Weight norm: a weight as direction and magnitude, to train on, or as one plain tensor, to run and to store."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from silk_fast.errors import SilkInputError
from silk_fast.reference.checks import AUDIO_DTYPES


@torch.inference_mode(False)
def apply_weight_norm_(convolutions: Iterable[nn.Conv1d]) -> None:
    """Parametrise the weights that are plain, in place, by direction and magnitude (Salimans and Kingma, 2016)."""
    for conv in convolutions:
        if not parametrize.is_parametrized(conv):
            hooks = set(conv._load_state_dict_pre_hooks)
            parametrizations.weight_norm(conv)
            for hook in conv._load_state_dict_pre_hooks.keys() - hooks:  # reads old names; it outlives folding, and
                del conv._load_state_dict_pre_hooks[hook]  # no module that has it can be pickled
            magnitude, direction = conv.get_submodule("parametrizations.weight").parameters()
            with torch.no_grad():  # a channel of zeros has no direction, which would make it NaN
                direction.masked_fill_(magnitude == 0, 1.0)


def has_weight_norm(model: nn.Module) -> bool:
    """Say whether any weight of ``model`` is parametrised."""
    return any(parametrize.is_parametrized(module) for module in model.modules())


@torch.inference_mode(False)
def fold_weight_norm_(convolutions: Iterable[nn.Conv1d]) -> None:
    """Turn every parametrised weight into a plain one, in place, on the device where it lives."""
    for conv in convolutions:
        if parametrize.is_parametrized(conv):
            shared = type(conv)  # with every copy of this module; torch takes the weight's property from it
            conv.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
            parametrize.remove_parametrizations(conv, "weight")


@torch.no_grad()
def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Give the state dict as it is after :func:`fold_weight_norm_`, on the CPU, in order of names.

    Raises:
        SilkInputError: the weights have no values, or a dtype that nothing is computed in.
    """
    for tensor in model.parameters():
        if tensor.is_meta or tensor.dtype not in AUDIO_DTYPES:
            raise SilkInputError(f"the codec has weights of {tensor.dtype} on {tensor.device}; load it anew")
    plain: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if ".parametrizations." not in name:
            plain[name] = tensor
        elif name.endswith("original0"):
            owner = name.split(".parametrizations.")[0]
            plain[f"{owner}.weight"] = cast(Tensor, model.get_submodule(owner).weight)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(plain.items())}
