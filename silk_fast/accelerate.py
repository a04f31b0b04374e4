"""Swap faster modules into a model, in place, and undo it. The one place that knows reference and kernels.

A module is swapped by changing the class of that instance: its parameters, their names and the
state dict stay as they are, and no other instance is touched.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from silk_fast.errors import SilkInputError
from silk_fast.folding import FoldedRelativeAttention, FoldedWeight
from silk_fast.inplace import InPlaceResidualUnit, InPlaceSnake
from silk_fast.reference.conformer import ConformerBlock, ConvModule, FeedForward, RelativeAttention
from silk_fast.reference.decoder import InverseSTFT
from silk_fast.reference.layers import CausalConv1d, ResidualUnit, Snake
from silk_fast.reference.quantizer import FiniteScalarQuantizer

OPS: dict[type[nn.Module], str] = {
    parametrize.ParametrizationList: "weight_norm",
    CausalConv1d: "conv",
    Snake: "snake",
    ResidualUnit: "residual_unit",
    FeedForward: "bias_silu",
    RelativeAttention: "rel_attention",
    ConvModule: "glu_conv_norm_silu",
    ConformerBlock: "add_layer_norm",
    FiniteScalarQuantizer: "fsq",
    InverseSTFT: "polar_istft",
}
"""Which operation of which module can be swapped."""

WITHOUT_KERNELS: dict[type[nn.Module], type[nn.Module]] = {
    parametrize.ParametrizationList: FoldedWeight,
    Snake: InPlaceSnake,
    ResidualUnit: InPlaceResidualUnit,
    RelativeAttention: FoldedRelativeAttention,
}
"""Replacements that need no kernel."""


SWAPPED_IN = ("silk_fast.folding", "silk_fast.inplace", "silk_fast.fused")
"""Modules of Python whose classes are replacements."""


def _fused() -> dict[type[nn.Module], type[nn.Module]]:
    """Replacements with kernels; imports triton."""
    from silk_fast import fused

    return {
        CausalConv1d: fused.PolicyCausalConv1d,
        Snake: fused.FusedSnake,
        ResidualUnit: fused.FusedResidualUnit,
        FeedForward: fused.FusedFeedForward,
        RelativeAttention: fused.FusedRelativeAttention,
        ConvModule: fused.FusedConvModule,
        ConformerBlock: fused.FusedConformerBlock,
        FiniteScalarQuantizer: fused.FusedQuantizer,
        InverseSTFT: fused.FusedInverseSTFT,
    }


@dataclass(frozen=True)
class Swap:
    """What became of one module: ``replacement`` is None where it was refused, and ``reason`` says why."""

    name: str
    module: str
    op: str
    replacement: str | None
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """What :func:`accelerate_` did, module by module."""

    swaps: tuple[Swap, ...]

    @property
    def swapped(self) -> dict[str, str]:
        """Replacement by qualified name."""
        return {swap.name: swap.replacement for swap in self.swaps if swap.replacement}

    @property
    def refused(self) -> dict[str, str]:
        """Reason by qualified name, of modules that were left as they are or got no kernel."""
        return {swap.name: swap.reason for swap in self.swaps if swap.reason}

    def __str__(self) -> str:
        lines = [f"{len(self.swapped)} of {len(self.swaps)} modules swapped"]
        for swap in self.swaps:
            outcome = swap.replacement or "unchanged"
            lines.append(f"  {swap.name} ({swap.module}, {swap.op}): {outcome}{swap.reason and ': ' + swap.reason}")
        return "\n".join(lines)


def _why_no_kernels(model: nn.Module) -> str:
    """Why Triton cannot serve the model where it is; empty if it can."""
    try:
        from silk_fast.kernels import INTERPRETED
    except ImportError as error:
        return str(error)
    devices = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    if INTERPRETED or devices == {"cuda"}:
        return ""
    return f"Triton kernels need a CUDA GPU, the model is on {', '.join(sorted(devices)) or 'no device'}"


def accelerate_(
    model: nn.Module,
    ops: Iterable[str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    deterministic: bool = False,
) -> Report:
    """Swap faster modules into ``model``, in place. :func:`restore_` undoes it exactly.

    On a GPU modules get Triton kernels; on a CPU activations are computed in place while gradients are off,
    and the report says that kernels need a GPU. On both, while gradients are off, what depends on weights only
    (weight norm, projected positions) is computed once, and again when the weights change; but after a
    change in place of ``weight.data``, which PyTorch does not count, call this again.

    Args:
        model: a :class:`~silk_fast.SilkCodec` or any module that holds its parts.
        ops: which operations to swap, of ``silk_fast.accelerate.OPS``; None for all.
        dtype: float32, float16 or bfloat16: of the convolutional signals while gradients are off.
            Conformer, FSQ and inverse STFT stay float32.
        deterministic: convolutions in IEEE float32, under autocast too, with a fixed order of additions, forward
            and backward; the kernels always have one.

    Returns:
        For every module that has such an operation, what replaced it or why not.

    Raises:
        SilkInputError: an unknown op, an op that the model does not have, a dtype that is not one
            of the three, or ``deterministic`` with half precision. The model is unchanged.
    """
    wanted = set(OPS.values()) if ops is None else {ops} if isinstance(ops, str) else set(ops)
    if unknown := sorted(wanted - set(OPS.values())):
        raise SilkInputError(f"unknown op {unknown[0]!r}; expected some of {', '.join(OPS.values())}")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise SilkInputError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {dtype}")
    if deterministic and dtype != torch.float32:
        raise SilkInputError(f"deterministic means IEEE float32, got dtype {dtype}")
    found = [(name, module) for name, module in model.named_modules() if OPS.get(_own_type(module)) in wanted]
    if absent := sorted(wanted - {OPS[_own_type(module)] for _, module in found}) if ops is not None else []:
        raise SilkInputError(f"op {absent[0]!r} matches no module of {type(model).__name__}")
    restore_(model)
    why_not = _why_no_kernels(model)
    fused = {} if why_not else _fused()
    swaps = []
    for name, module in found:
        original = _own_type(module)
        reason = why_not or _why_not_fused(module, dtype)
        replacement = WITHOUT_KERNELS.get(original) if reason or original not in fused else fused[original]
        if original is parametrize.ParametrizationList:
            reason = ""
        if replacement:
            _swap(module, replacement, dtype, deterministic)
        swaps.append(Swap(name, original.__name__, OPS[original], replacement and replacement.__name__, reason))
    return Report(tuple(swaps))


def _is_swapped(module: nn.Module) -> bool:
    """Also true of a module that was parametrised after it was swapped."""
    return any(base.__module__ in SWAPPED_IN for base in type(module).__mro__)


def _own_type(module: nn.Module) -> type[nn.Module]:
    """The class of a module; of a swapped or a parametrised one, the class in ``OPS`` that it had before."""
    if _is_swapped(module) or parametrize.is_parametrized(module):
        return next((base for base in type(module).__mro__ if base in OPS), type(module))
    return type(module)


def _why_not_fused(module: nn.Module, dtype: torch.dtype) -> str:
    """Why a module keeps its reference form although Triton is there; empty if it does not."""
    if parametrize.is_parametrized(module):
        return "its weight is parametrised; fold_weight_norm_() first"
    if isinstance(module, ResidualUnit) and dtype != torch.float32 and module.conv1.in_channels % 16:
        return f"{module.conv1.in_channels} channels, half precision needs a multiple of 16"
    return ""


def _swap(module: nn.Module, replacement: type[nn.Module], dtype: torch.dtype, deterministic: bool) -> None:
    if "policy" in replacement.__annotations__:
        from silk_fast.fused import Policy

        module.policy = Policy(dtype, deterministic)
    _set_type(module, replacement)


def _set_type(module: nn.Module, own_type: type[nn.Module]) -> None:
    """Change the class of one module; a parametrised one keeps what the parametrisation added to its class."""
    if parametrize.is_parametrized(module):
        own_type = type(f"Parametrized{own_type.__name__}", (own_type,), dict(type(module).__dict__))
    module.__class__ = own_type


def restore_(model: nn.Module) -> None:
    """Undo :func:`accelerate_`: every module gets its own class back, and folds are dropped.

    A model that was not swapped stays as it is; what was parametrised meanwhile stays parametrised.
    """
    for module in filter(_is_swapped, model.modules()):
        _set_type(module, _own_type(module))
        for attribute in ("policy", "_folds"):
            module.__dict__.pop(attribute, None)
