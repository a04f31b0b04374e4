"""Reading audio files block by block, at one sample rate; damage is raised, never passed over."""

import io
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np

from silk_fast.arguments import sample_rate as checked_rate
from silk_fast.arguments import whole_number
from silk_fast.audio import mpeg
from silk_fast.audio.ends import check_container, check_unknown, other_kind
from silk_fast.audio.formats import MOST_CHANNELS, check_finite
from silk_fast.audio.resampling import check_ratio, resample_blocks, resampled_length
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import Source, cannot_read, input_name, open_seekable

_MOST_VALUES = 2**22  # decoded at once
_MOST_COLUMNS = 6  # that are added up one after the other; NumPy adds more of them in another order
_MP3_SLACK = 2304  # samples, two MPEG frames: encoders disagree on whether the header frame counts


def load(source: Source, sample_rate: int = 24_000, notice: Callable[[str], None] | None = None) -> np.ndarray:
    """Read a whole file as mono float32 ``[n]``, n >= 1, at ``sample_rate`` in Hz. See :class:`AudioReader`."""
    with AudioReader(source, sample_rate, notice=notice) as reader:
        return np.concatenate(list(reader))


def mixed_down(frames: np.ndarray) -> np.ndarray:
    """Average the channels of float32 ``[n, channels]``, to the bit as ``frames.mean(axis=1)`` does."""
    n_channels = frames.shape[1]
    if n_channels > _MOST_COLUMNS:
        return frames.mean(axis=1, dtype=np.float32)
    total = frames[:, 0] + np.float32(0)  # which has no -0.0
    for channel in range(1, n_channels):
        total += frames[:, channel]
    return total / np.float32(n_channels)


class AudioReader:
    """Read an audio file once, front to back, as blocks at one sample rate. A context manager.

    Channels are averaged, unless as many are asked for; integer formats decode to [-1, 1). What is not a file on disk
    (``"-"``, a pipe, bytes in memory) is first copied to an unnamed temporary file. Of joined files, one of a rare
    format may escape notice: see Limits in README.

    Args:
        source: path, ``"-"`` for standard input, or a binary file object, which need not seek, is read from where it
            stands to its end, and stays open.
        sample_rate: Hz of the blocks.
        block_samples: length of every block but the last, at ``sample_rate``.
        notice: called with one line of text when channels are mixed down.
        channels: of the blocks, which are ``[n]`` of one and ``[n, channels]`` of more; a file with another number is
            mixed down to mono, which all of them get.

    Attributes:
        source_rate: Hz, of the file.
        source_channels: of the file.
        description: format and subtype in libsndfile's names, such as ``"WAV PCM_16"``.
        n_samples_estimate: what the header lets expect at ``sample_rate``, exact but for MP3; None if unknown.

    Raises:
        SilkAudioError: there is no such file, it cannot be opened, is empty, is not audio, is cut short, goes on behind
            its end (joined files), holds no samples, or has a rate far from ``sample_rate``; while iterating, also
            that it cannot be decoded or holds samples that are not finite.
        SilkInputError: the source is neither a path nor a binary file object that is open, a number is not an
            integer >= 1, or the rate above 1 000 000 Hz.
    """

    def __init__(
        self,
        source: Source,
        sample_rate: int = 24_000,
        block_samples: int = 240_000,
        notice: Callable[[str], None] | None = None,
        channels: int = 1,
    ) -> None:
        import soundfile

        self.sample_rate = checked_rate("sample_rate", sample_rate)
        self.block_samples = whole_number("block_samples", block_samples, 1)
        self.channels = whole_number("channels", channels, 1, MOST_CHANNELS)
        self.name = input_name(source)
        with ExitStack() as stack:
            try:
                self._file = stack.enter_context(open_seekable(source))
            except OSError as error:
                raise cannot_read(self.name, error) from error
            self._survey = check_container(self._file, self.name)
            self._file.seek(0, os.SEEK_END)  # leaves nothing in the buffer, whose position libsndfile does not share
            self._raw.seek(0)
            try:
                self._sound = stack.enter_context(soundfile.SoundFile(self._raw.fileno(), closefd=False))
            except soundfile.LibsndfileError as error:
                raise SilkAudioError(self._no_audio(error.error_string)) from error
            position = self._raw.tell()
            check_unknown(self._file, self.name)
            self._raw.seek(position)
            if self._sound.frames == 0:
                raise SilkAudioError(f"{self.name}: its header announces 0 samples, expected at least one")
            try:
                check_ratio(self._sound.samplerate, self.sample_rate)
            except SilkInputError as error:
                raise SilkAudioError(f"{self.name}: {error}") from error
            self._stack = stack.pop_all()
        # soundfile would seek after every read; in an MP3 that spoils the samples after the seam.
        self._sound.seekable = lambda: False
        self._blocks = self._read()
        self.source_rate, self.source_channels = self._sound.samplerate, self._sound.channels
        self.description = f"{self._sound.format} {self._sound.subtype}"
        self._n_announced = self._sound.frames if self._sound.frames < 2**62 else None
        n_announced = self._n_announced
        self.n_samples_estimate = n_announced and resampled_length(n_announced, self.source_rate, sample_rate)
        if notice and self.source_channels not in (1, self.channels):
            notice(f"{self.name}: {self.source_channels} channels mixed down to mono")

    @property
    def _raw(self) -> io.FileIO:
        """The file without its buffer, so that its position is the one libsndfile sees."""
        raw = self._file.raw
        assert isinstance(raw, io.FileIO)  # as for every file with a descriptor
        return raw

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.blocks()

    def close(self) -> None:
        """Close the file; more than once is allowed."""
        self._stack.close()

    def _no_audio(self, reason: str) -> str:
        """Say why a file is not audio and, if there is one, the way to make it so."""
        kind = other_kind(self._file)
        if kind is None:
            return f"{self.name}: not audio that libsndfile reads ({reason})"
        path = "-" if self.name == "standard input" else shlex.quote(self.name)
        return (
            f"{self.name}: not audio that libsndfile reads but {kind}, which FFmpeg reads: "
            f"ffmpeg -i {path} -f wav - | silk encode -"
        )

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the samples, float32 ``[block_samples]`` each, the last block 1 to ``block_samples``; once only.

        Of more than one channel they are ``[block_samples, channels]``.

        Together :func:`resampled_length` of the file's own length, the same samples for every ``block_samples``.
        """
        size, held = self.block_samples, np.zeros(0 if self.channels == 1 else (0, self.channels), np.float32)
        for block in resample_blocks(self._blocks, self.source_rate, self.sample_rate, self.channels):
            held = np.concatenate([held, block])
            n_whole = len(held) // size * size
            yield from (held[i : i + size] for i in range(0, n_whole, size))
            held = held[n_whole:]
        if len(held):
            yield held

    def _read(self) -> Iterator[np.ndarray]:
        """Decode, check and mix down: float32 ``[n]`` or ``[n, channels]`` at the source's rate."""
        import soundfile

        n_wanted = self.block_samples * self.source_rate // self.sample_rate
        n_block, n_read = max(1, min(n_wanted, _MOST_VALUES // self.source_channels)), 0
        n_most = 2**62 if self._n_announced is None else self._n_announced
        while True:
            if self._sound.closed:
                raise SilkInputError(f"{self.name}: the reader was closed, expected one that is open")
            try:
                frames = self._sound.read(min(n_block, n_most - n_read), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                where = f"after {n_read / self.source_rate:.3f} s"
                raise SilkAudioError(f"{self.name}: damaged or cut short {where} ({error.error_string})") from error
            if not len(frames):
                break
            check_finite(frames, n_read, self.source_rate, self.name)
            n_read += len(frames)
            if self.channels == 1:
                yield mixed_down(frames)
            elif self.channels == self.source_channels:
                yield frames
            else:
                yield np.repeat(mixed_down(frames)[:, None], self.channels, axis=1)
        self._check_all_was_read(n_read)

    def _check_all_was_read(self, n_read: int) -> None:
        is_mp3, survey = self._sound.format == "MP3", self._survey
        n_slack = _MP3_SLACK if is_mp3 else 0
        states_length = not is_mp3 or (survey is not None and survey.states_length)
        if self._n_announced and n_read + n_slack < self._n_announced and states_length:
            raise SilkAudioError(
                f"{self.name}: cut short, {n_read} samples per channel where the header announces {self._n_announced}"
            )
        if not n_read:
            raise SilkAudioError(f"{self.name}: holds no samples, expected at least one")
        n_found = survey.n_samples if survey and is_mp3 and not states_length else None
        if n_found is not None and n_read + n_slack < n_found:
            offset = mpeg.offset_of_sample(self._file, n_read)
            n_bytes = os.fstat(self._raw.fileno()).st_size - offset
            raise SilkAudioError(
                f"{self.name}: {n_bytes} bytes of MP3 follow the {n_read / self.source_rate:.3f} s that its header lets"
                f" expect, from byte {offset} (joined files, or a variable bit rate without a header); convert it to"
                " .flac or .wav first"
            )
