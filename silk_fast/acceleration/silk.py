"""What replaces the modules of Silk, and weight norm in any model."""

from types import ModuleType

import torch
from torch.nn.utils.parametrize import ParametrizationList

from silk_fast.acceleration import cpu_forms
from silk_fast.acceleration.cpu_forms import if_built
from silk_fast.acceleration.folding import FoldedRelativeAttention, FoldedWeight
from silk_fast.acceleration.forms import Policy
from silk_fast.acceleration.table import Replacement, register
from silk_fast.reference.conformer import ConformerBlock, ConvModule, FeedForward, RelativeAttention
from silk_fast.reference.decoder import InverseSTFT
from silk_fast.reference.harmonics import HarmonicSource
from silk_fast.reference.layers import CausalConv1d, ResidualUnit, Snake
from silk_fast.reference.quantizer import FiniteScalarQuantizer


def kernel_forms() -> ModuleType:
    """The forms that compute by kernels; imports triton."""
    from silk_fast.acceleration import kernel_forms

    return kernel_forms


def replacements() -> list[Replacement]:
    return [
        Replacement(ParametrizationList, "weight_norm", fallback=FoldedWeight),
        Replacement(
            CausalConv1d, "conv", lambda: kernel_forms().PolicyCausalConv1d, if_built(cpu_forms.CpuCausalConv1d)
        ),
        Replacement(Snake, "snake", lambda: kernel_forms().FusedSnake, if_built(cpu_forms.CpuSnake)),
        Replacement(
            ResidualUnit,
            "residual_unit",
            lambda: kernel_forms().FusedResidualUnit,
            if_built(cpu_forms.CpuResidualUnit),
            why_not=_why_no_residual_unit,
        ),
        Replacement(
            FeedForward, "bias_silu", lambda: kernel_forms().FusedFeedForward, if_built(cpu_forms.CpuFeedForward)
        ),
        Replacement(
            RelativeAttention,
            "rel_attention",
            lambda: kernel_forms().FusedRelativeAttention,
            if_built(cpu_forms.CpuRelativeAttention) or FoldedRelativeAttention,
        ),
        Replacement(
            ConvModule, "glu_conv_norm_silu", lambda: kernel_forms().FusedConvModule, if_built(cpu_forms.CpuConvModule)
        ),
        Replacement(
            ConformerBlock,
            "add_layer_norm",
            lambda: kernel_forms().FusedConformerBlock,
            if_built(cpu_forms.CpuConformerBlock),
        ),
        Replacement(
            FiniteScalarQuantizer, "fsq", lambda: kernel_forms().FusedQuantizer, if_built(cpu_forms.CpuQuantizer)
        ),
        Replacement(
            HarmonicSource,
            "add_harmonics",
            lambda: kernel_forms().FusedHarmonicSource,
            if_built(cpu_forms.CpuHarmonicSource),
        ),
        Replacement(
            InverseSTFT, "polar_istft", lambda: kernel_forms().FusedInverseSTFT, if_built(cpu_forms.CpuInverseSTFT)
        ),
    ]


def _why_no_residual_unit(unit: ResidualUnit, policy: Policy) -> str:
    n_channels = unit.conv1.in_channels
    if policy.dtype == torch.float32 or n_channels % 16 == 0:
        return ""
    return f"{n_channels} channels, half precision needs a multiple of 16"


register(replacements)
