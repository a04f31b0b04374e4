"""The operations of ``silk_fast.reference.ops`` that are fused loops in C, with the arguments of the Triton kernels.

Signals are float32 or, but for convolutions, bfloat16, computed in float32 and rounded once; parameters may have any
floating dtype. Results are contiguous. What is not contiguous is copied first, unless said otherwise. No gradients:
these serve where they are off. Nothing given is written, but ``out``. A result depends neither on the batch around it
nor on the threads.

Every function raises ``TypeError`` for a dtype and ``ValueError`` for a shape or a device, before it reads an element.
It needs :func:`silk_fast.cpu.library.available`.
"""

from silk_fast.cpu.attention import rel_attention
from silk_fast.cpu.conformer import add_layer_norm, bias_silu, glu_conv_norm_silu
from silk_fast.cpu.convolution import (
    PackedConvolution,
    PackedTransposed,
    conv1d,
    conv_transpose1d,
    residual_unit,
    why_no_bfloat16,
)
from silk_fast.cpu.elu import elu
from silk_fast.cpu.fsq import fsq_pack, fsq_quantize, fsq_unpack
from silk_fast.cpu.harmonics import add_harmonics
from silk_fast.cpu.inverse_stft import overlap_add, polar_istft, polar_istft_stream, polar_overlap_add, polar_spectrum
from silk_fast.cpu.snake import snake

__all__ = [
    "PackedConvolution",
    "PackedTransposed",
    "add_harmonics",
    "add_layer_norm",
    "bias_silu",
    "conv1d",
    "conv_transpose1d",
    "elu",
    "fsq_pack",
    "fsq_quantize",
    "fsq_unpack",
    "glu_conv_norm_silu",
    "overlap_add",
    "polar_istft",
    "polar_istft_stream",
    "polar_overlap_add",
    "polar_spectrum",
    "rel_attention",
    "residual_unit",
    "snake",
    "why_no_bfloat16",
]
