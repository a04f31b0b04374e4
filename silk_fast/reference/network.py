"""The network of the codec: encoder, Conformer, quantizer and decoder, over whole frames of 9600 samples."""

import torch
from torch import Tensor, nn

from silk_fast.config import SilkConfig
from silk_fast.errors import SilkInputError
from silk_fast.notices import warn
from silk_fast.reference.checks import LOUD, check_audio, check_weights, peak, without_autocast
from silk_fast.reference.conformer import Conformer, ConformerState
from silk_fast.reference.decoder import Decoder, DecoderState
from silk_fast.reference.encoder import Encoder, EncoderState
from silk_fast.reference.quantizer import FiniteScalarQuantizer


class SilkNetwork(nn.Module):
    """Layers from audio to tokens and back.

    Args:
        config: the sizes.
    """

    def __init__(self, config: SilkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.conformer = Conformer(config)
        self.quantizer = FiniteScalarQuantizer([config.levels] * config.latent_dim, config.group_size)
        self.decoder = Decoder(config)
        self._warnings: set[str] = set()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quantizer.norm.mean.device

    def check_ready(self) -> None:
        """Warn, once in the life of the network, that its weights are in half precision.

        Raises:
            SilkInputError: the weights have no values, several devices or several dtypes.
        """
        half = check_weights(self)
        if half is not None:
            self._warn_once(
                "half precision",
                f"the weights are {half}, which changes many tokens; keep them in float32 and call "
                f"accelerate_(codec, dtype={half}), which computes convolutions in it and what feeds FSQ in float32",
            )

    def check_level(self, audio: Tensor) -> None:
        """Warn, once in the life of the network, of samples far beyond [-1, 1].

        Raises:
            SilkInputError: a sample is NaN, infinite or above ``2 ** 31``.
        """
        if (largest := peak(audio)) > LOUD:
            self._warn_once(
                "loud",
                f"audio has samples of magnitude {largest:.5g}, expected samples in [-1, 1]; "
                f"divide 16-bit integers by 32768",
            )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warnings:
            self._warnings.add(kind)
            warn(message)

    def forget_warnings(self) -> None:
        """Let what was warned of once be warned of again."""
        self._warnings.clear()

    def latents(self, audio: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Compute latent frames ``[B, F, 128]`` before standardisation, of audio ``[B, 1, 9600 F]``; differentiable.

        Args:
            n_frames: int ``[B]``, frames of each signal, for attention that looks ahead.
        """
        return self.conformer(self.encoder(audio), n_frames)

    def forward(self, audio: Tensor) -> Tensor:
        """Encode, quantise and decode ``[B, 1, 9600 F]``, differentiably; the same shape, ``output_delay`` late.

        In training mode this moves the statistics of ``quantizer.norm``, with gradients or without, as batch
        normalisation does; ``quantizer.norm.frozen = True`` keeps them.

        Raises:
            SilkInputError: wrong shape or dtype, or not one or more whole frames.
        """
        check_audio(audio)
        frame = self.config.frame_samples
        if audio.numel() == 0 or audio.shape[-1] % frame:
            raise SilkInputError(f"audio must be whole frames of {frame} samples, got shape {tuple(audio.shape)}")
        return self.decoder(self.quantizer(self.latents(audio.to(self.quantizer.norm.mean))))

    def encode_frames(self, audio: Tensor, encoder: EncoderState, conformer: ConformerState) -> Tensor:
        """Compute tokens int32 ``[B, F, 19]`` of whole frames ``[B, 1, 9600 F]``, after what the states have seen.

        Raises:
            SilkInputError: a latent is not finite; the states have moved on.
        """
        if audio.shape[-1] == 0:
            return torch.zeros(audio.shape[0], 0, self.config.tokens_per_frame, dtype=torch.int32, device=audio.device)
        try:
            with without_autocast(self):
                return self.quantizer.encode(self.conformer(self.encoder(audio, encoder), state=conformer))
        except SilkInputError as error:
            levels = ", ".join(f"{level:.3g}" for level in audio.abs().amax((1, 2)).tolist())
            raise SilkInputError(
                f"{error}; the samples have magnitudes up to {levels}, expected audio in [-1, 1] and weights to match"
            ) from error

    def encode_rows(self, audio: Tensor, encoder: EncoderState, conformer: ConformerState) -> tuple[Tensor, Tensor]:
        """Compute what :meth:`encode_frames` does, and whether the latents of each signal are finite, bool ``[B]``.

        No value is looked at, so a GPU is not waited for; where latents are not finite the tokens mean nothing.
        """
        with without_autocast(self):
            return self.quantizer.encode_rows(self.conformer(self.encoder(audio, encoder), state=conformer))

    def decode_frames(self, tokens: Tensor, decoder: DecoderState) -> Tensor:
        """Compute audio ``[B, 1, 9600 F]`` of valid tokens ``[B, F, 19]``, after what the state has seen."""
        codes = self.quantizer.codes(tokens)
        if tokens.shape[1] == 0:
            return codes.new_zeros(tokens.shape[0], 1, 0)
        return self.decoder(codes.to(self.decoder.head.weight.dtype), decoder)
