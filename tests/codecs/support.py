"""Codecs of other libraries with seeded random weights, their codebooks fitted to speech, and one way to call them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.audio import load
from silk_fast.codecs import dac, encodec, mimi, oobleck, snac


@dataclass(frozen=True)
class Codec:
    """One configuration of a codec; a subclass knows its library.

    Args:
        build: makes the model, of random weights.
        rate, n_channels: of the audio that it takes.
    """

    build: Callable[[], nn.Module]
    rate: int
    n_channels: int = 1

    registration: ClassVar[ModuleType]
    margin: ClassVar[float] = 1e-5
    """Codes may differ where the two nearest entries differ by less, as :meth:`margins` has it."""

    def make(self) -> nn.Module:
        """The model in evaluation mode, the caller's own; the test is skipped where the library is not installed."""
        package = self.registration.LIBRARY.distribution
        pytest.importorskip(package, reason=f"needs the package {package}")
        return copy.deepcopy(_made(self))

    def speech(self, seconds: float) -> Tensor:
        """Speech, ``[1, n_channels, T]``; of a second channel, later speech."""
        n = int(seconds * self.rate)
        return torch.from_numpy(_speech(self.rate)[: n * self.n_channels].copy()).view(1, self.n_channels, n)

    # what a subclass says

    def encode(self, model: nn.Module, audio: Tensor) -> Any:
        """What the library's ``encode`` gives."""
        return model.encode(audio, **self.options(model))

    def options(self, model: nn.Module) -> dict[str, Any]:
        """Options of ``encode`` that are not the library's defaults."""
        return {}

    def results(self, encoded: Any) -> list[Tensor]:
        """Codes of every stage ``[B, T]`` or, of Oobleck, the parameters of its distribution."""
        raise NotImplementedError

    def decode(self, model: nn.Module, encoded: Any) -> Tensor:
        """Audio ``[B, n_channels, T]``; random numbers are those of seed 1."""
        raise NotImplementedError

    def latents(self, model: nn.Module, audio: Tensor) -> Tensor:
        """What the quantiser gets, ``[B, C, T]``."""
        return model.encoder(audio)

    def synthesise(self, model: nn.Module, latents: Tensor) -> Tensor:
        """What the decoder makes of them."""
        return model.decoder(latents)

    def initialise(self, model: nn.Module) -> None:
        """Random weights that are not the library's own."""

    def fit(self, model: nn.Module, latents: Tensor) -> None:
        """Take the entries of every stage from the latents of speech: of random ones few would be used."""

    def margins(self, model: nn.Module, audio: Tensor, codes: list[Tensor]) -> list[Tensor]:
        """By how much the entry of each of ``codes`` is nearer to its latent than the next; residuals are theirs."""
        raise NotImplementedError


@cache
def _speech(rate: int):
    return load(str(files("silk_fast") / "assets" / "speech.flac"), rate)


@cache
def _made(codec: Codec) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():  # or the hooks of weight norm leave weights that cannot be copied
        model = codec.build().eval()
        codec.initialise(model)
        codec.fit(model, codec.latents(model, codec.speech(1.5)))
    return model


def _reset_convolutions(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv1d):
            module.reset_parameters()


def _amplify(model: nn.Module, ending: str) -> None:
    """Have convolutions keep the variance of their inputs, so that not all frames are alike."""
    for name, parameter in model.named_parameters():
        if name.endswith(ending):
            parameter.mul_(1.7)


def _spread_snakes(model: nn.Module, **ranges: tuple[float, float]) -> None:
    for module in model.modules():
        for name, (low, high) in ranges.items() if type(module).__name__ == "Snake1d" else ():
            nn.init.uniform_(getattr(module, name), low, high)


def _like(frames: Tensor, n_entries: int, noise: float) -> Tensor:
    """Entries drawn from ``frames`` ``[N, D]``, and moved by so many standard deviations."""
    entries = frames[torch.randint(len(frames), (n_entries,))]
    return entries + noise * frames.std(0) * torch.randn(entries.shape)


class Factorized(Codec):
    """DAC and SNAC: entries and latents of a few dimensions, both on the unit sphere, where margins are at most 4."""

    def fit(self, model: nn.Module, latents: Tensor) -> None:
        for stage in model.quantizer.quantizers:
            pooled = F.avg_pool1d(latents, stage.stride) if getattr(stage, "stride", 1) > 1 else latents
            stage.in_proj.bias -= stage.in_proj(pooled).mean((0, 2))
            stage.codebook.weight.copy_(_like(stage.in_proj(pooled)[0].T, stage.codebook.num_embeddings, 0.3))
            latents = latents - stage(latents)[0]

    def margins(self, model: nn.Module, audio: Tensor, codes: list[Tensor]) -> list[Tensor]:
        latents, margins = self.latents(model, audio), []
        for stage, ours in zip(model.quantizer.quantizers, codes, strict=True):
            stride = getattr(stage, "stride", 1)
            frames = F.normalize(stage.in_proj(F.avg_pool1d(latents, stride) if stride > 1 else latents), dim=1)
            nearest = (2 - 2 * F.normalize(stage.codebook.weight) @ frames).topk(2, 1, largest=False).values
            margins.append(nearest[:, 1] - nearest[:, 0])
            latents = latents - stage.out_proj(stage.codebook(ours).transpose(1, 2)).repeat_interleave(stride, -1)
        return margins


class Dac(Factorized):
    registration = dac

    def results(self, encoded: Any) -> list[Tensor]:
        return list(encoded.audio_codes.unbind(1))

    def decode(self, model: nn.Module, encoded: Any) -> Tensor:
        return model.decode(audio_codes=encoded.audio_codes).audio_values[:, None]

    def initialise(self, model: nn.Module) -> None:
        _reset_convolutions(model)  # its own are so small that all frames are alike
        _spread_snakes(model, alpha=(0.5, 2.0))


class Snac(Factorized):
    registration = snac

    def results(self, encoded: Any) -> list[Tensor]:
        return encoded

    def decode(self, model: nn.Module, encoded: Any) -> Tensor:
        torch.manual_seed(1)
        return model.decode(encoded)

    def latents(self, model: nn.Module, audio: Tensor) -> Tensor:
        return model.encoder(model.preprocess(audio))

    def synthesise(self, model: nn.Module, latents: Tensor) -> Tensor:
        torch.manual_seed(1)
        return model.decoder(latents)

    def initialise(self, model: nn.Module) -> None:
        _spread_snakes(model, alpha=(0.5, 2.0))


class Oobleck(Codec):
    registration = oobleck

    def results(self, encoded: Any) -> list[Tensor]:
        return [encoded.latent_dist.parameters]

    def decode(self, model: nn.Module, encoded: Any) -> Tensor:
        return model.decode(encoded.latent_dist.mean).sample

    def synthesise(self, model: nn.Module, latents: Tensor) -> Tensor:
        return model.decoder(latents.chunk(2, 1)[0])

    def initialise(self, model: nn.Module) -> None:
        _spread_snakes(model, alpha=(-0.5, 0.5), beta=(-0.5, 0.5))


def _euclidean_margins(stages: Any, latents: Tensor, codes: list[Tensor]) -> list[Tensor]:
    """How far a residual is from having another entry nearest, as a share of the length of its latent."""
    length, margins = latents.norm(dim=1), []
    for stage, ours in zip(stages, codes, strict=True):
        entries = stage.codebook.embed
        squares = entries.square().sum(1)[:, None] - 2 * entries @ latents  # less that of the residual
        nearest, which = squares.topk(2, 1, largest=False)
        apart = (entries[which[:, 0]] - entries[which[:, 1]]).norm(dim=-1)
        margins.append((nearest[:, 1] - nearest[:, 0]) / (2 * apart * length))
        latents = latents - entries[ours].transpose(1, 2)
    return margins


class Encodec(Codec):
    registration = encodec

    def initialise(self, model: nn.Module) -> None:
        _amplify(model, "original0")

    def options(self, model: nn.Module) -> dict[str, Any]:
        return {"bandwidth": model.config.target_bandwidths[-1]}

    def results(self, encoded: Any) -> list[Tensor]:
        codes = torch.cat(list(encoded.audio_codes), -1)  # of chunks one after another, [B, Q, T]
        return list(codes[..., : codes.shape[-1] - (encoded.last_frame_pad_length or 0)].unbind(1))

    def decode(self, model: nn.Module, encoded: Any) -> Tensor:
        options = {"last_frame_pad_length": encoded.last_frame_pad_length or 0}
        return model.decode(encoded.audio_codes, encoded.audio_scales, **options).audio_values

    def latents(self, model: nn.Module, audio: Tensor) -> Tensor:
        config = model.config
        if config.chunk_length is None:
            return model.encoder(audio)
        chunks = [audio[..., at : at + config.chunk_length] for at in range(0, audio.shape[-1], config.chunk_stride)]
        scales = [chunk.mean(1, keepdim=True).square().mean(-1, keepdim=True).sqrt() + 1e-8 for chunk in chunks]
        return torch.cat([model.encoder(chunk / scale) for chunk, scale in zip(chunks, scales, strict=True)], -1)

    def fit(self, model: nn.Module, latents: Tensor) -> None:
        for stage in model.quantizer.layers:
            stage.codebook.embed.copy_(_like(latents[0].T, stage.codebook.codebook_size, 0.7))
            latents = latents - stage.decode(stage.encode(latents))

    def margins(self, model: nn.Module, audio: Tensor, codes: list[Tensor]) -> list[Tensor]:
        return _euclidean_margins(model.quantizer.layers, self.latents(model, audio), codes)


class Mimi(Codec):
    registration = mimi

    def results(self, encoded: Any) -> list[Tensor]:
        return list(encoded.audio_codes.unbind(1))

    def decode(self, model: nn.Module, encoded: Any) -> Tensor:
        return model.decode(encoded.audio_codes).audio_values

    def latents(self, model: nn.Module, audio: Tensor) -> Tensor:
        encoded = model.encoder(audio)
        if not isinstance(encoded, Tensor):
            return encoded.latents
        hidden = model.encoder_transformer(encoded.transpose(1, 2)).last_hidden_state  # before 5.24
        return model.downsample(hidden.transpose(1, 2))

    def synthesise(self, model: nn.Module, latents: Tensor) -> Tensor:
        if hasattr(model.decoder, "decoder_seanet"):
            return model.decoder(latents).audio_values
        hidden = model.decoder_transformer(model.upsample(latents).transpose(1, 2)).last_hidden_state
        return model.decoder(hidden.transpose(1, 2))

    def _quantizers(self, model: nn.Module) -> list[Any]:
        return [model.quantizer.semantic_residual_vector_quantizer, model.quantizer.acoustic_residual_vector_quantizer]

    def initialise(self, model: nn.Module) -> None:
        _reset_convolutions(model)  # its own give audio far beyond 1
        _amplify(model, "conv.weight")
        for module in model.modules():
            if type(module).__name__ == "MimiLayerScale":
                nn.init.constant_(module.scale, 0.3)

    def fit(self, model: nn.Module, latents: Tensor) -> None:
        for quantizer in self._quantizers(model):
            residual = quantizer.input_proj(latents)
            for stage in quantizer.layers:
                codebook = stage.codebook
                codebook.embed_sum.copy_(_like(residual[0].T, codebook.codebook_size, 1.0))
                residual = residual - stage.decode(stage.encode(residual))

    def margins(self, model: nn.Module, audio: Tensor, codes: list[Tensor]) -> list[Tensor]:
        latents, margins = self.latents(model, audio), []
        for quantizer in self._quantizers(model):
            some = codes[len(margins) : len(margins) + len(quantizer.layers)]
            margins += _euclidean_margins(quantizer.layers, quantizer.input_proj(latents), some)
        return margins
