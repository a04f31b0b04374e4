"""Where forms of other libraries' modules compute, and how they enter the table.

A form is a place to compute, :class:`OnCpu` or :class:`OnGpu`, then a shape of module (``snake_family.py``,
``seanet_family.py``), then the library's own class. Its ``forward`` serves wherever the form does not: with gradients,
under autocast, in what is compiled or exported, in another dtype, on another device, and for what the library itself
refuses.
"""

from collections.abc import Callable, Collection
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.weight_norm import WeightNorm

from silk_fast.acceleration import cpu_forms
from silk_fast.acceleration.folding import Folding
from silk_fast.acceleration.forms import FollowsPolicy, Policy, is_plain_inference, own_class, replaced_class
from silk_fast.acceleration.table import Replacement
from silk_fast.cpu import ops as cpu

HALF = (torch.float16, torch.bfloat16)


def kernels() -> ModuleType:
    """The kernels; imports triton."""
    import silk_fast.kernels

    return silk_fast.kernels


def weight_of(conv: Any) -> Tensor:
    """The weight that a call would use, computed anew.

    Where weight norm is a hook, the attribute is what the last call used; a parametrised one may be remembered already,
    and what is packed of it need not be remembered twice.
    """
    if is_parametrized(conv, "weight"):
        return ParametrizationList.forward(conv.parametrizations.weight)
    for hook in conv._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            return hook.compute_weight(conv)
    return conv.weight


def constants_of(snake: Any) -> tuple[Tensor, Tensor]:
    """alpha and beta ``[C]`` of a Snake that has the former or both, as they are or as logarithms."""
    alpha = snake.alpha.flatten()
    beta = snake.beta.flatten() if hasattr(snake, "beta") else alpha
    return (alpha.exp(), beta.exp()) if getattr(snake, "logscale", False) else (alpha, beta)


def _extended(x: Tensor, padding: tuple[int, int] | None, context: Tensor | None) -> Tensor:
    """``x`` with zeros at both sides, or with what comes before it; both activations keep zeros."""
    if padding is None:
        return x
    return F.pad(x, padding) if context is None else torch.cat([context, F.pad(x, (0, padding[1]))], -1)


class Place(Folding, FollowsPolicy):
    """Where a form computes; the methods take modules of the form, and remember what is made of their weights.

    ``before`` is the activation that the input of a convolution passes first, a Snake or an ELU.
    """

    # what a place defines
    _computes_on: Callable[[Tensor], bool]
    _half: Callable[[], torch.dtype | None]  # the dtype of signals that is not that of the weights, if any
    _snake: Any
    _convolve: Any
    _transpose: Any
    _residual_unit: Any

    # what a shape defines: its result, and the parts that it reads or calls, asked of modules before they are swapped
    _run: Callable[[Tensor], Tensor]
    _parts: Callable[..., tuple[nn.Module, ...]]

    def forward(self, x: Tensor) -> Tensor:
        if not self._serves(x):
            return super().forward(x)
        return self._run(x.to(self._half() or x.dtype)).to(x.dtype)

    def _serves(self, x: Tensor) -> bool:
        first = self._first()
        weight = next(first.parameters())
        if x.ndim != 3 or not x.numel() or weight.device != x.device or x.dtype not in (weight.dtype, self._half()):
            return False
        n_channels = first.in_channels if isinstance(first, nn.Conv1d | nn.ConvTranspose1d) else weight.shape[1]
        return x.shape[1] == n_channels and self._computes_on(x)

    def _first(self) -> Any:
        """The part that the signal meets first, a convolution or a Snake."""
        return self._parts()[0]

    def _of(self, name: str, compute: Callable, *modules: Any):
        """``compute()``, remembered under ``name`` until a tensor of ``modules``, some of them None, changes."""
        present = [module for module in modules if module]
        tensors = [tensor for module in present for tensor in (*module.parameters(), *module.buffers())]
        return self.folded(name, compute, *tensors)


class OnCpu(Place):
    """In C, in float32 or with products of bfloat16, as the policy has it."""

    def _half(self) -> None:
        return None

    def _computes_on(self, x: Tensor) -> bool:
        return cpu_forms.serves(x)

    def _snake(self, name: str, x: Tensor, snake: Any) -> Tensor:
        return cpu.snake(x, *constants_of(snake))

    def _convolve(
        self,
        name: str,
        x: Tensor,
        conv: Any,
        before: Any | None = None,
        padding: tuple[int, int] | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """``conv`` with ``padding`` zeros at both sides, or a context at the left; None for its own padding."""
        left, right = padding or (conv.padding[0], conv.padding[0])
        span = (conv.kernel_size[0] - 1) * conv.dilation[0]
        if conv.groups > 1 or x.shape[-1] + left + right <= span or min(conv.stride[0], conv.dilation[0]) > 1:
            x = _extended(x, padding, context)
            return conv(x if before is None else before(x))
        packed = self._of(name, lambda: self._packed(conv, before), conv, before)
        return cpu.conv1d(x, packed, context, padding=(left, right))

    def _transpose(
        self, name: str, x: Tensor, conv: Any, before: Any | None = None, crop: tuple[int, int] | None = None
    ) -> Tensor:
        """``conv``, whose output loses ``crop`` samples at both ends; None for its own padding."""
        left, right = crop or (conv.padding[0], conv.padding[0] - conv.output_padding[0])
        is_plain = conv.groups == 1 and conv.dilation == (1,) and conv.kernel_size[0] == 2 * conv.stride[0]
        n_outputs = (x.shape[-1] + 1) * conv.stride[0] - left - right
        if not is_plain or right < 0 or n_outputs < 1:
            y = conv(x if before is None else before(x))
            return y if crop is None else y[..., left : y.shape[-1] - right]
        packed = self._of(name, lambda: self._packed(conv, before), conv, before)
        return cpu.conv_transpose1d(x, packed, (left, right))

    def _residual_unit(
        self,
        x: Tensor,
        *parts: Any,
        shortcut: Any | None = None,
        context: Tensor | None = None,
        padding: str = "symmetric",
    ) -> Tensor:
        """Of an activation, a dilated convolution, an activation and one of one tap; and a convolution beside them."""
        before1, conv1, before2, conv2 = parts

        def pack() -> tuple[cpu.PackedConvolution, cpu.PackedConvolution]:
            fast = padding == "symmetric" and conv1.kernel_size == (7,)
            return self._packed(conv1, before1, fast), self._packed(conv2, before2, beside=shortcut)

        dilated, pointwise = self._of("unit", pack, *parts, shortcut)
        return cpu.residual_unit(x, dilated, pointwise, context, padding)

    def _packed(
        self, conv: Any, before: Any | None, fast: bool = False, beside: Any | None = None
    ) -> cpu.PackedConvolution:
        elu = isinstance(before, nn.ELU)
        constants = None if before is None or elu else constants_of(before)
        half = self.policy.dtype == torch.bfloat16
        if isinstance(conv, nn.ConvTranspose1d):
            return cpu.PackedTransposed(weight_of(conv), conv.bias, constants, half, elu)
        depthwise = conv.groups > 1
        half = half and not depthwise and conv.kernel_size[0] % conv.stride[0] == 0
        options = {"half": half, "depthwise": depthwise, "fast": fast and not (half or depthwise), "elu": elu}
        weight, bias = weight_of(conv), conv.bias
        if beside is not None:
            weight = torch.cat([weight, weight_of(beside)], 1)
            bias = bias + beside.bias
        return cpu.PackedConvolution(weight, bias, conv.stride[0], conv.dilation[0], constants, **options)


def gpu_serves(x: Tensor) -> bool:
    """Tell whether a form for a GPU may compute on ``x``."""
    return kernels().runs_on(x) and is_plain_inference(x)


class OnGpu(Place):
    """By kernels for activations, and cuDNN."""

    def _half(self) -> torch.dtype | None:
        return self.policy.dtype if self.policy.dtype in HALF else None

    def _computes_on(self, x: Tensor) -> bool:
        return gpu_serves(x)

    def _snake(self, name: str, x: Tensor, snake: Any, bias: Tensor | None = None) -> Tensor:
        return kernels().snake(x, *self._of(name, lambda: constants_of(snake), snake), bias)

    def _activated(self, name: str, x: Tensor, before: Any | None) -> Tensor:
        if before is None:
            return x
        return kernels().elu(x) if isinstance(before, nn.ELU) else self._snake(f"{name} snake", x, before)

    def _convolve(
        self,
        name: str,
        x: Tensor,
        conv: Any,
        before: Any | None = None,
        padding: tuple[int, int] | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        x = self._activated(name, _extended(x, padding, context), before)
        return self._cudnn(name, x, conv, conv.bias)

    def _transpose(
        self, name: str, x: Tensor, conv: Any, before: Any | None = None, crop: tuple[int, int] | None = None
    ) -> Tensor:
        y = self._cudnn(name, self._activated(name, x, before), conv, conv.bias)
        return y if crop is None else y[..., crop[0] : y.shape[-1] - crop[1]]

    def _residual_unit(self, x: Tensor, *parts: Any) -> Tensor:
        """Of a Snake, a dilated convolution, a Snake and one of one tap; in half precision one matrix product."""
        snake1, conv1, snake2, conv2 = parts
        if x.dtype in HALF and conv1.groups == 1 and conv1.in_channels % 16 == 0:
            packed = self._of("unit", lambda: self._packed(x.dtype, *parts), *parts)
            y = kernels().residual_unit_channels_last(x.transpose(1, 2), packed, conv1.dilation[0], padding="symmetric")
            return y.transpose(1, 2)
        hidden = self._cudnn("conv1", self._snake("snake1", x, snake1), conv1, None)
        return self._cudnn("conv2", self._snake("snake2", hidden, snake2, conv1.bias), conv2, conv2.bias).add_(x)

    def _packed(self, dtype: torch.dtype, snake1, conv1, snake2, conv2):
        first = (*constants_of(snake1), weight_of(conv1).to(dtype), conv1.bias)
        second = (*constants_of(snake2), weight_of(conv2).to(dtype), conv2.bias)
        return kernels().pack_weights(*first, *second)

    def _cudnn(self, name: str, x: Tensor, conv: Any, bias: Tensor | None) -> Tensor:
        weight = self._of(f"{name} weight", lambda: weight_of(conv).to(x.dtype), conv)
        if bias is not None and bias.dtype != x.dtype:
            bias = self.folded(f"{name} bias", partial(bias.to, x.dtype), bias)
        if isinstance(conv, nn.ConvTranspose1d):
            sizes: Any = (conv.stride, conv.padding, conv.output_padding, conv.groups, conv.dilation)
            return F.conv_transpose1d(x, weight, bias, *sizes)
        return F.conv1d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


# ---------------------------------------------------------------- registration

Forms = dict[str, list[tuple[type[Place], type[Place]]]]


def why_unfit(module: nn.Module, form: type[Any], parts: Collection[type[nn.Module]]) -> str:
    """Why a form cannot take the place of a module; empty if it can.

    What the form reads or calls must be convolutions or of the classes ``parts``: not quantised, not wrapped; and not
    patched on the instance, as the hooks of ``accelerate`` are.
    """
    for part in (module, *form._parts(module)):
        kind = own_class(part)
        if part is not module and kind not in (nn.Conv1d, nn.ConvTranspose1d, *parts):
            return f"it has a {type(part).__name__} for a part, expected the library's own"
        if "forward" in vars(part):
            return f"forward of a {kind.__name__} was replaced on the instance, as accelerate's hooks do: remove them"
    return ""


def replacements(forms: Forms, other_parts: Collection[type[nn.Module]] = ()) -> list[Replacement]:
    """Entries of the table, from forms for a CPU and a GPU by the name of the operation.

    Args:
        forms: they.
        other_parts: classes that the forms call and do not replace.
    """
    pairs = [(op, *pair) for op, pairs in forms.items() for pair in pairs]
    parts = {*other_parts, *(replaced_class(on_cpu) for _, on_cpu, _ in pairs)}

    def replacement(op: str, on_cpu: type[Place], on_gpu: type[Place]) -> Replacement:
        return Replacement(
            replaced_class(on_cpu),
            op,
            lambda: on_gpu,
            cpu_forms.if_built(on_cpu),
            why_not=_why_not,
            why_unfit=lambda module: why_unfit(module, on_cpu, parts),
        )

    return [replacement(*pair) for pair in pairs]


def quantizer(form: type[Any]) -> Replacement:
    """The entry of the table for a quantiser on a GPU; on a CPU the library's own serves."""
    return Replacement(replaced_class(form), "rvq", lambda: form, why_unfit=lambda m: why_unfit(m, form, ()))


def _why_not(module: nn.Module, policy: Policy) -> str:
    return "deterministic convolutions are those of Silk's modules" if policy.deterministic else ""
