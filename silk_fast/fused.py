"""Reference modules whose operations are Triton kernels. Imports triton; only ``accelerate`` imports this.

Each class adds no parameter to the module it replaces, so that an instance becomes accelerated, and
back, by changing its class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast import kernels
from silk_fast.folding import FoldedRelativeAttention, FoldedSnake, Folding
from silk_fast.reference import ops
from silk_fast.reference.conformer import ConformerBlock, ConvModule, FeedForward
from silk_fast.reference.decoder import InverseSTFT
from silk_fast.reference.layers import CausalConv1d, ResidualUnit
from silk_fast.reference.quantizer import FiniteScalarQuantizer

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Policy:
    """How accelerated convolutions compute.

    Args:
        dtype: of convolutional signals where gradients are off; everything else stays as it is.
        deterministic: IEEE float32 convolutions with algorithms that always add in one order, forward and backward.
    """

    dtype: torch.dtype = torch.float32
    deterministic: bool = False

    @property
    def conv1d(self) -> Callable:
        """``F.conv1d``, or what does the same reproducibly."""
        return kernels.conv1d_ieee if self.deterministic else F.conv1d


def _where_it_runs(kernel: Callable, reference: Callable) -> staticmethod:
    """``kernel`` where Triton can run on the device of the first argument, else ``reference``."""

    def op(x: Tensor, *arguments, **options):
        return (kernel if kernels.runs_on(x) else reference)(x, *arguments, **options)

    return staticmethod(op)


def _residual_unit_by_cudnn(
    x,
    alpha1,
    beta1,
    weight1,
    bias1,
    alpha2,
    beta2,
    weight2,
    bias2,
    dilation,
    context=None,
    padding="causal",
    conv1d=F.conv1d,
):
    """cuDNN convolutions between Snake kernels, the first bias fused into the second Snake; differentiable."""
    extended = ops.extend(x, (weight1.shape[-1] - 1) * dilation, context, padding)
    hidden = conv1d(kernels.snake(extended, alpha1, beta1), weight1, dilation=dilation)
    return x + conv1d(kernels.snake(hidden, alpha2, beta2, bias1), weight2, bias2)


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

    snake = _where_it_runs(kernels.snake, ops.snake)
    residual_unit = _where_it_runs(_residual_unit_by_cudnn, ops.residual_unit)
    fsq_pack = _where_it_runs(kernels.fsq_pack, ops.fsq_pack)
    fsq_unpack = _where_it_runs(kernels.fsq_unpack, ops.fsq_unpack)
    fsq_quantize = _where_it_runs(kernels.fsq_quantize, ops.fsq_quantize)
    bias_silu = _where_it_runs(kernels.bias_silu, ops.bias_silu)
    add_layer_norm = _where_it_runs(kernels.add_layer_norm, ops.add_layer_norm)
    rel_attention = _where_it_runs(_rel_attention, ops.rel_attention)
    glu_conv_norm_silu = _where_it_runs(_glu_conv_norm_silu, ops.glu_conv_norm_silu)
    polar_istft = _where_it_runs(kernels.polar_istft, ops.polar_istft)
    polar_istft_stream = _where_it_runs(kernels.polar_istft_stream, ops.polar_istft_stream)


class FusedSnake(FoldedSnake):
    ops = KernelOps


class FusedFeedForward(FeedForward):
    ops = KernelOps


class FusedRelativeAttention(FoldedRelativeAttention):
    ops = KernelOps


class FusedConvModule(ConvModule):
    ops = KernelOps


class FusedConformerBlock(ConformerBlock):
    ops = KernelOps


class FusedQuantizer(FiniteScalarQuantizer):
    ops = KernelOps


class FusedInverseSTFT(InverseSTFT):
    ops = KernelOps


class PolicyCausalConv1d(Folding, CausalConv1d):
    """A convolution by cuDNN in the dtype of its policy."""

    policy: Policy

    def forward(self, x: Tensor, state=None) -> Tensor:
        if not torch.is_grad_enabled() and kernels.runs_on(x):
            x = x.to(self.policy.dtype)
        return super().forward(x, state)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.policy.deterministic:
            return kernels.conv1d_ieee(x, weight, bias, self.stride[0], self.dilation[0], self.groups)
        if x.dtype != weight.dtype:
            weight = self.folded("weight", lambda: self.weight.to(x.dtype), self.weight)
            bias = None if bias is None else self.folded("bias", lambda: self.bias.to(x.dtype), self.bias)
        return super()._conv_forward(x, weight, bias)


class FusedResidualUnit(Folding, ResidualUnit):
    """In half precision one implicit matrix product; else cuDNN convolutions between Snake kernels."""

    ops = KernelOps
    policy: Policy

    def _unit(self, x: Tensor, context: Tensor | None) -> Tensor:
        dtype = self.policy.dtype
        if not kernels.runs_on(x):
            return super()._unit(x, context)
        if dtype not in HALF or torch.is_grad_enabled():
            dilation, conv1d = self.conv1.dilation[0], self.policy.conv1d
            return _residual_unit_by_cudnn(x, *self.operands(), dilation, context, self.padding, conv1d)
        packed = self.folded("packed", lambda: self._packed(dtype), *self.parameters())
        rows = None if context is None else context.transpose(1, 2).to(dtype)
        y = kernels.residual_unit_channels_last(
            x.transpose(1, 2).to(dtype), packed, self.conv1.dilation[0], rows, self.padding
        )
        return y.transpose(1, 2)

    def _packed(self, dtype: torch.dtype) -> kernels.PackedResidualUnit:
        alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2 = self.operands()
        halves = weight1.to(dtype), weight2.to(dtype)
        return kernels.pack_weights(alpha1, beta1, halves[0], bias1, alpha2, beta2, halves[1], bias2)
