"""Encoding and decoding a signal as it arrives; equal to the whole signal at once by construction."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from silk_fast.arguments import shown, whole_number
from silk_fast.errors import SilkInputError
from silk_fast.reference.checks import check_audio, check_tokens, checked_rows
from silk_fast.reference.conformer import ConformerState
from silk_fast.reference.decoder import DecoderState
from silk_fast.reference.encoder import EncoderState
from silk_fast.reference.network import SilkNetwork
from silk_fast.reference.state import State, unchanged_on_failure

MAX_BATCH_SIZE = 2**16  # signals, each of which takes about a megabyte


@dataclass
class StreamState(State):
    """All that a stream remembers. ``pending`` ``[B, 1, frame]`` holds ``n_pending`` samples not yet encoded;
    ``n_skip`` decoded samples are still to be dropped (the decoder's output delay); ``is_finished`` is 1 after the
    end of the encoded signal, else 0."""

    pending: Tensor
    n_pending: int
    n_skip: int
    is_finished: int
    encoder: EncoderState
    conformer: ConformerState
    decoder: DecoderState

    def __post_init__(self) -> None:
        self._output_delay = self.n_skip

    def _check_together(self, tensors: dict[str, Tensor]) -> None:
        frame, n_keys = self.pending.shape[-1], [block.attention.keys.shape[2] for block in self.conformer.blocks]
        largest = {"n_pending": frame - 1, "n_skip": self._output_delay, "is_finished": 1}
        largest |= {f"conformer.blocks.{i}.attention.n_valid": n for i, n in enumerate(n_keys)}
        for name, most in largest.items():
            if int(tensors[name].max()) > most:
                raise SilkInputError(f"state {name}: expected at most {most}, got {shown(tensors[name].tolist())}")


class Stream:
    """A batch of signals in lockstep. Made by :meth:`SilkCodec.streaming`; a context manager.

    Encoding and decoding are independent of each other. ``stream.state`` may be cloned, or stored
    with ``state.tensors()`` and restored with ``state.load()``. What is refused leaves the state as it was: the
    other signals of the batch go on with the next call.

    Args:
        codec: the model; its weights must not change while the stream lives.
        batch_size: B.

    Raises:
        SilkInputError: ``batch_size`` is not an integer in ``1 .. 65536``, or the weights are not all on one device
            and in one dtype.
        SilkConfigError: the attention of the codec looks ahead, or back without bound.
    """

    def __init__(self, codec: SilkNetwork, batch_size: int) -> None:
        self.batch_size = whole_number("batch_size", batch_size, 1, MAX_BATCH_SIZE)
        codec.check_ready()
        self.codec = codec
        with torch.inference_mode(False):  # or the state could be used in inference mode only
            self._state: StreamState | None = StreamState(
                pending=codec.quantizer.norm.mean.new_zeros(self.batch_size, 1, codec.config.frame_samples),
                n_pending=0,
                n_skip=codec.config.output_delay,
                is_finished=0,
                encoder=codec.encoder.initial_state(self.batch_size),
                conformer=codec.conformer.initial_state(self.batch_size),
                decoder=codec.decoder.initial_state(self.batch_size),
            )

    @property
    def state(self) -> StreamState:
        """All that the stream remembers.

        Raises:
            SilkInputError: the stream was left with the end of its ``with``, or the codec was moved.
        """
        if self._state is None:
            raise SilkInputError("the stream was closed at the end of its with block; open another: codec.streaming()")
        pending, mean = self._state.pending, self.codec.quantizer.norm.mean
        if pending.device != mean.device or pending.dtype != mean.dtype:
            raise SilkInputError(
                f"the codec has moved to {mean.dtype} on {mean.device} since this stream was opened with "
                f"{pending.dtype} on {pending.device}; open another: codec.streaming()"
            )
        return self._state

    def __enter__(self) -> "Stream":
        _ = self.state  # raises where the stream was closed
        return self

    def __exit__(self, *exception: object) -> None:
        self._state = None  # frees the buffers

    @torch.no_grad()
    def reset(self, rows: Any = None) -> None:
        """Start signals anew, while the others of the batch go on.

        Rows stay in lockstep. If samples are pending, the new signal of a row starts with as many zeros; and of
        what is decoded for it, the first ``output_delay`` samples belong to nothing: they are dropped for all or none.

        Args:
            rows: row numbers in ``0 .. B - 1``, an integer or several; None for all, which makes the stream a new one.

        Raises:
            SilkInputError: not such numbers; the state is unchanged.
        """
        state, numbers = self.state, checked_rows(rows, self.batch_size)
        state.reset_rows(numbers)
        if rows is None:
            state.n_pending, state.n_skip, state.is_finished = 0, self.codec.config.output_delay, 0

    @torch.no_grad()
    def encode(self, chunk: Tensor) -> Tensor:
        """Compute the tokens int32 ``[B, F, G]`` of the frames that ``chunk`` float ``[B, 1, n]`` completes; n, F >= 0.

        Raises:
            SilkInputError: wrong shape or dtype, samples that are not finite or so large that latents are not, or
                the signal has been finished; the state is unchanged.
        """
        state = self.state
        check_audio(chunk, self.batch_size)
        if state.is_finished:
            raise SilkInputError("the signal was ended by finish(); reset() starts another")
        self.codec.check_level(chunk)
        if state.n_pending + chunk.shape[-1] < self.codec.config.frame_samples:
            return self.encode_checked(chunk)
        with unchanged_on_failure(state.encoder, state.conformer):
            return self.encode_checked(chunk)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """End the signal: compute the tokens int32 ``[B, F, G]`` that its last samples, zero-padded, still need.

        A second call gives no more frames; :meth:`reset` starts another signal.
        """
        config, state = self.codec.config, self.state
        n_frames = 0 if state.is_finished else config.n_frames(state.n_pending)
        n_padding = n_frames * config.frame_samples - state.n_pending
        with unchanged_on_failure(state.encoder, state.conformer):
            tokens = self.encode_checked(state.pending.new_zeros(self.batch_size, 1, n_padding))
        state.is_finished = 1
        return tokens

    @torch.no_grad()
    def encode_checked(self, chunk: Tensor) -> Tensor:
        """Do what :meth:`encode` does with samples that were checked already; a failure may leave the state moved on.

        ``pending`` changes last, after all that can fail.
        """
        state, frame = self.state, self.codec.config.frame_samples
        chunk = chunk.to(state.pending)
        n_total = state.n_pending + chunk.shape[-1]
        n_left = n_total % frame
        if n_total < frame:
            tokens = self.codec.encode_frames(chunk[..., :0], state.encoder, state.conformer)
            state.pending[..., state.n_pending : n_total] = chunk
        else:
            ready = torch.cat([state.pending[..., : state.n_pending], chunk], dim=-1)[..., : n_total - n_left]
            tokens = self.codec.encode_frames(ready, state.encoder, state.conformer)
            state.pending[..., :n_left] = chunk[..., chunk.shape[-1] - n_left :]
        state.n_pending = n_left
        return tokens

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Compute the audio float32 ``[B, 1, 9600 F]`` of tokens ``[B, F, G]``.

        Of the first samples in the life of the stream ``output_delay`` are dropped.

        Raises:
            SilkInputError: wrong shape or dtype, or a token out of range; the state is unchanged.
        """
        _ = self.state  # raises where the stream was closed
        check_tokens(tokens, self.codec.quantizer.token_sizes, self.batch_size)
        return self.decode_checked(tokens)

    @torch.no_grad()
    def decode_checked(self, tokens: Tensor) -> Tensor:
        """Do what :meth:`decode` does with tokens that were checked already."""
        state = self.state
        audio = self.codec.decode_frames(tokens.to(state.pending.device), state.decoder)
        n_dropped = min(state.n_skip, audio.shape[-1])
        state.n_skip -= n_dropped
        return audio[..., n_dropped:]
