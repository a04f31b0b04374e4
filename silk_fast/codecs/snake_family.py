"""What the codecs that descend from DAC share: Snakes, residual units, blocks that change the rate.

A form is a place to compute, :class:`OnCpu` or :class:`OnGpu`, then a shape of module below, then the library's own
class. Its ``forward`` serves wherever the form does not: with gradients, under autocast, in what is compiled or
exported, in another dtype, on another device, and for what the library itself refuses.
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


def is_long_enough(x: Tensor, conv: Any) -> bool:
    """Whether the convolution gives anything for ``x``; PyTorch raises an error where it does not."""
    (taps,), (stride,), (padding,), (dilation,) = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    if isinstance(conv, nn.ConvTranspose1d):
        return (x.shape[-1] + 1) * stride + conv.output_padding[0] > 2 * padding
    return x.shape[-1] + 2 * padding > (taps - 1) * dilation


class Place(Folding, FollowsPolicy):
    """Where a form computes; the methods take modules of the form, and remember what is made of their weights."""

    # parts of the library's modules
    block: Any
    conv1: Any
    conv2: Any
    conv_t1: Any
    res_unit1: Any
    res_unit2: Any
    res_unit3: Any
    snake1: Any
    snake2: Any
    tanh: Any

    # what a place defines
    _computes_on: Callable[[Tensor], bool]
    _half: Callable[[], torch.dtype | None]  # the dtype of signals that is not that of the weights, if any
    _snake: Any
    _convolve: Any
    _residual_unit: Any

    # what a shape defines: its result, and the parts that it reads or calls, of which the first gets the signal first
    _run: Callable[[Tensor], Tensor]
    _parts: Callable[..., tuple[nn.Module, ...]]

    def forward(self, x: Tensor) -> Tensor:
        if not self._serves(x):
            return super().forward(x)
        return self._run(x.to(self._half() or x.dtype)).to(x.dtype)

    def _serves(self, x: Tensor) -> bool:
        first: Any = self._parts()[0]
        weight = next(first.parameters())
        if x.ndim != 3 or not x.numel() or weight.device != x.device or x.dtype not in (weight.dtype, self._half()):
            return False
        n_channels = first.in_channels if isinstance(first, nn.Conv1d | nn.ConvTranspose1d) else weight.shape[1]
        return x.shape[1] == n_channels and self._computes_on(x)

    def _of(self, name: str, compute: Callable, *modules: Any):
        """``compute()``, remembered under ``name`` until a parameter of ``modules`` changes."""
        return self.folded(name, compute, *(parameter for module in modules for parameter in module.parameters()))


class OnCpu(Place):
    """In C, in float32 or with products of bfloat16, as the policy has it."""

    def _half(self) -> None:
        return None

    def _computes_on(self, x: Tensor) -> bool:
        return cpu_forms.serves(x)

    def _snake(self, name: str, x: Tensor, snake: Any) -> Tensor:
        return cpu.snake(x, *constants_of(snake))

    def _convolve(self, name: str, x: Tensor, conv: Any, snake: Any | None = None) -> Tensor:
        if not is_long_enough(x, conv) or conv.groups > 1:
            return conv(x if snake is None else snake(x))
        packed = self._of(name, lambda: self._packed(conv, snake), *filter(None, (conv, snake)))
        if isinstance(packed, cpu.PackedTransposed):
            return cpu.conv_transpose1d(x, packed, conv.padding[0], conv.output_padding[0])
        return cpu.conv1d(x, packed, padding=(conv.padding[0], conv.padding[0]))

    def _packed(self, conv: Any, snake: Any | None, fast: bool = False) -> cpu.PackedConvolution:
        constants = None if snake is None else constants_of(snake)
        half = self.policy.dtype == torch.bfloat16
        if isinstance(conv, nn.ConvTranspose1d):
            return cpu.PackedTransposed(weight_of(conv), conv.bias, constants, half)
        depthwise = conv.groups > 1
        options = {"half": half and not depthwise, "depthwise": depthwise, "fast": fast and not (half or depthwise)}
        return cpu.PackedConvolution(weight_of(conv), conv.bias, conv.stride[0], conv.dilation[0], constants, **options)

    def _residual_unit(self, x: Tensor, snake1: Any, conv1: Any, snake2: Any, conv2: Any):
        def pack() -> tuple[cpu.PackedConvolution, cpu.PackedConvolution]:
            return self._packed(conv1, snake1, fast=True), self._packed(conv2, snake2)

        dilated, pointwise = self._of("unit", pack, snake1, conv1, snake2, conv2)
        return cpu.residual_unit(x, dilated, pointwise, padding="symmetric")


def gpu_serves(x: Tensor) -> bool:
    """Tell whether a form for a GPU may compute on ``x``."""
    return kernels().runs_on(x) and is_plain_inference(x)


class OnGpu(Place):
    """By Snake kernels and cuDNN or, in half precision, residual units that are one matrix product."""

    def _half(self) -> torch.dtype | None:
        return self.policy.dtype if self.policy.dtype in HALF else None

    def _computes_on(self, x: Tensor) -> bool:
        return gpu_serves(x)

    def _snake(self, name: str, x: Tensor, snake: Any, bias: Tensor | None = None) -> Tensor:
        return kernels().snake(x, *self._of(name, lambda: constants_of(snake), snake), bias)

    def _convolve(self, name: str, x: Tensor, conv: Any, snake: Any | None = None) -> Tensor:
        return self._cudnn(name, x if snake is None else self._snake(f"{name} snake", x, snake), conv, conv.bias)

    def _cudnn(self, name: str, x: Tensor, conv: Any, bias: Tensor | None) -> Tensor:
        weight = self._of(f"{name} weight", lambda: weight_of(conv).to(x.dtype), conv)
        if bias is not None and bias.dtype != x.dtype:
            bias = self.folded(f"{name} bias", partial(bias.to, x.dtype), bias)
        if isinstance(conv, nn.ConvTranspose1d):
            sizes: Any = (conv.stride, conv.padding, conv.output_padding, conv.groups, conv.dilation)
            return F.conv_transpose1d(x, weight, bias, *sizes)
        return F.conv1d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def _residual_unit(self, x: Tensor, snake1: Any, conv1: Any, snake2: Any, conv2: Any):
        if x.dtype in HALF and conv1.groups == 1 and conv1.in_channels % 16 == 0:
            modules = (snake1, conv1, snake2, conv2)
            packed = self._of("unit", lambda: self._packed(x.dtype, *modules), *modules)
            y = kernels().residual_unit_channels_last(x.transpose(1, 2), packed, conv1.dilation[0], padding="symmetric")
            return y.transpose(1, 2)
        hidden = self._cudnn("conv1", self._snake("snake1", x, snake1), conv1, None)
        return self._cudnn("conv2", self._snake("snake2", hidden, snake2, conv1.bias), conv2, conv2.bias).add_(x)

    def _packed(self, dtype: torch.dtype, snake1, conv1, snake2, conv2):
        first = (*constants_of(snake1), weight_of(conv1).to(dtype), conv1.bias)
        second = (*constants_of(snake2), weight_of(conv2).to(dtype), conv2.bias)
        return kernels().pack_weights(*first, *second)


# ---------------------------------------------------------------- shapes of modules


class SnakeShape(Place):
    """A Snake by itself."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return (self,)

    def _run(self, x: Tensor) -> Tensor:
        return self._snake("snake", x, self)


class UnitShape(Place):
    """A residual unit, of a Snake, a dilated convolution, a Snake and a convolution of one tap."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.snake1, self.conv1, self.snake2, self.conv2

    def _run(self, x: Tensor) -> Tensor:
        return self._residual_unit(x, *self._parts())


class EncoderBlockShape(Place):
    """Three units, and a Snake with a convolution that lowers the rate."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.res_unit1, self.res_unit2, self.res_unit3, self.snake1, self.conv1

    def _run(self, x: Tensor) -> Tensor:
        x = self.res_unit3(self.res_unit2(self.res_unit1(x)))
        return self._convolve("conv1", x, self.conv1, self.snake1)


class DecoderBlockShape(Place):
    """A Snake with a transposed convolution that raises the rate, and three units."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.snake1, self.conv_t1, self.res_unit1, self.res_unit2, self.res_unit3

    def _run(self, x: Tensor) -> Tensor:
        x = self._convolve("conv_t1", x, self.conv_t1, self.snake1)
        return self.res_unit3(self.res_unit2(self.res_unit1(x)))


class CoderShape(Place):
    """An encoder or a decoder: a convolution, blocks, a Snake with a convolution; and DAC's tanh."""

    def _parts(self: Any) -> tuple[nn.Module, ...]:
        return self.conv1, *self.block, self.snake1, self.conv2

    def _run(self, x: Tensor) -> Tensor:
        x = self._convolve("conv1", x, self.conv1)
        for block in self.block:
            x = block(x)
        x = self._convolve("conv2", x, self.conv2, self.snake1)
        return self.tanh(x) if hasattr(self, "tanh") else x


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


def _why_not(module: nn.Module, policy: Policy) -> str:
    return "deterministic convolutions are those of Silk's modules" if policy.deterministic else ""
