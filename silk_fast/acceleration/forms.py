"""What every replacement of a module is: a form, a subclass of the module's class that adds no parameter."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Form(nn.Module):
    """Base of every class that takes the place of another; it comes before that class among the bases.

    A form computes the same from the same parameters. What it remembers lies in :data:`REMEMBERED`. It must be
    importable by its name, or a model that holds it cannot be pickled.
    """


@dataclass(frozen=True)
class Policy:
    """How accelerated convolutions compute.

    Args:
        dtype: of convolutional signals where gradients are off; everything else stays as it is.
        deterministic: IEEE float32 convolutions with algorithms that always add in one order, forward and backward.
    """

    dtype: torch.dtype = torch.float32
    deterministic: bool = False


def where(serves: Callable[[Tensor], bool], operation: Callable, reference: Callable) -> staticmethod:
    """Make a static method: ``operation`` where it ``serves`` the first argument, elsewhere ``reference``."""

    def op(x: Tensor, *arguments, **options):
        return (operation if serves(x) else reference)(x, *arguments, **options)

    return staticmethod(op)


def is_plain_inference(x: Tensor) -> bool:
    """Tell whether gradients and autocast are off where ``x`` is, and nothing is being compiled or exported."""
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(x.device.type)
    )


class FollowsPolicy(Form):
    """A form that is given the policy of the model it is swapped into."""

    policy: Policy


REMEMBERED = ("policy", "_folds")
"""Attributes that a form may add to an instance; they go when its own class comes back."""


def replaced_class(form: type[nn.Module]) -> type[nn.Module]:
    """The class whose place ``form`` takes; any other class is its own."""
    bases = [base for base in form.__mro__ if issubclass(base, nn.Module)]
    return next(base for base in bases if not issubclass(base, Form))


def own_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module before it was swapped or parametrised, in whichever order."""
    present = type(module)
    return replaced_class(present.__mro__[1] if parametrize.is_parametrized(module) else present)


def set_class(module: nn.Module, new_class: type[nn.Module]) -> None:
    """Change the class of one module; a parametrised one keeps what the parametrisation added to its class."""
    if parametrize.is_parametrized(module):
        new_class = type(f"Parametrized{new_class.__name__}", (new_class,), dict(type(module).__dict__))
    module.__class__ = new_class
