"""Triton kernels: every public function. Installed as ``silk_fast.kernels``."""

try:
    import triton
except ImportError as error:
    raise ImportError("triton is not installed; kernels need Linux with an NVIDIA GPU") from error

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < (3, 3):  # no tl.gather
    raise ImportError(f"triton {triton.__version__} is too old; kernels need 3.3 or later, which torch 2.7 brings")

if __name__ == "silk_fast.kernels":  # from a checkout, transformers imports the folder to see if it is another package
    from ._launch import INTERPRETED, runs_on
    from .add_harmonics import add_harmonics
    from .add_layer_norm import add_layer_norm
    from .attention import rel_attention, rel_key_attention
    from .bias_silu import bias_silu
    from .conv1d_ieee import conv1d_ieee
    from .elu import elu
    from .fsq import fsq_pack, fsq_quantize, fsq_unpack
    from .glu_conv_norm_silu import glu_conv_norm_silu
    from .inverse_stft import polar_istft, polar_istft_stream, polar_overlap_add
    from .residual_unit import PackedResidualUnit, pack_weights, residual_unit, residual_unit_channels_last
    from .rvq import PackedCodebooks, factorized_rvq_encode, pack_codebooks, rvq_decode, rvq_encode
    from .snake import snake

__all__ = [
    "INTERPRETED",
    "PackedCodebooks",
    "PackedResidualUnit",
    "add_harmonics",
    "add_layer_norm",
    "bias_silu",
    "conv1d_ieee",
    "elu",
    "factorized_rvq_encode",
    "fsq_pack",
    "fsq_quantize",
    "fsq_unpack",
    "glu_conv_norm_silu",
    "pack_codebooks",
    "pack_weights",
    "polar_istft",
    "polar_istft_stream",
    "polar_overlap_add",
    "rel_attention",
    "rel_key_attention",
    "residual_unit",
    "residual_unit_channels_last",
    "runs_on",
    "rvq_decode",
    "rvq_encode",
    "snake",
]
