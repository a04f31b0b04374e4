"""The network of the codec: encoder, Conformer, quantizer and decoder, over whole frames of 9600 samples."""

import torch
from torch import Tensor, nn

from silk_fast.config import SilkConfig
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

    def latents(self, audio: Tensor, n_frames: Tensor | None = None) -> Tensor:
        """Compute latent frames ``[B, F, 128]`` before standardisation, of audio ``[B, 1, 9600 F]``; differentiable.

        Args:
            n_frames: int ``[B]``, frames of each signal, for attention that looks ahead.
        """
        return self.conformer(self.encoder(audio), n_frames)

    def forward(self, audio: Tensor) -> Tensor:
        """Encode, quantise and decode ``[B, 1, 9600 F]``, differentiably; the same shape, ``output_delay`` late."""
        return self.decoder(self.quantizer(self.latents(audio)))

    def encode_frames(self, audio: Tensor, encoder: EncoderState, conformer: ConformerState) -> Tensor:
        """Compute tokens int32 ``[B, F, 19]`` of whole frames ``[B, 1, 9600 F]``, after what the states have seen."""
        if audio.shape[-1] == 0:
            return torch.zeros(audio.shape[0], 0, self.config.tokens_per_frame, dtype=torch.int32, device=audio.device)
        latents = self.conformer(self.encoder(audio, encoder), state=conformer)
        return self.quantizer.encode(latents)

    def decode_frames(self, tokens: Tensor, decoder: DecoderState) -> Tensor:
        """Compute audio ``[B, 1, 9600 F]`` of tokens ``[B, F, 19]``, after what the state has seen."""
        codes = self.quantizer.decode(tokens)
        if tokens.shape[1] == 0:
            return codes.new_zeros(tokens.shape[0], 1, 0)
        return self.decoder(codes.to(self.decoder.head.weight.dtype), decoder)
