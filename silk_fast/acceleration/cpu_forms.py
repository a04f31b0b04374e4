"""Forms for the CPU: fused operations of the C library, convolutions with weights that were packed once.

They serve float32 signals where gradients are off, nothing is being compiled, exported or traced, and autocast is off;
elsewhere the reference does. What C computes depends neither on the batch around a signal nor on how it is cut.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from silk_fast.acceleration.folding import FoldedRelativeAttention, Folding
from silk_fast.acceleration.forms import FollowsPolicy, Form, is_plain_inference, where
from silk_fast.cpu import library
from silk_fast.cpu import ops as cpu
from silk_fast.reference import ops
from silk_fast.reference.conformer import ConformerBlock, ConvModule, FeedForward
from silk_fast.reference.decoder import InverseSTFT
from silk_fast.reference.harmonics import HarmonicSource
from silk_fast.reference.layers import CausalConv1d, ResidualUnit, Snake
from silk_fast.reference.quantizer import FiniteScalarQuantizer
from silk_fast.reference.state import ContextState


def serves(x: Tensor) -> bool:
    """Tell whether the C library may compute on ``x``: its elements are in memory, and nobody follows what is done."""
    return (
        x.is_cpu
        and is_plain_inference(x)
        and x.dtype in (torch.float32, torch.int32, torch.int64)
        and not x.is_neg()
        and not _is_followed()
    )


def _is_followed() -> bool:
    """Tell whether PyTorch's operations are traced, replaced by a mode or by vmap, or carry forward-mode gradients."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.maybe_current_level() is not None
        or torch.jit.is_tracing()
        or forward_ad._current_level >= 0
    )


def if_built(form: type[Form]) -> type[Form] | None:
    """The form, where the C library that it computes by was built."""
    return form if library.available() else None


class CpuOps:
    """The functions of ``reference.ops`` that are in the C library."""

    snake = where(serves, cpu.snake, ops.snake)
    fsq_pack = where(serves, cpu.fsq_pack, ops.fsq_pack)
    fsq_unpack = where(serves, cpu.fsq_unpack, ops.fsq_unpack)
    fsq_quantize = where(serves, cpu.fsq_quantize, ops.fsq_quantize)
    bias_silu = where(serves, cpu.bias_silu, ops.bias_silu)
    add_layer_norm = where(serves, cpu.add_layer_norm, ops.add_layer_norm)
    rel_attention = where(serves, cpu.rel_attention, ops.rel_attention)
    glu_conv_norm_silu = where(serves, cpu.glu_conv_norm_silu, ops.glu_conv_norm_silu)
    add_harmonics = where(serves, cpu.add_harmonics, ops.add_harmonics)
    polar_istft = where(serves, cpu.polar_istft, ops.polar_istft)
    polar_istft_stream = where(serves, cpu.polar_istft_stream, ops.polar_istft_stream)


class CpuSnake(Form, Snake):
    ops = CpuOps


class CpuFeedForward(Form, FeedForward):
    ops = CpuOps


class CpuRelativeAttention(FoldedRelativeAttention):
    ops = CpuOps


class CpuConvModule(Form, ConvModule):
    ops = CpuOps


class CpuConformerBlock(Form, ConformerBlock):
    ops = CpuOps


class CpuQuantizer(Form, FiniteScalarQuantizer):
    ops = CpuOps


class CpuHarmonicSource(Form, HarmonicSource):
    ops = CpuOps


class CpuInverseSTFT(Form, InverseSTFT):
    ops = CpuOps


def _is_half(form: FollowsPolicy) -> bool:
    return form.policy.dtype == torch.bfloat16


class CpuCausalConv1d(Folding, FollowsPolicy, CausalConv1d):
    """A convolution whose weight is packed once, in the dtype of its policy."""

    def forward(self, x: Tensor, state: ContextState | None = None) -> Tensor:
        if not serves(x) or self.groups != 1:
            return super().forward(x, state)
        packed = self.folded("packed", self._packed, *self.parameters(), *self.buffers())
        y = cpu.conv1d(x, packed, None if state is None else state.context)
        if state is not None:
            state.push(x)
        return y

    def _packed(self) -> cpu.PackedConvolution:
        return cpu.PackedConvolution(self.weight, self.bias, self.stride[0], self.dilation[0], half=_is_half(self))


class CpuResidualUnit(Folding, FollowsPolicy, ResidualUnit):
    """A residual unit by tiles of time that stay in the cache, with weights packed once, in the dtype of its policy."""

    def _unit(self, x: Tensor, context: Tensor | None) -> Tensor:
        if not serves(x):
            return super()._unit(x, context)
        dilated, pointwise = self.folded("packed", self._packed, *self.parameters(), *self.buffers())
        return cpu.residual_unit(x, dilated, pointwise, context, self.padding)

    def _packed(self) -> tuple[cpu.PackedConvolution, cpu.PackedConvolution]:
        unit = self.operands()
        dilation, half = self.conv1.dilation[0], _is_half(self)
        snakes = (unit.alpha1, unit.beta1), (unit.alpha2, unit.beta2)
        dilated = cpu.PackedConvolution(unit.weight1, unit.bias1, dilation=dilation, snake=snakes[0], half=half)
        return dilated, cpu.PackedConvolution(unit.weight2, unit.bias2, snake=snakes[1], half=half)
