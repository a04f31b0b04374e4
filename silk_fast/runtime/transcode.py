"""From audio file to ``.silk`` file and back, in memory that does not grow with duration."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from silk_fast.audio import AudioReader, AudioWriter
from silk_fast.container import SilkHeader, SilkReader, SilkWriter
from silk_fast.errors import SilkFormatError, SilkModelError
from silk_fast.files import Source, atomic_file, cannot_read, input_name, open_seekable
from silk_fast.notices import warnings_to
from silk_fast.reference.codec import SilkCodec

Progress = Callable[[float, float | None], None]  # seconds done so far, seconds in all if known


def no_progress(n_done: float, n_total: float | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Transcoded:
    """What one file became.

    Args:
        n_samples: of the signal, at ``sample_rate``, the codec's.
        n_frames: latent frames.
        n_tokens: tokens.
        n_clipped: samples of a decoded file that were beyond [-1, 1].
        n_lost: frames of a damaged file that were replaced by silence or are missing at its end.
    """

    n_samples: int
    n_frames: int
    n_tokens: int
    sample_rate: int
    n_clipped: int = 0
    n_lost: int = 0


@contextmanager
def open_silk(source: Source, *, recover: bool = False) -> Iterator[SilkReader]:
    """Open a ``.silk`` file for reading: a path, ``"-"`` for standard input, or a binary file object.

    Raises:
        SilkAudioError: the file cannot be opened.
        SilkFormatError: the file is damaged.
        SilkInputError: neither a path nor a binary file object.
    """
    name = input_name(source)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open_seekable(source))
        except OSError as error:
            raise cannot_read(name, error, ".silk") from error
        try:
            yield SilkReader(file, recover=recover)
        except SilkFormatError as error:
            raise SilkFormatError(f"{name}: {error}") from error


@dataclass(frozen=True)
class Transcoder:
    """A codec at work on files.

    Args:
        codec: on the device where it is to run.
        weights_sha256: ``codec.weights_sha256``, computed once for many files.
        notice: called with a line of text about a source, such as a mix-down, and about each piece of damage.
    """

    codec: SilkCodec
    weights_sha256: str
    notice: Callable[[str], None] | None = None

    @property
    def header(self) -> SilkHeader:
        """Header of the ``.silk`` files that the codec makes, sample count unknown."""
        config = self.codec.config
        return SilkHeader(
            dims=config.latent_dim,
            levels=config.levels,
            group_size=config.group_size,
            sample_rate=config.sample_rate,
            frame_samples=config.frame_samples,
            output_delay=config.output_delay,
            weights_sha256=self.weights_sha256,
        )

    def encode(self, source: Source, target: str | os.PathLike, progress: Progress = no_progress) -> Transcoded:
        """Encode an audio file into a ``.silk`` file, which appears only when complete.

        Args:
            source: path, ``"-"`` for standard input, or a binary file object; any rate and channel count.
            target: path, or ``"-"`` for standard output.
            progress: called with the seconds done and, where known, those in all.

        Raises:
            SilkAudioError: the source is missing, damaged, empty, or holds samples that are not finite.
            SilkFileError: the target cannot be written.
        """
        codec, config = self.codec, self.codec.config
        device, rate = codec.device, config.sample_rate
        block_samples = codec.chunk_frames() * config.frame_samples
        name, notice = input_name(source), self.notice
        if notice:
            codec.forget_warnings()  # so that every file has its own
        with (
            warnings_to(lambda text: notice(f"{name}: {text}")) if notice else nullcontext(),
            AudioReader(source, rate, block_samples, self.notice) as reader,
            atomic_file(target) as file,
            codec.streaming() as stream,
        ):
            writer, n_samples = SilkWriter(file, self.header), 0
            for block in reader:
                writer.write(stream.encode(torch.from_numpy(block)[None, None].to(device))[0].cpu().numpy())
                n_samples += len(block)
                progress(n_samples / rate, reader.n_samples_estimate and reader.n_samples_estimate / rate)
            writer.write(stream.finish()[0].cpu().numpy())
            writer.close(n_samples)
        return Transcoded(n_samples, writer.n_frames, writer.n_frames * config.tokens_per_frame, rate)

    def decode(
        self,
        source: Source,
        target: str | os.PathLike,
        progress: Progress = no_progress,
        *,
        suffix: str | None = None,
        subtype: str | None = None,
        recover: bool = False,
        force_model: bool = False,
    ) -> Transcoded:
        """Decode a ``.silk`` file into an audio file, which appears only when complete.

        Args:
            source: path, ``"-"`` for standard input, or a binary file object.
            target: path, or ``"-"`` for standard output.
            progress: called with the seconds done and those in all.
            suffix: of the format, such as ``".flac"``; None for that of the target, or ``".wav"`` where a stream has
                none.
            subtype: ``"PCM_16"``, ``"PCM_24"``, ``"PCM_32"`` or ``"FLOAT"``; None for the format's own default.
            recover: decode the intact blocks of a damaged file; silence fills the gaps between them.
            force_model: decode tokens that other weights have made.

        Raises:
            SilkFormatError: the source is damaged, or its frames are not those of this codec.
            SilkModelError: the tokens were made by other weights.
            SilkAudioError, SilkFileError: the source cannot be opened, or the target not written.
        """
        codec, rate = self.codec, self.codec.config.sample_rate
        with open_silk(source, recover=recover) as reader:
            self._check_origin(reader.header, force_model)
            with AudioWriter(target, rate, subtype, reader.n_samples, suffix) as writer:
                for audio in _decoded_blocks(codec, reader):
                    writer.write(audio[: reader.n_samples - writer.n_samples])
                    progress(writer.n_samples / rate, reader.n_samples / rate)
                if writer.n_samples == 0:
                    raise SilkFormatError("no intact block to decode")
            for damage in reader.damage:
                if self.notice:
                    lost = f"lost {damage.n_frames} frames from frame {damage.first_frame}"
                    self.notice(f"{input_name(source)}: {lost}: {damage.reason}")
            n_lost = sum(damage.n_frames for damage in reader.damage)
        n_tokens = (reader.n_frames - n_lost) * codec.config.tokens_per_frame
        return Transcoded(writer.n_samples, reader.n_frames, n_tokens, rate, writer.n_clipped, n_lost)

    def _check_origin(self, header: SilkHeader, force_model: bool) -> None:
        """Raise unless the tokens are those of a codec with these sizes and, if not forced, these weights."""
        expected = self.header
        for name in ("sample_rate", "frame_samples", "output_delay", "dims", "levels", "group_size"):
            found, needed = getattr(header, name), getattr(expected, name)
            if found != needed:
                raise SilkFormatError(f"not a file for this model: {name} is {found}, the model's is {needed}")
        if header.weights_sha256 != self.weights_sha256 and not force_model:
            raise SilkModelError(
                f"made by a model with weights {header.weights_sha256[:12]}, but this model's are "
                f"{self.weights_sha256[:12]}; choose it with --model, or decode anyway with --force-model"
            )


def _decoded_blocks(codec: SilkCodec, reader: SilkReader) -> Iterator[np.ndarray]:
    """Decode every block to float32 ``[n]``; silence for lost ones, but nothing for those lost at the end.

    Silence is owed until the next intact block shows that it is a gap, so a damaged header cannot
    make the output longer than the blocks that were found. After a gap the decoder starts anew.
    """
    config, stream = codec.config, codec.streaming()
    device = codec.device
    n_chunk = codec.chunk_frames() * config.frame_samples
    n_owed = 0
    for block in reader.blocks():
        if block.tokens is None:
            n_owed = block.n_frames * config.frame_samples - (config.output_delay if block.first_frame == 0 else 0)
            continue
        if n_owed:
            stream = codec.streaming()
            stream.state.n_skip = 0  # the delay was dropped before the gap, or from its silence
            yield from (np.zeros(min(n_chunk, n_owed - i), np.float32) for i in range(0, n_owed, n_chunk))
            n_owed = 0
        for tokens in torch.from_numpy(block.tokens)[None].to(device).split(codec.chunk_frames(), dim=1):
            yield stream.decode(tokens)[0, 0].cpu().numpy()
