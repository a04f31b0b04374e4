"""The Silk codec as its users call it: whole signals, streams, weights."""

import copy
import os
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from silk_fast.arguments import shown, whole_number
from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError
from silk_fast.reference import pretrained, weight_norm
from silk_fast.reference.checks import (
    check_audio,
    check_tokens,
    checked_device,
    checked_lengths,
    is_exporting,
    without_autocast,
)
from silk_fast.reference.initialisation import initialise_
from silk_fast.reference.network import SilkNetwork
from silk_fast.reference.streaming import Stream

CPU_CHUNK_FRAMES = 4  # 1.6 s, whose activations fit the cache
CPU_DECODE_FRAMES = 24  # the weights of the decoder are larger than the cache, and read once a chunk
CPU_ENCODE_FRAMES = 16  # of all signals together, for the encoder, whose activations are larger
GPU_CHUNK_FRAMES = 64


@dataclass(frozen=True, eq=False)
class EncodedAudio:
    """Tokens of a batch. Frames past a sample's own end hold zeros.

    Args:
        tokens: int32 ``[B, F, 19]``.
        lengths: int64 ``[B]`` on the CPU, samples of each signal.
        n_frames: int64 ``[B]`` on the CPU, frames of each signal.
    """

    tokens: Tensor
    lengths: Tensor
    n_frames: Tensor
    _n_samples: int | None = field(default=None, repr=False)  # of each signal, where lengths cannot be looked at


class SilkCodec(SilkNetwork):
    """The whole codec: 24 kHz speech to 47.5 tokens a second and back.

    Args:
        config: the sizes; None for the small preset.
        weight_norm: parametrise the convolutions of encoder and decoder by direction and
            magnitude, as in training; :meth:`fold_weight_norm_` removes it for inference.
        seed: of the initial weights; None draws them from PyTorch's global generator.
    """

    def __init__(self, config: SilkConfig | None = None, *, weight_norm: bool = True, seed: int | None = None) -> None:
        if not isinstance(config, SilkConfig | None):
            raise SilkInputError(f"config must be a SilkConfig, got {shown(config)}")
        _check_flag("weight_norm", weight_norm)
        seed = seed if seed is None else whole_number("seed", seed, -(2**63), 2**64 - 1)
        with torch.inference_mode(False):
            super().__init__(config or SilkConfig())
            initialise_(self, seed)
        if weight_norm:
            self.apply_weight_norm_()

    # ------------------------------------------------------------ whole signals

    @torch.no_grad()
    def encode(self, audio: Tensor, lengths: Any = None, *, chunk_frames: int | None = None) -> EncodedAudio:
        """Turn audio into tokens, in memory that does not grow with duration.

        Training mode changes nothing here: the stored statistics are used, and stay. ``torch.export`` gets the whole
        signal at once, without lengths, and looks at no value.

        Args:
            audio: float ``[B, 1, T]``, 24 kHz, nominal range [-1, 1]; T >= 1.
            lengths: int ``[B]``, samples of each signal, 1 .. T; None for T. What follows a signal is ignored.
            chunk_frames: frames computed at once; changes memory and speed, not the tokens. None suits the device.

        Returns:
            tokens int32 ``[B, F, 19]`` with ``F = ceil((T + output_delay) / 9600)``, and the lengths.

        Raises:
            SilkInputError: wrong shape, dtype, lengths or ``chunk_frames``, or samples that are not finite.
        """
        check_audio(audio)
        batch_size, _, n_samples = audio.shape
        if batch_size == 0 or n_samples == 0:
            raise SilkInputError(f"audio must hold at least 1 sample, got shape {tuple(audio.shape)}")
        if is_exporting():
            return self._encode_whole(audio, lengths)
        n_at_once = _check_chunk_frames(chunk_frames, self.chunk_frames(batch_size))
        lengths = checked_lengths(lengths, batch_size, n_samples)
        device_lengths = lengths.to(audio.device, non_blocking=True)[:, None, None]
        ragged = bool((lengths < n_samples).any())
        self._check_levels(audio, lengths if ragged else None)
        n_chunk = min(n_at_once * self.config.frame_samples, n_samples)
        pieces = []
        with self.streaming(batch_size) as stream:
            for start in range(0, n_samples, n_chunk):
                chunk = audio[..., start : start + n_chunk]
                if ragged:
                    position = torch.arange(start, start + chunk.shape[-1], device=audio.device)
                    chunk = chunk.masked_fill(position >= device_lengths, 0.0)
                pieces.append(stream.encode_checked(chunk))
            pieces.append(stream.finish())
        n_frames = torch.tensor([self.config.n_frames(n) for n in lengths.tolist()], device="cpu")
        tokens = torch.cat(pieces, dim=1)
        if ragged:
            i_frame = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
            tokens = tokens.masked_fill(i_frame >= n_frames.to(tokens.device)[:, None, None], 0)
        return EncodedAudio(tokens, lengths, n_frames)

    @torch.no_grad()
    def decode(self, tokens: Tensor | EncodedAudio, lengths: Any = None, *, chunk_frames: int | None = None) -> Tensor:
        """Turn tokens back into audio.

        ``torch.export`` gets the whole signal at once, without lengths, and looks at no value.

        Args:
            tokens: int32 ``[B, F, 19]``, F >= 1; or what :meth:`encode` returned, with its lengths.
            lengths: int ``[B]``, samples of each signal; None for all that the frames hold.
            chunk_frames: frames computed at once; None suits the device.

        Returns:
            float32 ``[B, 1, max(lengths)]``; zeros past each signal's end.

        Raises:
            SilkInputError: wrong shape or dtype, a token out of range, or a length that needs other frames.
        """
        n_most = None
        if isinstance(tokens, EncodedAudio):
            n_most = tokens._n_samples if is_exporting() and lengths is None else None
            lengths = tokens.lengths if lengths is None and n_most is None else lengths
            tokens = tokens.tokens
        check_tokens(tokens, self.quantizer.token_sizes)
        if tokens.shape[0] == 0 or tokens.shape[1] == 0:
            raise SilkInputError(f"tokens must be [B, F, G] with at least one frame, got {tuple(tokens.shape)}")
        if is_exporting():
            return self._decode_whole(tokens, lengths)[..., :n_most]
        default = CPU_DECODE_FRAMES if self.device.type == "cpu" else GPU_CHUNK_FRAMES
        n_at_once = min(_check_chunk_frames(chunk_frames, default), tokens.shape[1])
        n_available = tokens.shape[1] * self.config.frame_samples - self.config.output_delay
        lengths = checked_lengths(lengths, tokens.shape[0], n_available)
        n_samples, done = int(lengths.max()), 0
        with self.streaming(tokens.shape[0]) as stream:
            audio = torch.empty(tokens.shape[0], 1, n_samples, dtype=torch.float32, device=self.device)
            for chunk in tokens.split(n_at_once, dim=1):
                decoded = stream.decode_checked(chunk)[..., : n_samples - done]
                audio[..., done : done + decoded.shape[-1]] = decoded
                done += decoded.shape[-1]
        for signal, length in zip(audio, lengths.tolist(), strict=True):
            signal[:, length:] = 0.0
        return audio

    def chunk_frames(self, batch_size: int = 1) -> int:
        """Say how many frames of ``batch_size`` signals are best encoded at once on the device of the weights."""
        if self.device.type != "cpu":
            return GPU_CHUNK_FRAMES
        return max(1, min(CPU_CHUNK_FRAMES, CPU_ENCODE_FRAMES // whole_number("batch_size", batch_size, 1)))

    def streaming(self, batch_size: int = 1) -> Stream:
        """Open a :class:`Stream` over ``batch_size`` signals: encode chunks of any length, decode frame by frame."""
        return Stream(self, batch_size)

    def _check_levels(self, audio: Tensor, lengths: Tensor | None) -> None:
        """Check the level of audio, of what follows each signal only where the rest needs it."""
        try:
            self.check_level(audio)
        except SilkInputError:
            if lengths is None:
                raise
            position = torch.arange(audio.shape[-1], device=audio.device)
            self.check_level(audio.masked_fill(position >= lengths.to(audio.device)[:, None, None], 0.0))

    def _encode_whole(self, audio: Tensor, lengths: Any) -> EncodedAudio:
        _refuse_lengths(lengths)
        batch_size, _, n_samples = audio.shape
        frame = self.config.frame_samples
        n_frames = (n_samples + self.config.output_delay + frame - 1) // frame
        with without_autocast(self):
            tokens = self.quantizer.encode(self.latents(F.pad(audio, (0, n_frames * frame - n_samples))))
        counts = torch.full((2, batch_size), n_frames, dtype=torch.int64, device="cpu")
        counts[0] = n_samples
        return EncodedAudio(tokens, counts[0], counts[1], n_samples)

    def _decode_whole(self, tokens: Tensor, lengths: Any) -> Tensor:
        _refuse_lengths(lengths)
        codes = self.quantizer.codes(tokens).to(self.decoder.head.weight.dtype)
        return self.decoder(codes)[..., self.config.output_delay :].float()

    # ------------------------------------------------------------ weights

    def _convolutions(self) -> list[nn.Conv1d]:
        halves = (self.encoder, self.decoder)
        return [module for half in halves for module in half.modules() if isinstance(module, nn.Conv1d)]

    def apply_weight_norm_(self) -> "SilkCodec":
        """Parametrise the convolutions of encoder and decoder by direction and magnitude, for training."""
        weight_norm.apply_weight_norm_(self._convolutions())
        return self

    def fold_weight_norm_(self) -> "SilkCodec":
        """Turn every parametrised weight into a plain one, on the device where it lives."""
        weight_norm.fold_weight_norm_(self._convolutions())
        return self

    def plain_state_dict(self) -> dict[str, Tensor]:
        """Give the state dict as it is after :meth:`fold_weight_norm_`: what checkpoints hold; on the CPU."""
        return weight_norm.plain_state_dict(self)

    @property
    def weights_sha256(self) -> str:
        """SHA-256, in hexadecimal, of the plain weights as float32, independent of how they are stored."""
        return pretrained.weights_sha256(self)

    def save_pretrained(self, directory: str | os.PathLike, dtype: torch.dtype | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` (plain weights) into ``directory``.

        Args:
            directory: made if absent.
            dtype: of the stored weights; None keeps each as it is.

        Raises:
            SilkInputError: ``directory`` is no path, or ``dtype`` no floating-point dtype.
            SilkModelError: a weight is not finite in that dtype; nothing is written.
            SilkFileError: a file cannot be written; none is left unfinished.
        """
        pretrained.save_model(self, self.config, directory, dtype)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, device: str | torch.device = "cpu", weight_norm: bool = False
    ) -> "SilkCodec":
        """Load a codec, ready for inference: plain weights, evaluation mode.

        Args:
            name: a bundled model (``"silk-small-24khz"``), a directory made by
                :meth:`save_pretrained`, or a hub id ``owner/name`` (needs ``huggingface_hub``).
            device: where to put it.
            weight_norm: parametrise the convolutions again, to train on.

        Raises:
            SilkInputError: there is no such device on this machine.
            SilkModelError: no such model, unreadable weights, or weights that do not fit the configuration.
            SilkConfigError: an impossible configuration.
        """
        _check_flag("weight_norm", weight_norm)
        where = checked_device(device)
        directory = pretrained.find_model(name)
        config = pretrained.read_config(directory)
        with pretrained.plain_tensors():
            with torch.device("meta"):
                pretrained.check_weights(SilkNetwork(config), directory)  # before memory is taken for them
            codec = cls(config, weight_norm=False)
            pretrained.load_weights_(codec, directory)
            codec = codec.to(where).eval()
            return codec.apply_weight_norm_() if weight_norm else codec

    # ------------------------------------------------------------ copies

    def __deepcopy__(self, memo: dict[int, Any]) -> "SilkCodec":
        twin = self.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self.__dict__, memo)
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle parametrised weights as a plain codec and what to give its parametrisation: torch refuses them."""
        if not weight_norm.has_weight_norm(self):
            return super().__reduce_ex__(protocol)
        plain = copy.deepcopy(self).fold_weight_norm_()
        requires_grad = {name: parameter.requires_grad for name, parameter in self.named_parameters()}
        return _with_weight_norm, (plain, self.state_dict(), requires_grad)


def _check_chunk_frames(chunk_frames: int | None, default: int) -> int:
    return default if chunk_frames is None else whole_number("chunk_frames", chunk_frames, 1)


def _check_flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise SilkInputError(f"{name} must be True or False, got {shown(value)}")


def _refuse_lengths(lengths: Any) -> None:
    if lengths is not None:
        raise SilkInputError("lengths must be None under torch.export, which cannot look at their values")


def _with_weight_norm(codec: SilkCodec, state: dict[str, Tensor], requires_grad: dict[str, bool]) -> SilkCodec:
    """Undo :meth:`SilkCodec.__reduce_ex__`."""
    codec.apply_weight_norm_().load_state_dict(state)
    for name, parameter in codec.named_parameters():
        parameter.requires_grad_(requires_grad[name])
    return codec
