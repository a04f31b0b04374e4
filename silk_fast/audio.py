"""Audio files in and out: read, write and resample block by block, in memory that does not grow with duration.

libsndfile (package ``soundfile``) decodes and encodes, soxr (HQ) resamples; both are imported when first used.
Samples are mono float32 in the nominal range [-1, 1]. A path of ``"-"`` is standard input or output.

What libsndfile passes over in silence is checked here and raised as :class:`SilkAudioError`: files cut short,
joined files of which it would decode only the first, samples that are not finite, and (as
:class:`SilkFileError`) writes that fail.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import atomic_file, cannot_write, input_name, open_seekable, output_name

# fmt: off
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".rf64", ".w64")
"""Suffixes, in lower case, of the files that are taken for audio when a folder is read."""

FORMATS = {  # suffix: (libsndfile's format, its subtypes, the default first)
    ".wav":  ("WAV",  ("PCM_16", "PCM_24", "PCM_32", "FLOAT")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
    ".ogg":  ("OGG",  ("VORBIS",)),
    ".opus": ("OGG",  ("OPUS",)),
    ".mp3":  ("MP3",  ("MPEG_LAYER_III",)),
}
"""What can be written."""
# fmt: on

_PCM_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_WAV_BYTES = 2**32 - 2**16  # sample data of a WAV file; its sizes are 32-bit
_STREAMED = (0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)  # sizes written into pipes (sox, ffmpeg, ...)
_MP3_SLACK = 2304  # samples, two MPEG frames: encoders disagree on whether the header frame counts
_SLICE = 65_536  # samples per call: libsndfile's Vorbis encoder overflows the stack on one of millions


def resampled_length(n_samples: int, source_rate: int, target_rate: int) -> int:
    """Samples after resampling: ``n_samples * target_rate / source_rate``, halves up, at least 1 of 1 or more."""
    return max(min(n_samples, 1), (2 * n_samples * target_rate + source_rate) // (2 * source_rate))


def resample_blocks(blocks: Iterable[np.ndarray], source_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Resample a signal that comes in blocks, as if it were one.

    Args:
        blocks: float32 ``[n]`` each, any n.
        source_rate, target_rate: Hz.

    Yields:
        float32 ``[m]``, any m; together :func:`resampled_length` samples, the same for every division into blocks.
    """
    if source_rate == target_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality="HQ")
    n_in = n_out = 0
    for block in blocks:
        out = stream.resample_chunk(block)
        n_in, n_out = n_in + len(block), n_out + len(out)
        yield out
    n_left = resampled_length(n_in, source_rate, target_rate) - n_out
    tail = stream.resample_chunk(np.zeros(0, np.float32), last=True)[:n_left]
    yield np.pad(tail, (0, n_left - len(tail)))


def load(source: str | os.PathLike, sample_rate: int = 24_000, notice: Callable[[str], None] | None = None):
    """Read a whole file as mono float32 ``[n]``, n >= 1, at ``sample_rate``. See :class:`AudioReader`."""
    with AudioReader(source, sample_rate, notice=notice) as reader:
        return np.concatenate(list(reader))


def save(target: str | os.PathLike, samples: np.ndarray, sample_rate: int = 24_000, subtype: str | None = None) -> int:
    """Write float32 ``[n]`` to a file; returns how many samples were clipped. See :class:`AudioWriter`."""
    with AudioWriter(target, sample_rate, subtype, expected_samples=len(samples)) as writer:
        writer.write(samples)
    return writer.n_clipped


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
    ):
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
            raw = self._file.raw  # unbuffered, so that its position is the one libsndfile sees
            _check_container(raw, self.name)
            self._states_length = _mp3_states_length(raw)
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

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.blocks()

    def close(self) -> None:
        """Close the file; more than once is allowed."""
        self._sound.close()
        self._file.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples, float32 ``[block_samples]`` each, the last block 1 to ``block_samples``; readable once.

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
            _check_finite(frames, n_read, self.source_rate, self.name)
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
        raw = self._file.raw
        n_bytes = os.fstat(raw.fileno()).st_size - raw.tell()
        if is_mp3 and n_bytes > 8192 and _is_mpeg_sync(raw.read(2)):
            raise SilkAudioError(
                f"{self.name}: {n_bytes} bytes of MP3 follow the {n_read / self.source_rate:.3f} s that its header lets"
                " expect (joined files, or a variable bit rate without a header); convert it to .flac or .wav first"
            )


class AudioWriter:
    """Write a mono audio file block by block; it appears under its name only when complete. A context manager.

    Integer formats are rounded to the nearest step; an int16 sample read as float comes back as itself.

    Args:
        target: path with a suffix in :data:`FORMATS`, or ``"-"`` for WAV on standard output.
        sample_rate: Hz.
        subtype: one that :data:`FORMATS` lists for the suffix; None for the first.
        expected_samples: the number to come, if known: a WAV file beyond 4 GiB must be RF64 from the start.

    Attributes:
        n_samples: written so far.
        n_clipped: those of them that were beyond [-1, 1] and became its nearer end; always 0 for FLOAT.

    Raises:
        SilkAudioError: the suffix, subtype or sample rate cannot be written, or a sample is not finite.
        SilkFileError: the target cannot be written or the disk is full. The target is then as it was before.
    """

    def __init__(
        self,
        target: str | os.PathLike,
        sample_rate: int = 24_000,
        subtype: str | None = None,
        expected_samples: int | None = None,
    ):
        self.name = output_name(target)
        suffix = ".wav" if target == "-" else os.path.splitext(self.name)[1].lower()
        if suffix not in FORMATS:
            raise SilkAudioError(f"{self.name}: cannot write '{suffix}', expected one of {' '.join(FORMATS)}")
        self.format, subtypes = FORMATS[suffix]
        self.subtype = (subtype or subtypes[0]).upper()
        if self.subtype not in subtypes:
            raise SilkAudioError(f"{self.name}: cannot write {self.subtype}, expected one of {' '.join(subtypes)}")
        self._n_most = _WAV_BYTES // (_PCM_BITS.get(self.subtype, 32) // 8)
        if self.format == "WAV" and (expected_samples or 0) > self._n_most:
            self.format = "RF64"
        self.target, self.sample_rate = target, sample_rate
        self.n_samples = self.n_clipped = 0

    def __enter__(self):
        self._session = self._open()
        return self._session.__enter__()

    def __exit__(self, *exc_info):
        return self._session.__exit__(*exc_info)

    @contextmanager
    def _open(self):
        import soundfile

        with atomic_file(self.target) as file:
            self._sink = _Sink(file.raw)
            try:
                sound = soundfile.SoundFile(self._sink, "w", self.sample_rate, 1, self.subtype, format=self.format)
            except soundfile.LibsndfileError as error:
                what = f"{self.format} {self.subtype} at {self.sample_rate} Hz"
                raise SilkAudioError(f"{self.name}: cannot write {what} ({error.error_string})") from error
            sound.seekable = lambda: False  # spares two seeks per write
            with sound as self._sound:
                yield self
            self._check_written()

    def write(self, samples: np.ndarray) -> None:
        """Append float ``[n]``, n >= 0."""
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise SilkInputError(f"samples must be [n], got {list(samples.shape)}")
        _check_finite(samples[:, None], self.n_samples, self.sample_rate, self.name)
        if self.format == "WAV" and self.n_samples + len(samples) > self._n_most:
            raise SilkAudioError(f"{self.name}: longer than a WAV file can be (4 GiB), expected .flac or fewer samples")
        for start in range(0, len(samples), _SLICE):
            self._sound.write(self._quantise(samples[start : start + _SLICE]))
        self.n_samples += len(samples)
        self._check_written()

    def _quantise(self, samples: np.ndarray) -> np.ndarray:
        """Clipped float32, or int32 with the value in the upper bits, which libsndfile stores unchanged."""
        if self.subtype == "FLOAT":
            return samples
        self.n_clipped += int(np.count_nonzero(np.abs(samples) > 1))
        if self.subtype not in _PCM_BITS:
            return samples.clip(-1, 1)
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

    def __init__(self, raw: io.FileIO):
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


def _check_finite(frames: np.ndarray, n_before: int, sample_rate: int, name: str) -> None:
    """Raise at the first NaN or infinity in ``[n, channels]`` frames that follow ``n_before`` others."""
    if not np.isfinite(frames).all():
        i_frame, i_channel = np.argwhere(~np.isfinite(frames))[0].tolist()
        i_bad, value = n_before + i_frame, frames[i_frame, i_channel]
        raise SilkAudioError(f"{name}: sample {i_bad} ({i_bad / sample_rate:.6f} s) is {value}, expected a finite one")


def _check_container(raw: io.FileIO, name: str) -> None:
    """Raise if the file is empty, is shorter than its header says, or is several Ogg files joined."""
    n_bytes = raw.seek(0, os.SEEK_END)
    if not n_bytes:
        raise SilkAudioError(f"{name}: is empty (0 bytes), expected audio")
    raw.seek(0)
    end = _ogg_end(raw, name) if raw.read(4) == b"OggS" else _pcm_end(raw)
    if end > n_bytes:
        raise SilkAudioError(f"{name}: cut short, {n_bytes} bytes where its header announces {end}")


def _pcm_end(raw: io.FileIO) -> int:
    """Offset in bytes where a WAV, RF64, W64, AIFF or AU header says that the samples end; 0 if it does not say."""
    raw.seek(0)
    head = raw.read(24)
    order = "big" if head[:4] in (b"FORM", b"RIFX", b".snd") else "little"

    number = partial(int.from_bytes, byteorder=order)
    start = size = size_64 = 0
    if head[:4] == b".snd":
        start, size = number(head[4:8]), number(head[8:12])
    elif head[:4] == b"riff":
        size = number(head[16:24])  # of the whole file
    elif head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        raw.seek(12)
        while len(chunk := raw.read(8)) == 8:
            start, size = raw.tell(), number(chunk[4:])
            if chunk[:4] in (b"data", b"SSND"):
                break
            if chunk[:4] == b"ds64":
                size_64 = number(raw.read(16)[8:])
            raw.seek(start + size + size % 2)
            size = 0
        size = size_64 if size_64 and size == 0xFFFFFFFF else size
    is_streamed = size == 0 or size >= 2**63 or any(abs(size - n) <= 64 for n in _STREAMED)
    return 0 if is_streamed else start + size


def _ogg_end(raw: io.FileIO, name: str) -> int:
    """Offset in bytes where the last page of an Ogg file says that it ends."""
    raw.seek(0)
    is_data, end = False, 0
    while len(page := raw.read(27)) == 27 and page[:4] == b"OggS":
        is_first = bool(page[5] & 2)
        if is_first and is_data:
            raise SilkAudioError(f"{name}: several Ogg files joined, expected one; convert it to .flac or .wav first")
        is_data = is_data or not is_first
        end = raw.seek(sum(raw.read(page[26])), os.SEEK_CUR)
    return end


def _mp3_states_length(raw: io.FileIO) -> bool:
    """Whether the first MPEG frame after an ID3 tag is a header with the length; without one it is an estimate."""
    raw.seek(0)
    head = raw.read(10)
    raw.seek(10 + sum((head[6 + i] & 127) << (21 - 7 * i) for i in range(4)) if head[:3] == b"ID3" else 0)
    first = raw.read(64)
    return _is_mpeg_sync(first) and (b"Xing" in first or b"Info" in first)


def _is_mpeg_sync(data: bytes) -> bool:
    return len(data) >= 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
