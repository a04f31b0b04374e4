"""Writing audio files block by block; none is left unfinished, and no write that fails is missed."""

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from silk_fast.arguments import sample_rate as checked_rate
from silk_fast.arguments import shown, whole_number
from silk_fast.audio.formats import FORMATS, MOST_CHANNELS, as_samples, check_finite
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import atomic_file, cannot_write, is_stream, output_name

_PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_WAV_BYTES = 2**32 - 2**16  # sample data of a WAV file; its sizes are 32-bit
_SLICE = 65_536  # samples per call: libsndfile's Vorbis encoder overflows the stack on one of millions


def save(target: str | os.PathLike, samples: np.ndarray, sample_rate: int = 24_000, subtype: str | None = None) -> int:
    """Write ``[n]`` samples to a file; returns how many were clipped.

    Args:
        target: path, or ``"-"`` for standard output.
        samples: floating point in [-1, 1], or int16, int32 or uint8 as in WAV files, which are scaled.
        sample_rate, subtype: as :class:`AudioWriter` has them, and what it raises.
    """
    with AudioWriter(target, sample_rate, subtype, expected_samples=len(as_samples(samples))) as writer:
        writer.write(samples)
    return writer.n_clipped


class AudioWriter:
    """Write an audio file block by block; it appears under its name only when complete. A context manager.

    Integer formats are rounded to the nearest step; an int16 sample read as float comes back as itself.

    Args:
        target: path, or ``"-"`` for standard output.
        sample_rate: Hz.
        subtype: one that :data:`FORMATS` lists for the suffix; None for the first.
        expected_samples: the number to come, if known: a WAV file beyond 4 GiB must be RF64 from the start.
        suffix: one of :data:`FORMATS`, which decides the format; None for that of the target, and ``".wav"`` for
            standard output, a pipe or a device without one.
        channels: of the file.

    Attributes:
        n_samples: written so far, of each channel.
        n_clipped: those, of all channels, that were beyond [-1, 1] and became its nearer end; always 0 for FLOAT.

    Raises:
        SilkAudioError: the suffix, subtype or sample rate cannot be written, or a sample is not finite.
        SilkFileError: the target cannot be written or the disk is full. The target is then as it was before.
        SilkInputError: samples of another shape or dtype, or an argument that is none.
    """

    def __init__(
        self,
        target: str | os.PathLike,
        sample_rate: int = 24_000,
        subtype: str | None = None,
        expected_samples: int | None = None,
        suffix: str | None = None,
        channels: int = 1,
    ) -> None:
        self.name = output_name(target)
        if suffix is None:
            suffix = "" if target == "-" else os.path.splitext(self.name)[1].lower()
            suffix = ".wav" if not suffix and is_stream(target) else suffix
        if not isinstance(suffix, str) or suffix not in FORMATS:
            what = (
                f"cannot write {shown(suffix)}" if suffix != "" else "a name without a suffix does not say the format"
            )
            raise SilkAudioError(f"{self.name}: {what}, expected one of {' '.join(FORMATS)}")
        self.format, subtypes = FORMATS[suffix]
        self.subtype = subtype.upper() if isinstance(subtype, str) else subtypes[0]
        if self.subtype not in subtypes or not isinstance(subtype, str | None):
            raise SilkAudioError(f"{self.name}: cannot write {shown(subtype)}, expected one of {' '.join(subtypes)}")
        self.sample_rate = checked_rate("sample_rate", sample_rate)
        self.channels = whole_number("channels", channels, 1, MOST_CHANNELS)
        if expected_samples is not None:
            expected_samples = whole_number("expected_samples", expected_samples, 0)
        self._n_most = _WAV_BYTES // (_PCM_BITS.get(self.subtype, 32) // 8 * self.channels)
        if self.format == "WAV" and (expected_samples or 0) > self._n_most:
            self.format = "RF64"
        self.target = target
        self.n_samples = self.n_clipped = 0
        self._sound: Any = None  # while it is open
        self._session: AbstractContextManager[AudioWriter] | None = None  # since it was first opened

    def __enter__(self) -> "AudioWriter":
        if self._session is not None:
            raise SilkInputError(f"{self.name}: the writer has been used, expected a new one for another file")
        self._session = self._open()
        return self._session.__enter__()

    def __exit__(self, *exception: Any) -> bool | None:
        if self._session is None or self._sound is None:
            raise SilkInputError(f"{self.name}: the writer is not open, expected a with block around it")
        return self._session.__exit__(*exception)

    @contextmanager
    def _open(self) -> Iterator["AudioWriter"]:
        import soundfile

        with atomic_file(self.target) as file:
            self._sink = _Sink(file.raw)
            try:
                sound = soundfile.SoundFile(
                    self._sink, "w", self.sample_rate, self.channels, self.subtype, format=self.format
                )
            except soundfile.LibsndfileError as error:
                raise self._cannot_write_at(self.sample_rate, error.error_string) from error
            sound.seekable = lambda: False  # spares two seeks per write
            try:
                with sound as self._sound:
                    yield self
            finally:
                self._sound = None
            self._check_written()

    def _cannot_write_at(self, sample_rate: int, reason: str) -> SilkAudioError:
        what = f"{self.format} {self.subtype} at {sample_rate} Hz"
        return SilkAudioError(f"{self.name}: cannot write {what} ({reason})")

    def write(self, samples: np.ndarray) -> None:
        """Append ``[n]``, or ``[n, channels]`` of more than one, n >= 0.

        Args:
            samples: floating point in [-1, 1], or int16, int32 or uint8, which are scaled.

        Raises:
            SilkInputError: another shape or dtype, or the writer is not open; nothing is written.
            SilkAudioError: a sample is not finite; nothing is written.
        """
        samples = as_samples(samples, self.channels)
        if self._sound is None:
            raise SilkInputError(f"{self.name}: the writer is not open, expected a call within its with block")
        check_finite(samples.reshape(-1, self.channels), self.n_samples, self.sample_rate, self.name)
        if self.format == "WAV" and self.n_samples + len(samples) > self._n_most:
            raise SilkAudioError(f"{self.name}: longer than a WAV file can be (4 GiB), expected .flac or fewer samples")
        for start in range(0, len(samples), _SLICE):
            self._sound.write(self._quantise(samples[start : start + _SLICE]))
        self.n_samples += len(samples)
        self._check_written()

    def _quantise(self, samples: np.ndarray) -> np.ndarray:
        """Clip, or round to int32 with the value in the upper bits, which libsndfile keeps."""
        if self.subtype == "FLOAT":
            return samples.astype(np.float32)
        self.n_clipped += int(np.count_nonzero(np.abs(samples) > 1))
        if self.subtype not in _PCM_BITS:
            return samples.astype(np.float32).clip(-1, 1)
        scale = 2 ** (_PCM_BITS[self.subtype] - 1)
        steps = np.rint(samples.astype(np.float64) * scale).clip(-scale, scale - 1)
        return steps.astype(np.int32) * np.int32(2**31 // scale)

    def _check_written(self) -> None:
        if isinstance(self._sink.error, OSError):
            raise cannot_write(self.name, self._sink.error)
        if self._sink.error:
            raise self._sink.error


class _Sink:
    """The raw file that libsndfile writes to through callbacks; keeps the first error for whoever asks.

    An exception in a callback would be printed and lost, and a short write is not noticed by every encoder, so a write
    that fails is kept, here, and reported to libsndfile as done.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._write, self.seek, self.tell, self.readinto = raw.write, raw.seek, raw.tell, raw.readinto
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        try:
            while rest and self.error is None:
                rest = rest[self._write(rest) :]
        except BaseException as error:
            self.error = error
        return len(data)
