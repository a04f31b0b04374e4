"""The Silk codec as its users call it: whole signals, streams, weights."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError
from silk_fast.reference import pretrained, weight_norm
from silk_fast.reference.initialisation import initialise_
from silk_fast.reference.network import SilkNetwork
from silk_fast.reference.streaming import Stream, check_audio

CPU_CHUNK_FRAMES = 4  # 1.6 s, whose activations fit the cache
CPU_ENCODE_FRAMES = 16  # of all signals together, for the encoder, whose activations are larger
GPU_CHUNK_FRAMES = 64


@dataclass(frozen=True)
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


class SilkCodec(SilkNetwork):
    """The whole codec: 24 kHz speech to 47.5 tokens a second and back.

    Args:
        config: the sizes; None for the small preset.
        weight_norm: parametrise the convolutions of encoder and decoder by direction and
            magnitude, as in training; :meth:`fold_weight_norm_` removes it for inference.
        seed: of the initial weights; None draws them from PyTorch's global generator.
    """

    def __init__(self, config: SilkConfig | None = None, *, weight_norm: bool = True, seed: int | None = None) -> None:
        super().__init__(config or SilkConfig())
        initialise_(self, seed)
        if weight_norm:
            self.apply_weight_norm_()

    # ------------------------------------------------------------ whole signals

    @torch.no_grad()
    def encode(self, audio: Tensor, lengths: Tensor | None = None, *, chunk_frames: int | None = None) -> EncodedAudio:
        """Turn audio into tokens, in memory that does not grow with duration.

        Args:
            audio: float ``[B, 1, T]``, 24 kHz, nominal range [-1, 1]; T >= 1.
            lengths: int ``[B]``, samples of each signal, 1 .. T; None for T. What follows a signal is ignored.
            chunk_frames: frames computed at once; changes memory and speed, not the tokens. None suits the device.

        Returns:
            tokens int32 ``[B, F, 19]`` with ``F = ceil((T + output_delay) / 9600)``, and the lengths.

        Raises:
            SilkInputError: wrong shape, dtype or lengths, or samples that are not finite.
        """
        check_audio(audio)
        batch_size, _, n_samples = audio.shape
        if batch_size == 0 or n_samples == 0:
            raise SilkInputError(f"audio must hold at least 1 sample, got shape {tuple(audio.shape)}")
        lengths = self._check_lengths(lengths, batch_size, n_samples)
        device_lengths = lengths.to(audio.device, non_blocking=True)[:, None, None]
        ragged = bool((lengths < n_samples).any())
        n_chunk = (chunk_frames or self.chunk_frames(batch_size)) * self.config.frame_samples
        pieces = []
        with self.streaming(batch_size) as stream:
            for start in range(0, n_samples, n_chunk):
                chunk = audio[..., start : start + n_chunk]
                if ragged:
                    position = torch.arange(start, start + chunk.shape[-1], device=audio.device)
                    chunk = chunk.masked_fill(position >= device_lengths, 0.0)
                pieces.append(stream.encode_checked(chunk))
            pieces.append(stream.finish())
        n_frames = torch.tensor([self.config.n_frames(n) for n in lengths.tolist()])
        tokens = torch.cat(pieces, dim=1)
        if ragged:
            i_frame = torch.arange(tokens.shape[1], device=tokens.device)[:, None]
            tokens = tokens.masked_fill(i_frame >= n_frames.to(tokens.device)[:, None, None], 0)
        return EncodedAudio(tokens, lengths, n_frames)

    @torch.no_grad()
    def decode(self, tokens: Tensor, lengths: Tensor | None = None, *, chunk_frames: int | None = None) -> Tensor:
        """Turn tokens back into audio.

        Args:
            tokens: int32 ``[B, F, 19]``, F >= 1.
            lengths: int ``[B]``, samples of each signal; None for all that the frames hold.
            chunk_frames: frames computed at once; None suits the device.

        Returns:
            float32 ``[B, 1, max(lengths)]``; zeros past each signal's end.

        Raises:
            SilkInputError: wrong shape or dtype, a token out of range, or a length that needs other frames.
        """
        if tokens.ndim != 3 or tokens.shape[0] == 0 or tokens.shape[1] == 0:
            raise SilkInputError(f"tokens must be [B, F, G] with at least one frame, got {tuple(tokens.shape)}")
        n_available = tokens.shape[1] * self.config.frame_samples - self.config.output_delay
        lengths = self._check_lengths(lengths, tokens.shape[0], n_available)
        n_samples, done = int(lengths.max()), 0
        audio = torch.empty(tokens.shape[0], 1, n_samples, dtype=torch.float32, device=self.decoder.head.weight.device)
        with self.streaming(tokens.shape[0]) as stream:
            for chunk in tokens.split(chunk_frames or self.chunk_frames(), dim=1):
                decoded = stream.decode(chunk)[..., : n_samples - done]
                audio[..., done : done + decoded.shape[-1]] = decoded
                done += decoded.shape[-1]
        for signal, length in zip(audio, lengths.tolist(), strict=True):
            signal[:, length:] = 0.0
        return audio

    def chunk_frames(self, batch_size: int = 1) -> int:
        """Say how many frames of ``batch_size`` signals are best encoded at once on the device of the weights."""
        if self.decoder.head.weight.device.type != "cpu":
            return GPU_CHUNK_FRAMES
        return max(1, min(CPU_CHUNK_FRAMES, CPU_ENCODE_FRAMES // batch_size))

    def streaming(self, batch_size: int = 1) -> Stream:
        """Open a :class:`Stream` over ``batch_size`` signals: encode chunks of any length, decode frame by frame."""
        return Stream(self, batch_size)

    def _check_lengths(self, lengths: Tensor | None, batch_size: int, n_samples: int) -> Tensor:
        if lengths is None:
            return torch.full((batch_size,), n_samples, dtype=torch.int64)
        lengths = torch.as_tensor(lengths).cpu()
        if lengths.shape != (batch_size,) or lengths.is_floating_point():
            raise SilkInputError(f"lengths must be integers [{batch_size}], got {lengths.dtype} {tuple(lengths.shape)}")
        if lengths.min() < 1 or lengths.max() > n_samples:
            raise SilkInputError(f"lengths must be in 1 .. {n_samples}, got {lengths.tolist()}")
        return lengths.to(torch.int64)

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
            SilkModelError: no such model, unreadable weights, or weights that do not fit the configuration.
            SilkConfigError: an impossible configuration.
        """
        directory = pretrained.find_model(name)
        codec = cls(pretrained.read_config(directory), weight_norm=False)
        pretrained.load_weights_(codec, directory)
        codec = codec.to(device).eval()
        return codec.apply_weight_norm_() if weight_norm else codec
