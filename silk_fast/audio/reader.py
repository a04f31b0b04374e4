"""Reading audio files block by block, as mono at one sample rate; damage is raised, never passed over."""

import io
import os
from collections.abc import Callable, Iterator

import numpy as np

from silk_fast.audio.ends import check_container, is_mpeg_sync, mp3_states_length
from silk_fast.audio.formats import check_finite
from silk_fast.audio.resampling import resample_blocks, resampled_length
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import input_name, open_seekable

_MP3_SLACK = 2304  # samples, two MPEG frames: encoders disagree on whether the header frame counts


def load(
    source: str | os.PathLike, sample_rate: int = 24_000, notice: Callable[[str], None] | None = None
) -> np.ndarray:
    """Read a whole file as mono float32 ``[n]``, n >= 1, at ``sample_rate``. See :class:`AudioReader`."""
    with AudioReader(source, sample_rate, notice=notice) as reader:
        return np.concatenate(list(reader))


class AudioReader:
    """Read an audio file once, front to back, as mono blocks at one sample rate. A context manager.

    Channels are averaged; integer formats decode to [-1, 1). A source that cannot seek (``"-"``, a pipe) is first
    copied to an unnamed temporary file.

    Args:
        source: path, or ``"-"`` for standard input.
        sample_rate: Hz of the blocks.
        block_samples: length of every block but the last, at ``sample_rate``.
        notice: called with one line of text when channels are mixed down.

    Attributes:
        source_rate: Hz, of the file.
        source_channels: of the file.
        description: format and subtype in libsndfile's names, such as ``"WAV PCM_16"``.
        n_samples_estimate: what the header lets expect at ``sample_rate``, exact but for MP3; None if unknown.

    Raises:
        SilkAudioError: there is no such file, it cannot be opened, is empty, is not audio, is cut short, or holds no
            samples; while iterating, also that it cannot be decoded or holds samples that are not finite.
    """

    def __init__(
        self,
        source: str | os.PathLike,
        sample_rate: int = 24_000,
        block_samples: int = 240_000,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        import soundfile

        if min(sample_rate, block_samples) < 1:
            raise SilkInputError(f"sample_rate and block_samples must be >= 1, got {sample_rate} and {block_samples}")
        self.name = input_name(source)
        self.sample_rate, self.block_samples = sample_rate, block_samples
        try:
            self._file = open_seekable(source)
        except OSError as error:
            raise SilkAudioError(f"{self.name}: {error.strerror}, expected a readable audio file") from error
        try:
            raw = self._raw
            check_container(raw, self.name)
            self._states_length = mp3_states_length(raw)
            raw.seek(0)
            self._sound = soundfile.SoundFile(raw.fileno(), closefd=False)
            if self._sound.frames == 0:
                raise SilkAudioError(f"{self.name}: its header announces 0 samples, expected at least one")
        except (soundfile.LibsndfileError, SilkAudioError) as error:
            self._file.close()
            if isinstance(error, SilkAudioError):
                raise
            raise SilkAudioError(f"{self.name}: not audio that libsndfile reads ({error.error_string})") from error
        # soundfile would seek after every read; in an MP3 that spoils the samples after the seam.
        self._sound.seekable = lambda: False
        self._blocks = self._read()
        self.source_rate, self.source_channels = self._sound.samplerate, self._sound.channels
        self.description = f"{self._sound.format} {self._sound.subtype}"
        self._n_announced = self._sound.frames if self._sound.frames < 2**62 else None
        n_announced = self._n_announced
        self.n_samples_estimate = n_announced and resampled_length(n_announced, self.source_rate, sample_rate)
        if notice and self.source_channels > 1:
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
        self._sound.close()
        self._file.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """Read the samples, float32 ``[block_samples]`` each, the last block 1 to ``block_samples``; once only.

        Together :func:`resampled_length` of the file's own length, the same samples for every ``block_samples``.
        """
        size, held = self.block_samples, np.zeros(0, np.float32)
        for block in resample_blocks(self._blocks, self.source_rate, self.sample_rate):
            held = np.concatenate([held, block])
            n_whole = len(held) // size * size
            yield from (held[i : i + size] for i in range(0, n_whole, size))
            held = held[n_whole:]
        if len(held):
            yield held

    def _read(self) -> Iterator[np.ndarray]:
        """Decode, check and mix down: float32 ``[n]`` at the source's rate."""
        import soundfile

        n_block, n_read = max(1, self.block_samples * self.source_rate // self.sample_rate), 0
        n_most = 2**62 if self._n_announced is None else self._n_announced
        while True:
            try:
                frames = self._sound.read(min(n_block, n_most - n_read), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                where = f"after {n_read / self.source_rate:.3f} s"
                raise SilkAudioError(f"{self.name}: damaged or cut short {where} ({error.error_string})") from error
            if not len(frames):
                break
            check_finite(frames, n_read, self.source_rate, self.name)
            n_read += len(frames)
            yield frames.mean(axis=1, dtype=np.float32)
        self._check_all_was_read(n_read)

    def _check_all_was_read(self, n_read: int) -> None:
        is_mp3 = self._sound.format == "MP3"
        n_slack = _MP3_SLACK if is_mp3 else 0
        if self._n_announced and n_read + n_slack < self._n_announced and (self._states_length or not is_mp3):
            raise SilkAudioError(
                f"{self.name}: cut short, {n_read} samples per channel where the header announces {self._n_announced}"
            )
        if not n_read:
            raise SilkAudioError(f"{self.name}: holds no samples, expected at least one")
        n_bytes = os.fstat(self._raw.fileno()).st_size - self._raw.tell()
        if is_mp3 and n_bytes > 8192 and is_mpeg_sync(self._raw.read(2)):
            raise SilkAudioError(
                f"{self.name}: {n_bytes} bytes of MP3 follow the {n_read / self.source_rate:.3f} s that its header lets"
                " expect (joined files, or a variable bit rate without a header); convert it to .flac or .wav first"
            )
