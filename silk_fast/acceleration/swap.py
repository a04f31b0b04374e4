"""accelerate_ and restore_: read the table, change classes, and report."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from silk_fast.acceleration.forms import REMEMBERED, FollowsPolicy, Form, Policy, own_class, set_class
from silk_fast.acceleration.table import Replacement, known_ops, known_replacements, untested_libraries
from silk_fast.arguments import shown
from silk_fast.cpu.library import why_not as why_no_c_library
from silk_fast.cpu.ops import why_no_bfloat16
from silk_fast.errors import SilkInputError


@dataclass(frozen=True)
class Swap:
    """What became of one module: ``replacement`` is None where it was refused, and ``reason`` says why.

    A model of a library in a version that was not tested is one module here, with the op ``"all"``.
    """

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


def accelerate_(
    model: nn.Module,
    ops: Iterable[str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    deterministic: bool = False,
) -> Report:
    """Swap faster modules into ``model``, in place. :func:`restore_` undoes it exactly.

    On a GPU modules get Triton kernels; on a CPU, while gradients are off, fused operations in C where they were built,
    and the report says that kernels need a GPU. On both, while gradients are off, what depends on weights only
    (weight norm, projected positions) is computed once, and again when the weights change; but after a
    change in place of ``weight.data``, or of weights made under ``torch.inference_mode()``, which PyTorch does not
    count, call this again.

    Args:
        model: a :class:`~silk_fast.SilkCodec`, a codec of another library (``docs/codecs.md``), or any module that
            holds their parts.
        ops: which operations to swap, of :func:`silk_fast.acceleration.known_ops`; None for all.
        dtype: float32, float16 or bfloat16: of the convolutional signals while gradients are off, on a CPU of
            what their convolutions multiply. Conformer, FSQ and inverse STFT stay float32. On a CPU float16 is
            float32.
        deterministic: convolutions in IEEE float32, under autocast too, with a fixed order of additions, forward
            and backward; the kernels always have one.

    Returns:
        For every module that has such an operation, what replaced it or why not.

    Raises:
        SilkInputError: no module, an unknown op, an op that the model does not have, a dtype that is not one
            of the three, bfloat16 on a CPU that does not multiply it, or ``deterministic`` with half precision;
            or modules of another library that are patched, quantised, of several dtypes or on several devices.
            The model is unchanged.
    """
    _check_model(model)
    policy = Policy(dtype, deterministic)
    table, known = known_replacements(), known_ops()
    wanted = set(known) if ops is None else _names(ops)
    left_alone, inside = _left_alone(model)
    why_left = "".join(f"; {reason}" for reason in dict.fromkeys(swap.reason for swap in left_alone))
    if unknown := sorted(wanted - set(known)):
        raise SilkInputError(f"unknown op {unknown[0]!r}; expected some of {', '.join(known)}{why_left}")
    if not any(dtype is allowed for allowed in (torch.float32, torch.float16, torch.bfloat16)):
        raise SilkInputError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {shown(dtype)}")
    if not isinstance(deterministic, bool):
        raise SilkInputError(f"deterministic must be True or False, got {shown(deterministic)}")
    if deterministic and dtype != torch.float32:
        raise SilkInputError(f"deterministic means IEEE float32, got dtype {dtype}")
    modules = [(name, module) for name, module in model.named_modules() if module not in inside]
    entries = [(name, module, table.get(own_class(module))) for name, module in modules]
    found = [(name, module, entry) for name, module, entry in entries if entry and entry.op in wanted]
    if absent := sorted(wanted - {entry.op for _, _, entry in found}) if ops is not None else []:
        raise SilkInputError(f"op {absent[0]!r} matches no module of {type(model).__name__}{why_left}")
    _check_fit([(name, module, entry.why_unfit) for name, module, entry in found if entry.why_unfit])
    why_no_kernels = _why_no_kernels(model)
    on_cpu = all(tensor.is_cpu for tensor in (*model.parameters(), *model.buffers()))
    if why_no_kernels and on_cpu and dtype == torch.bfloat16 and (reason := why_no_bfloat16()):
        raise SilkInputError(f"dtype must be torch.float32 here, got {dtype}: {reason}")
    choices = [_choose(module, entry, policy, why_no_kernels) for _, module, entry in found]
    restore_(model)
    swaps = []
    for (name, module, entry), (form, reason) in zip(found, choices, strict=True):
        if form:
            set_class(module, form)
        if isinstance(module, FollowsPolicy):
            module.policy = policy
        swaps.append(Swap(name, entry.module.__name__, entry.op, form.__name__ if form else None, reason))
    return Report((*left_alone, *swaps))


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise SilkInputError(f"model must be a torch.nn.Module, got {shown(model)}")


def _check_fit(found: list[tuple[str, nn.Module, Callable[[nn.Module], str]]]) -> None:
    """Refuse modules of other libraries that are not as these made them, or not together in one place."""
    places: dict[tuple[str, torch.dtype], str] = {}
    for name, module, why_unfit in found:
        if reason := why_unfit(module):
            raise SilkInputError(f"{name or 'the model'} ({type(module).__name__}) cannot be accelerated: {reason}")
        places |= {(str(p.device), p.dtype): f"{name}.{leaf}".strip(".") for leaf, p in module.named_parameters()}
    if len(places) > 1:
        shown_places = ", ".join(f"{dtype} on {device} ({name})" for (device, dtype), name in places.items())
        raise SilkInputError(f"what is accelerated must have one dtype and be on one device, got {shown_places}")


def _names(ops: Iterable[str]) -> set[str]:
    """The names of operations in ``ops``, which may be a single one."""
    try:
        names = [ops] if isinstance(ops, str) or not isinstance(ops, Iterable) else list(ops)
    except Exception as error:
        raise SilkInputError(f"ops must be names of operations, got {shown(ops)}, which gives none: {error}") from error
    for name in names:
        if not isinstance(name, str):
            raise SilkInputError(f"ops must be names of operations, got {shown(name)}")
    return set(names)


def _left_alone(model: nn.Module) -> tuple[list[Swap], set[nn.Module]]:
    """Models of libraries in versions that were not tested, and all modules inside them."""
    swaps: list[Swap] = []
    inside: set[nn.Module] = set()
    for library, reason in untested_libraries().items():
        for name, module in model.named_modules():
            if library.defines(module) and module not in inside:
                inside.update(module.modules())
                swaps.append(Swap(name, type(module).__name__, "all", None, reason))
    return swaps, inside


def _why_no_kernels(model: nn.Module) -> str:
    """Why Triton cannot serve the model where it is; empty if it can."""
    try:
        from silk_fast.kernels import runs_on
    except ImportError as error:
        return str(error)
    tensors = [*model.parameters(), *model.buffers()]
    if tensors and all(map(runs_on, tensors)):
        return ""
    devices = {tensor.device.type for tensor in tensors}
    why_not_c = why_no_c_library() if devices == {"cpu"} else ""
    where = ", ".join(sorted(devices)) or "no device"
    return f"Triton kernels need a CUDA GPU, the model is on {where}{why_not_c and '; ' + why_not_c}"


def _choose(
    module: nn.Module, entry: Replacement, policy: Policy, why_no_kernels: str
) -> tuple[type[nn.Module] | None, str]:
    """The form that serves one module, if any, and why it is not that with kernels."""
    if entry.kernel is None:
        return entry.fallback, ""
    if why_no_kernels:
        return entry.fallback, why_no_kernels
    if parametrize.is_parametrized(module):
        return entry.fallback, "its weight is parametrised; fold_weight_norm_() first"
    why_not = entry.why_not(module, policy)
    return (entry.fallback, why_not) if why_not else (entry.kernel_form(), "")


def restore_(model: nn.Module) -> None:
    """Undo :func:`accelerate_`: every module gets its own class back, and folds are dropped.

    A model that was not swapped stays as it is; what was parametrised meanwhile stays parametrised.

    Raises:
        SilkInputError: ``model`` is no module.
    """
    _check_model(model)
    for module in model.modules():
        if isinstance(module, Form):
            set_class(module, own_class(module))
            for attribute in REMEMBERED:
                module.__dict__.pop(attribute, None)
