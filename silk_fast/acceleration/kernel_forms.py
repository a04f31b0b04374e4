"""Forms whose operations are Triton kernels. Imports triton; loaded when Triton can serve a model."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

import silk_fast.kernels as kernels
from silk_fast.acceleration.folding import FoldedRelativeAttention, FoldedSnake, Folding
from silk_fast.acceleration.forms import FollowsPolicy, Form, where
from silk_fast.reference import ops
from silk_fast.reference.conformer import ConformerBlock, ConvModule, FeedForward
from silk_fast.reference.decoder import InverseSTFT
from silk_fast.reference.harmonics import HarmonicSource
from silk_fast.reference.layers import CausalConv1d, ResidualUnit, ResidualUnitOperands
from silk_fast.reference.quantizer import FiniteScalarQuantizer

HALF = (torch.float16, torch.bfloat16)


def _residual_unit_by_cudnn(
    x: Tensor,
    *operands: Any,
    dilation: int,
    context: Tensor | None = None,
    padding: Literal["causal", "symmetric"] = "causal",
    conv1d: Callable[..., Tensor] = F.conv1d,
) -> Tensor:
    """cuDNN convolutions between Snake kernels, the first bias fused into the second Snake; differentiable."""
    unit = ResidualUnitOperands(*operands)
    extended = ops.extend(x, unit.reach(dilation), context, padding)
    hidden = conv1d(kernels.snake(extended, unit.alpha1, unit.beta1), unit.weight1, dilation=dilation)
    return x + conv1d(kernels.snake(hidden, unit.alpha2, unit.beta2, unit.bias1), unit.weight2, unit.bias2)


def _rel_attention(q, k, v, pos, u, v_bias, window=(None, None), lengths=None, starts=None):
    """Keys, values and positions in the dtype of ``q``: under autocast a stream remembers the first two in float32."""
    k, v, pos = (x.to(q.dtype) for x in (k, v, pos))
    return kernels.rel_attention(q, k, v, pos, u, v_bias, window, lengths, starts)


def _glu_conv_norm_silu(x, weight, bias, norm_weight, norm_bias, eps=1e-5, context=None):
    """The context in the dtype of ``x``: under autocast a stream remembers it in float32."""
    context = None if context is None else context.to(x.dtype)
    return kernels.glu_conv_norm_silu(x, weight, bias, norm_weight, norm_bias, eps, context)


class KernelOps:
    """The functions of ``reference.ops`` as kernels; under autocast as well, where dtypes mix."""

    snake = where(kernels.runs_on, kernels.snake, ops.snake)
    residual_unit = where(kernels.runs_on, _residual_unit_by_cudnn, ops.residual_unit)
    fsq_pack = where(kernels.runs_on, kernels.fsq_pack, ops.fsq_pack)
    fsq_unpack = where(kernels.runs_on, kernels.fsq_unpack, ops.fsq_unpack)
    fsq_quantize = where(kernels.runs_on, kernels.fsq_quantize, ops.fsq_quantize)
    bias_silu = where(kernels.runs_on, kernels.bias_silu, ops.bias_silu)
    add_layer_norm = where(kernels.runs_on, kernels.add_layer_norm, ops.add_layer_norm)
    rel_attention = where(kernels.runs_on, _rel_attention, ops.rel_attention)
    glu_conv_norm_silu = where(kernels.runs_on, _glu_conv_norm_silu, ops.glu_conv_norm_silu)
    add_harmonics = where(kernels.runs_on, kernels.add_harmonics, ops.add_harmonics)
    polar_istft = where(kernels.runs_on, kernels.polar_istft, ops.polar_istft)
    polar_istft_stream = where(kernels.runs_on, kernels.polar_istft_stream, ops.polar_istft_stream)


class FusedSnake(FoldedSnake):
    ops = KernelOps


class FusedFeedForward(Form, FeedForward):
    ops = KernelOps


class FusedRelativeAttention(FoldedRelativeAttention):
    ops = KernelOps


class FusedConvModule(Form, ConvModule):
    ops = KernelOps


class FusedConformerBlock(Form, ConformerBlock):
    ops = KernelOps


class FusedQuantizer(Form, FiniteScalarQuantizer):
    ops = KernelOps


class FusedHarmonicSource(Form, HarmonicSource):
    ops = KernelOps


class FusedInverseSTFT(Form, InverseSTFT):
    ops = KernelOps


class PolicyCausalConv1d(Folding, FollowsPolicy, CausalConv1d):
    """A convolution by cuDNN in the dtype of its policy."""

    def forward(self, x: Tensor, state=None) -> Tensor:
        if not torch.is_grad_enabled() and kernels.runs_on(x):
            x = x.to(self.policy.dtype)
        return super().forward(x, state)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.policy.deterministic:
            return kernels.conv1d_ieee(x, weight, bias, self.stride[0], self.dilation[0], self.groups)
        if x.dtype != weight.dtype:
            weight = self._converted("weight", weight, x.dtype)
            bias = None if bias is None else self._converted("bias", bias, x.dtype)
        return super()._conv_forward(x, weight, bias)

    def _converted(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return self.folded(name, lambda: tensor.to(dtype), tensor)


class FusedResidualUnit(Folding, FollowsPolicy, ResidualUnit):
    """In half precision one implicit matrix product; else cuDNN convolutions between Snake kernels."""

    ops = KernelOps

    def _unit(self, x: Tensor, context: Tensor | None) -> Tensor:
        dtype = self.policy.dtype
        if not kernels.runs_on(x):
            return super()._unit(x, context)
        if dtype not in HALF or torch.is_grad_enabled():
            return _residual_unit_by_cudnn(
                x,
                *self.operands(),
                dilation=self.conv1.dilation[0],
                context=context,
                padding=self.padding,
                conv1d=kernels.conv1d_ieee if self.policy.deterministic else F.conv1d,
            )
        packed = self.folded("packed", lambda: self._packed(dtype), *self.parameters())
        rows = None if context is None else context.transpose(1, 2).to(dtype)
        y = kernels.residual_unit_channels_last(
            x.transpose(1, 2).to(dtype), packed, self.conv1.dilation[0], rows, self.padding
        )
        return y.transpose(1, 2)

    def _packed(self, dtype: torch.dtype) -> kernels.PackedResidualUnit:
        operands = self.operands()
        halves = {"weight1": operands.weight1.to(dtype), "weight2": operands.weight2.to(dtype)}
        return kernels.pack_weights(*operands._replace(**halves))
