"""Every kernel's public function under one name; importing it imports triton."""

from ._common import INTERPRETED
from .add_layer_norm import add_layer_norm
from .bias_silu import bias_silu
from .fsq import fsq_pack, fsq_quantize, fsq_unpack
from .glu_conv_norm_silu import glu_conv_norm_silu
from .polar_istft import polar_istft, polar_istft_stream, polar_overlap_add
from .rel_attention import rel_attention
from .rel_key_attention import rel_key_attention
from .residual_unit import PackedResidualUnit, pack_weights, residual_unit, residual_unit_channels_last
from .snake import snake

__all__ = [
    "INTERPRETED",
    "PackedResidualUnit",
    "add_layer_norm",
    "bias_silu",
    "fsq_pack",
    "fsq_quantize",
    "fsq_unpack",
    "glu_conv_norm_silu",
    "pack_weights",
    "polar_istft",
    "polar_istft_stream",
    "polar_overlap_add",
    "rel_attention",
    "rel_key_attention",
    "residual_unit",
    "residual_unit_channels_last",
    "snake",
]
