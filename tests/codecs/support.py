"""Codecs of other libraries with seeded random weights, their codebooks fitted to speech, and one way to call them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.audio import load


@dataclass(frozen=True)
class Codec:
    """One configuration of a codec.

    Args:
        library: the package that it is of.
        build: makes the model, of random weights.
        rate, n_channels: of the audio that it takes.
    """

    library: str
    build: Callable[[], nn.Module]
    rate: int
    n_channels: int = 1

    @property
    def has_codes(self) -> bool:
        return self.library != "diffusers"

    def make(self) -> nn.Module:
        """The model in evaluation mode, the caller's own; the test is skipped where the library is not installed."""
        pytest.importorskip(self.library, reason=f"needs the package {self.library}")
        return copy.deepcopy(_made(self))

    def speech(self, seconds: float) -> Tensor:
        """Speech, ``[1, n_channels, T]``; of a second channel, later speech."""
        n = int(seconds * self.rate)
        return torch.from_numpy(_speech(self.rate)[: n * self.n_channels].copy()).view(1, self.n_channels, n)

    def encode(self, model: nn.Module, audio: Tensor) -> list[Tensor]:
        """Codes of every stage ``[B, T]`` or, of Oobleck, the parameters of its distribution."""
        if self.library == "diffusers":
            return [model.encode(audio).latent_dist.parameters]
        codes = model.encode(audio)
        return list(codes.audio_codes.unbind(1)) if self.library == "transformers" else codes

    def decode(self, model: nn.Module, encoded: list[Tensor]) -> Tensor:
        """Audio ``[B, n_channels, T]``; random numbers are those of seed 1."""
        torch.manual_seed(1)
        if self.library == "diffusers":
            return model.decode(decoder_input(self, encoded[0])).sample
        if self.library == "transformers":
            return model.decode(audio_codes=torch.stack(encoded, 1)).audio_values[:, None]
        return model.decode(encoded)


@cache
def _speech(rate: int):
    return load(str(files("silk_fast") / "assets" / "speech.flac"), rate)


@cache
def _made(codec: Codec) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():  # or the hooks of weight norm leave weights that cannot be copied
        model = codec.build().eval()
    for module in model.modules():
        if codec.library == "transformers" and isinstance(module, nn.Conv1d):
            module.reset_parameters()  # its own are so small that all frames are alike
        for name in ("alpha", "beta"):
            if type(module).__name__ == "Snake1d" and hasattr(module, name):
                nn.init.uniform_(getattr(module, name), *((-0.5, 0.5) if hasattr(module, "logscale") else (0.5, 2.0)))
    if codec.has_codes:
        with torch.no_grad():
            _fit_codebooks(model, latents_of(codec, model, codec.speech(1.5)))
    return model


def latents_of(codec: Codec, model: nn.Module, audio: Tensor) -> Tensor:
    """What the quantiser gets, ``[B, C, T]``."""
    return model.encoder(model.preprocess(audio) if codec.library == "snac" else audio)


def decoder_input(codec: Codec, latents: Tensor) -> Tensor:
    """What a decoder may get for what an encoder gave: of Oobleck's distribution, the mean."""
    return latents if codec.has_codes else latents.chunk(2, 1)[0]


def _fit_codebooks(model: nn.Module, latents: Tensor) -> None:
    """Centre what a stage quantises, and take its entries from that of speech: of random ones few would be used."""
    for stage in model.quantizer.quantizers:
        pooled = F.avg_pool1d(latents, stage.stride) if getattr(stage, "stride", 1) > 1 else latents
        stage.in_proj.bias -= stage.in_proj(pooled).mean((0, 2))
        frames = stage.in_proj(pooled)[0].T
        entries = frames[torch.randint(len(frames), (stage.codebook.num_embeddings,))]
        stage.codebook.weight.copy_(entries + 0.3 * frames.std(0) * torch.randn(entries.shape))
        latents = latents - stage(latents)[0]


def _dac(**options: Any) -> nn.Module:
    from transformers import DacConfig, DacModel

    return DacModel(DacConfig(**options))


def _snac(**options: Any) -> nn.Module:
    from snac import SNAC

    return SNAC(**options)


def _oobleck(**options: Any) -> nn.Module:
    from diffusers import AutoencoderOobleck

    return AutoencoderOobleck(**options)


TINY_SNAC = {
    "encoder_dim": 16,
    "encoder_rates": [2, 3],
    "decoder_dim": 64,
    "decoder_rates": [3, 2],
    "codebook_size": 64,
    "vq_strides": [2, 1],
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
    "dac 16 kHz": Codec("transformers", partial(_dac, n_codebooks=12), 16_000),
    "dac 44.1 kHz": Codec(
        "transformers", partial(_dac, n_codebooks=9, downsampling_ratios=[2, 4, 8, 8], sampling_rate=44_100), 44_100
    ),
    "snac 24 kHz": Codec("snac", partial(_snac, **SNAC_24), 24_000),
    "snac 44 kHz": Codec("snac", _snac, 44_100),
    "oobleck stereo": Codec("diffusers", partial(_oobleck, **HALF_OOBLECK), 44_100, 2),
    "oobleck mono": Codec(
        "diffusers",
        partial(_oobleck, **HALF_OOBLECK, audio_channels=1, downsampling_ratios=[2, 3, 5], channel_multiples=[1, 2, 5]),
        16_000,
    ),
}
"""Configurations of real size."""

TINY = {
    "dac": Codec(
        "transformers",
        partial(
            _dac,
            encoder_hidden_size=16,
            decoder_hidden_size=64,
            downsampling_ratios=[2, 5],
            n_codebooks=3,
            codebook_size=64,
        ),
        16_000,
    ),
    "snac": Codec("snac", partial(_snac, **TINY_SNAC, attn_window_size=None), 24_000),
    "snac with attention": Codec("snac", partial(_snac, **TINY_SNAC, attn_window_size=8), 24_000),
    "oobleck": Codec(
        "diffusers",
        partial(
            _oobleck,
            encoder_hidden_size=16,
            decoder_channels=16,
            decoder_input_channels=8,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
        ),
        44_100,
        2,
    ),
}
"""Configurations small enough for kernels in the interpreter."""


def margins(codec: Codec, model: nn.Module, audio: Tensor, codes: list[Tensor]) -> list[Tensor]:
    """By how much the entry of each of ``codes`` is nearer to its latent than the next one, in squared distance.

    Both lie on the unit sphere, where squared distances are at most 4. The residuals are those of ``codes``.
    """
    latents = latents_of(codec, model, audio)
    differences = []
    for stage, ours in zip(model.quantizer.quantizers, codes, strict=True):
        stride = getattr(stage, "stride", 1)
        frames = F.normalize(stage.in_proj(F.avg_pool1d(latents, stride) if stride > 1 else latents), dim=1)
        distances = 2 - 2 * F.normalize(stage.codebook.weight) @ frames  # [B, entries, T]
        nearest = distances.topk(2, 1, largest=False).values
        differences.append(nearest[:, 1] - nearest[:, 0])
        latents = latents - stage.out_proj(stage.codebook(ours).transpose(1, 2)).repeat_interleave(stride, -1)
    return differences
