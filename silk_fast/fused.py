"""Reference modules whose operations are Triton kernels. Imports triton; only ``accelerate`` imports this.

Each class adds no parameter to the module it replaces, so that an instance becomes accelerated, and
back, by changing its class.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from silk_fast.folding import FoldedRelativeAttention, FoldedSnake, Folding
from silk_fast.kernels import add_layer_norm as _add_layer_norm
from silk_fast.kernels import bias_silu as _bias_silu
from silk_fast.kernels import fsq as _fsq
from silk_fast.kernels import glu_conv_norm_silu as _glu_conv_norm_silu
from silk_fast.kernels import polar_istft as _polar_istft
from silk_fast.kernels import rel_attention as _rel_attention
from silk_fast.kernels import residual_unit as _residual_unit
from silk_fast.kernels import snake as _snake
from silk_fast.kernels._common import INTERPRETED
from silk_fast.kernels.residual_unit import PackedResidualUnit
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
        deterministic: IEEE float32 convolutions with algorithms that always add in one order.
    """

    dtype: torch.dtype = torch.float32
    deterministic: bool = False

    @contextmanager
    def convolutions(self) -> Iterator[None]:
        """Settings of cuDNN for one convolution."""
        if not self.deterministic:
            yield
            return
        with torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield


def runs_on(x: Tensor) -> bool:
    """Whether Triton can run on the device of ``x``: a GPU or, in its interpreter, anywhere."""
    return x.is_cuda or INTERPRETED


class KernelOps:
    """The functions of ``reference.ops`` as kernels; where Triton cannot run, the reference."""

    @staticmethod
    def snake(x, alpha, beta):
        return (_snake if runs_on(x) else ops).snake(x, alpha, beta)

    @staticmethod
    def residual_unit(
        x, alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2, dilation, context=None, padding="causal"
    ):
        """cuDNN convolutions between Snake kernels, the first bias fused into the second Snake; differentiable."""
        if not runs_on(x):
            operands = (alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2)
            return ops.residual_unit(x, *operands, dilation, context, padding)
        extended = ops.extend(x, (weight1.shape[-1] - 1) * dilation, context, padding)
        hidden = F.conv1d(_snake.snake(extended, alpha1, beta1), weight1, dilation=dilation)
        return x + F.conv1d(_snake.snake(hidden, alpha2, beta2, bias1), weight2, bias2)

    @staticmethod
    def fsq_pack(z, levels, group_size):
        return (_fsq if runs_on(z) else ops).fsq_pack(z, levels, group_size)

    @staticmethod
    def fsq_unpack(tokens, levels, group_size):
        return (_fsq if runs_on(tokens) else ops).fsq_unpack(tokens, levels, group_size)

    @staticmethod
    def fsq_quantize(z, levels):
        return (_fsq if runs_on(z) else ops).fsq_quantize(z, levels)

    @staticmethod
    def bias_silu(x, bias):
        return (_bias_silu if runs_on(x) else ops).bias_silu(x, bias)

    @staticmethod
    def add_layer_norm(x, residual, scale, weight, bias, eps=1e-5):
        return (_add_layer_norm if runs_on(x) else ops).add_layer_norm(x, residual, scale, weight, bias, eps)

    @staticmethod
    def rel_attention(q, k, v, pos, u, v_bias, window=(None, None), lengths=None, starts=None):
        chosen = _rel_attention if runs_on(q) else ops
        return chosen.rel_attention(q, k, v, pos, u, v_bias, window, lengths, starts)

    @staticmethod
    def glu_conv_norm_silu(x, weight, bias, norm_weight, norm_bias, eps=1e-5, context=None):
        chosen = _glu_conv_norm_silu if runs_on(x) else ops
        return chosen.glu_conv_norm_silu(x, weight, bias, norm_weight, norm_bias, eps, context)

    @staticmethod
    def polar_istft(log_magnitude, phase, window, hop, alignment="causal"):
        chosen = _polar_istft if runs_on(phase) else ops
        return chosen.polar_istft(log_magnitude, phase, window, hop, alignment)

    @staticmethod
    def polar_istft_stream(log_magnitude, phase, window, hop, overlap):
        chosen = _polar_istft if runs_on(phase) else ops
        return chosen.polar_istft_stream(log_magnitude, phase, window, hop, overlap)


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
        if not torch.is_grad_enabled() and runs_on(x):
            x = x.to(self.policy.dtype)
        with self.policy.convolutions():
            return super().forward(x, state)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
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
        if dtype not in HALF or torch.is_grad_enabled() or not runs_on(x):
            with self.policy.convolutions():
                return super()._unit(x, context)
        packed = self.folded("packed", lambda: self._packed(dtype), *self.parameters())
        rows = None if context is None else context.transpose(1, 2).to(dtype)
        y = _residual_unit.residual_unit_channels_last(
            x.transpose(1, 2).to(dtype), packed, self.conv1.dilation[0], rows, self.padding
        )
        return y.transpose(1, 2)

    def _packed(self, dtype: torch.dtype) -> PackedResidualUnit:
        alpha1, beta1, weight1, bias1, alpha2, beta2, weight2, bias2 = self.operands()
        halves = weight1.to(dtype), weight2.to(dtype)
        return _residual_unit.pack_weights(alpha1, beta1, halves[0], bias1, alpha2, beta2, halves[1], bias2)
