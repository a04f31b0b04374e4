"""Encoding and decoding a signal as it arrives; equal to the whole signal at once by construction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from silk_fast.errors import SilkInputError
from silk_fast.reference.conformer import ConformerState
from silk_fast.reference.decoder import DecoderState
from silk_fast.reference.encoder import EncoderState
from silk_fast.reference.network import SilkNetwork
from silk_fast.reference.state import State


def check_audio(audio: Tensor, batch_size: int | None = None) -> None:
    """Raise SilkInputError unless ``audio`` is finite floating-point ``[B, 1, T]``; ``batch_size`` None allows any."""
    expected = "B" if batch_size is None else str(batch_size)
    if not isinstance(audio, Tensor) or not audio.is_floating_point():
        raise SilkInputError(f"audio must be a floating-point tensor, got {getattr(audio, 'dtype', type(audio))}")
    if audio.ndim != 3 or audio.shape[1] != 1 or batch_size not in (None, audio.shape[0]):
        raise SilkInputError(f"audio must be [{expected}, 1, T], got shape {tuple(audio.shape)}")
    if audio.numel() and not torch.isfinite(torch.stack(torch.aminmax(audio))).all():  # isfinite copies its input
        raise SilkInputError("audio must be finite, got NaN or infinite samples")


@dataclass
class StreamState(State):
    """All that a stream remembers. ``pending`` ``[B, 1, frame]`` holds ``n_pending`` samples not yet encoded;
    ``n_skip`` decoded samples are still to be dropped (the decoder's output delay)."""

    pending: Tensor
    n_pending: int
    n_skip: int
    encoder: EncoderState
    conformer: ConformerState
    decoder: DecoderState


class Stream:
    """A batch of signals in lockstep. Made by :meth:`SilkCodec.streaming`; a context manager.

    Encoding and decoding are independent of each other. ``stream.state`` may be cloned, or stored
    with ``state.tensors()`` and restored with ``state.load()``.

    Args:
        codec: the model; its weights must not change while the stream lives.
        batch_size: B.
    """

    def __init__(self, codec: SilkNetwork, batch_size: int) -> None:
        self.codec = codec
        self.batch_size = batch_size
        self.state = StreamState(
            pending=codec.quantizer.norm.mean.new_zeros(batch_size, 1, codec.config.frame_samples),
            n_pending=0,
            n_skip=codec.config.output_delay,
            encoder=codec.encoder.initial_state(batch_size),
            conformer=codec.conformer.initial_state(batch_size),
            decoder=codec.decoder.initial_state(batch_size),
        )

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.state = None  # type: ignore[assignment]  # frees the buffers; a stream that was left is of no more use

    @torch.no_grad()
    def encode(self, chunk: Tensor) -> Tensor:
        """Compute the tokens int32 ``[B, F, G]`` of the frames that ``chunk`` float ``[B, 1, n]`` completes; n, F >= 0.

        Raises:
            SilkInputError: wrong shape or dtype, or samples that are not finite; the state is unchanged.
        """
        check_audio(chunk, self.batch_size)
        return self.encode_checked(chunk)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """End the signal: compute the tokens int32 ``[B, F, G]`` that its last samples, zero-padded, still need."""
        config, n_pending = self.codec.config, self.state.n_pending
        n_padding = config.n_frames(n_pending) * config.frame_samples - n_pending
        return self.encode_checked(self.state.pending.new_zeros(self.batch_size, 1, n_padding))

    @torch.no_grad()
    def encode_checked(self, chunk: Tensor) -> Tensor:
        """Do what :meth:`encode` does with samples that :func:`check_audio` has seen already."""
        state, frame = self.state, self.codec.config.frame_samples
        chunk = chunk.to(state.pending)
        n_total = state.n_pending + chunk.shape[-1]
        n_left = n_total % frame
        if n_total < frame:
            state.pending[..., state.n_pending : n_total] = chunk
            ready = chunk[..., :0]
        else:
            ready = torch.cat([state.pending[..., : state.n_pending], chunk], dim=-1)[..., : n_total - n_left]
            state.pending[..., :n_left] = chunk[..., chunk.shape[-1] - n_left :]
        state.n_pending = n_left
        return self.codec.encode_frames(ready, state.encoder, state.conformer)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Compute the audio float32 ``[B, 1, 9600 F]`` of tokens ``[B, F, G]``.

        Of the first samples in the life of the stream ``output_delay`` are dropped.

        Raises:
            SilkInputError: wrong shape or dtype, or a token out of range; the state is unchanged.
        """
        if tokens.shape[0] != self.batch_size:
            raise SilkInputError(f"tokens must have batch size {self.batch_size}, got shape {tuple(tokens.shape)}")
        audio = self.codec.decode_frames(tokens.to(self.state.pending.device), self.state.decoder)
        n_dropped = min(self.state.n_skip, audio.shape[-1])
        self.state.n_skip -= n_dropped
        return audio[..., n_dropped:]
