"""From audio file to a file of the codes of another library's codec, and back.

What goes through the model at once is bounded; audio and codes of a file are in memory as a whole.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from silk_fast.audio import AudioReader, AudioWriter
from silk_fast.codecs.files import Codes, pack, unpack, write_codes
from silk_fast.codecs.long import cuts_of, decode_long, encode_long
from silk_fast.codecs.pretrained import codec_module
from silk_fast.errors import SilkFormatError, SilkModelError
from silk_fast.files import Source
from silk_fast.runtime.codec import padded
from silk_fast.runtime.transcode import Progress, Transcoded, no_progress


@dataclass(frozen=True)
class CodecTranscoder:
    """A codec of another library at work on files.

    Args:
        name: one of ``silk_fast.codecs.NAMES``.
        weights: where ``model`` was loaded from.
        model: in evaluation mode on the device where it is to run, accelerated or not.
        weights_sha256: of ``model``, before it was accelerated.
        options: of ``encode_long``.
        notice: called with a line of text about a source, such as a mix-down.

    Raises:
        SilkInputError: an option that the codec has not, or a model that has no exact cut.
    """

    name: str
    weights: str
    model: nn.Module
    weights_sha256: str
    options: dict[str, Any] = field(default_factory=dict)
    notice: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        cuts_of(self.model, **self.options)

    @property
    def library(self) -> str:
        """The library and its version, such as ``"transformers 5.23.0"``."""
        distribution = codec_module(self.name).LIBRARY.distribution
        return f"{distribution} {metadata.version(distribution)}"

    def encode(self, source: Source, target: str | os.PathLike, progress: Progress = no_progress) -> Transcoded:
        """Encode an audio file into a file of codes, which appears only when complete.

        Args:
            source: path, ``"-"`` for standard input, or a binary file object; any rate and channel count.
            target: path, or ``"-"`` for standard output.
            progress: called with the seconds done and in all.

        Raises:
            SilkAudioError: the source is missing, damaged, empty, or holds samples that are not finite.
            SilkFileError: the target cannot be written.
        """
        cuts = cuts_of(self.model, **self.options)
        with AudioReader(source, cuts.sample_rate, notice=self.notice, channels=cuts.n_channels) as reader:
            blocks = np.concatenate(list(reader))
        n_samples = len(blocks)
        audio = torch.from_numpy(blocks).view(n_samples, cuts.n_channels).T[None]
        encoded = encode_long(self.model, padded(self.name, audio, cuts.hop), **self.options)
        tensors, last_chunk_frames = pack(self.name, cuts, encoded)
        codes = Codes(
            codec=self.name,
            library=self.library,
            sample_rate=cuts.sample_rate,
            n_channels=cuts.n_channels,
            n_samples=n_samples,
            options=self.options,
            weights=self.weights,
            weights_sha256=self.weights_sha256,
            last_chunk_frames=last_chunk_frames,
            tensors=tensors,
        )
        write_codes(target, codes)
        progress(n_samples / cuts.sample_rate, n_samples / cuts.sample_rate)
        return Transcoded(n_samples, len(codes.frames), codes.n_tokens, cuts.sample_rate)

    def decode(
        self,
        codes: Codes,
        target: str | os.PathLike,
        progress: Progress = no_progress,
        *,
        suffix: str | None = None,
        subtype: str | None = None,
        force_model: bool = False,
    ) -> Transcoded:
        """Decode codes into an audio file, as long as the original, which appears only when complete.

        Args:
            codes: as ``silk_fast.codecs.files.read_codes`` gives them.
            target: path, or ``"-"`` for standard output.
            progress: called with the seconds done and in all.
            suffix, subtype: as of :meth:`silk_fast.runtime.transcode.Transcoder.decode`.
            force_model: decode codes that other weights have made.

        Raises:
            SilkFormatError: the codes are not those of this model, or too few.
            SilkModelError: they were made by another codec or other weights.
            SilkAudioError, SilkFileError: the target cannot be written.
        """
        self._check_origin(codes, force_model)
        cuts = cuts_of(self.model)
        audio = decode_long(self.model, unpack(cuts, codes, self.model))[0].float()
        n_short = codes.n_samples - audio.shape[-1]
        if n_short >= cuts.hop:
            raise SilkFormatError(f"n_samples is {codes.n_samples}, but its frames hold {audio.shape[-1]}")
        samples = F.pad(audio, (0, n_short)).T.numpy()  # where a decoder gives less than whole frames, with zeros
        rate, channels = cuts.sample_rate, cuts.n_channels
        with AudioWriter(target, rate, subtype, codes.n_samples, suffix, channels) as writer:
            writer.write(samples if channels > 1 else samples[:, 0])
        progress(codes.n_samples / rate, codes.n_samples / rate)
        return Transcoded(codes.n_samples, len(codes.frames), codes.n_tokens, rate, writer.n_clipped)

    def _check_origin(self, codes: Codes, force_model: bool) -> None:
        """Raise SilkModelError unless the codes are of this codec and, if not forced, of these weights."""
        if codes.codec != self.name:
            raise SilkModelError(f"codes of {codes.codec}, expected those of {self.name}")
        if codes.weights_sha256 != self.weights_sha256 and not force_model:
            raise SilkModelError(
                f"made by weights {codes.weights_sha256}, but those of {self.weights} are "
                f"{self.weights_sha256}; choose others with --weights, or decode anyway with --force-model"
            )
