"""Two configurations of every codec of real size, and small ones."""

from functools import partial
from typing import Any

from torch import nn

from tests.codecs.support import Dac, Encodec, Mimi, Oobleck, Snac


def _dac(**options: Any) -> nn.Module:
    from transformers import DacConfig, DacModel

    return DacModel(DacConfig(**options))


def _encodec(**options: Any) -> nn.Module:
    from transformers import EncodecConfig, EncodecModel

    return EncodecModel(EncodecConfig(**options))


def _mimi(**options: Any) -> nn.Module:
    from transformers import MimiConfig, MimiModel

    return MimiModel(MimiConfig(**options))


def _snac(**options: Any) -> nn.Module:
    from snac import SNAC

    return SNAC(**options)


def _oobleck(**options: Any) -> nn.Module:
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(**options)


STEREO_ENCODEC = {
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
}
SNAC_24 = {
    "sampling_rate": 24_000,
    "encoder_dim": 48,
    "encoder_rates": [2, 4, 8, 8],
    "decoder_dim": 1024,
    "decoder_rates": [8, 8, 4, 2],
    "attn_window_size": None,
    "vq_strides": [4, 2, 1],
}
HALF_OOBLECK = {"encoder_hidden_size": 64, "decoder_channels": 64, "decoder_input_channels": 32}

CODECS = {
    "dac 16 kHz": Dac(partial(_dac, n_codebooks=12), 16_000),
    "dac 44.1 kHz": Dac(partial(_dac, n_codebooks=9, downsampling_ratios=[2, 4, 8, 8], sampling_rate=44_100), 44_100),
    "encodec 24 kHz": Encodec(partial(_encodec, target_bandwidths=[1.5, 6.0]), 24_000),
    "encodec 48 kHz": Encodec(
        partial(_encodec, sampling_rate=48_000, target_bandwidths=[3.0, 12.0], **STEREO_ENCODEC), 48_000, 2
    ),
    "mimi, 8 codebooks": Mimi(partial(_mimi, num_quantizers=8), 24_000),
    "mimi, 32 codebooks": Mimi(_mimi, 24_000),
    "snac 24 kHz": Snac(partial(_snac, **SNAC_24), 24_000),
    "snac 44 kHz": Snac(_snac, 44_100),
    "oobleck stereo": Oobleck(partial(_oobleck, **HALF_OOBLECK), 44_100, 2),
    "oobleck mono": Oobleck(
        partial(_oobleck, **HALF_OOBLECK, audio_channels=1, downsampling_ratios=[2, 3, 5], channel_multiples=[1, 2, 5]),
        16_000,
    ),
}
"""Configurations of real size."""

TINY_DAC = {
    "encoder_hidden_size": 16,
    "decoder_hidden_size": 64,
    "downsampling_ratios": [2, 5],
    "n_codebooks": 3,
    "codebook_size": 64,
}
TINY_ENCODEC = {
    "num_filters": 8,
    "upsampling_ratios": [5, 2],
    "hidden_size": 16,
    "codebook_size": 64,
    "codebook_dim": 16,
}
TINY_MIMI = {
    "num_filters": 8,
    "upsampling_ratios": [5, 2],
    "hidden_size": 32,
    "codebook_size": 64,
    "codebook_dim": 16,
    "vector_quantization_hidden_dimension": 16,
    "num_quantizers": 4,
    "num_semantic_quantizers": 1,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "sliding_window": 20,
    "upsample_groups": 32,
    "frame_rate": 1200.0,
}
TINY_SNAC = {
    "encoder_dim": 16,
    "encoder_rates": [2, 3],
    "decoder_dim": 64,
    "decoder_rates": [3, 2],
    "codebook_size": 64,
    "vq_strides": [2, 1],
}
TINY_OOBLECK = {
    "encoder_hidden_size": 16,
    "decoder_channels": 16,
    "decoder_input_channels": 8,
    "downsampling_ratios": [2, 4],
    "channel_multiples": [1, 2],
}

TINY = {
    "dac": Dac(partial(_dac, **TINY_DAC), 16_000),
    "encodec": Encodec(partial(_encodec, target_bandwidths=[10.0, 40.0], **TINY_ENCODEC), 24_000),
    "encodec in chunks": Encodec(
        partial(
            _encodec,
            sampling_rate=8_000,
            target_bandwidths=[10.0],
            **TINY_ENCODEC,
            **STEREO_ENCODEC | {"chunk_length_s": 0.1},
        ),
        8_000,
        2,
    ),
    "mimi": Mimi(partial(_mimi, **TINY_MIMI), 24_000),
    "snac": Snac(partial(_snac, **TINY_SNAC, attn_window_size=None), 24_000),
    "snac with attention": Snac(partial(_snac, **TINY_SNAC, attn_window_size=8), 24_000),
    "oobleck": Oobleck(partial(_oobleck, **TINY_OOBLECK), 44_100, 2),
}
"""Configurations small enough for kernels in the interpreter."""
