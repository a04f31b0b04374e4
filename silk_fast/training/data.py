"""Training data: recordings found in folders, random crops that depend on nothing but seed and index, batches by step.

A crop is a function of (seed, index), and the batch of a step holds fixed indices, so a run that is resumed needs only
its step number, and the number of worker processes changes nothing. Samples are mono float32 at one sample rate.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from silk_fast.audio import SUFFIXES, AudioReader, resample_blocks, resampled_length
from silk_fast.corpus.manifest import MANIFEST, read_manifest
from silk_fast.errors import SilkAudioError, SilkInputError

RATE = 24_000  # Hz, in which Clip counts
Notice = Callable[[str], None] | None

_MARGIN = 1024  # samples at the target rate before and after an excerpt, longer than the resampler's filter
_MOST_FAILURES = 100  # in a row, until something else than single files must be at fault


@dataclass(frozen=True)
class Clip:
    """A recording.

    ``n_samples`` is its duration at 24 kHz as its header or manifest states it; ``labels`` is its line of the manifest
    (voice, language, split, text, ... see :mod:`silk_fast.corpus.clips`), empty where there is none.
    """

    path: str
    n_samples: int
    labels: dict = field(default_factory=dict, compare=False)


# ---------------------------------------------------------------- finding


def find_clips(
    paths: str | os.PathLike | Iterable[str | os.PathLike], *, split: str | None = None, notice: Notice = None
) -> list[Clip]:
    """The recordings in files and folders, in a fixed order.

    Folders are searched to any depth for the suffixes in :data:`silk_fast.audio.SUFFIXES`. One that holds a
    ``manifest.jsonl`` is taken for a corpus: the recordings that the manifest lists, and no others.

    Args:
        paths: a file or folder, or several.
        split: takes these clips of a corpus, None all; files outside a corpus belong to every split.
        notice: called with one line of text for each file that cannot be used; such files are left out.

    Raises:
        SilkInputError: nothing usable was found, or a manifest is damaged.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    clips: list[Clip] = []
    splits: set[str] = set()
    for path in map(os.fspath, paths):
        for source in _sources(path):
            if os.path.basename(source) == MANIFEST:
                rows = read_manifest(source)
                splits |= {row["split"] for row in rows}
                clips += _listed_clips(os.path.dirname(source), rows, split, notice)
            elif clip := _measured_clip(source, notice):
                clips.append(clip)
    if not clips:
        where = ", ".join(map(os.fspath, paths)) or "no path"
        which = f" of split {split!r} (there are: {', '.join(sorted(splits))})" if splits and split else ""
        raise SilkInputError(f"{where}: no usable audio{which}, expected {'/'.join(SUFFIXES)} files or a {MANIFEST}")
    return clips


def _sources(path: str) -> Iterator[str]:
    """``path`` if it is no folder, else the manifests and audio files below it; nothing else of a manifest's folder."""
    if not os.path.isdir(path):
        yield path
        return
    for directory, folders, names in os.walk(path):
        folders.sort()
        if MANIFEST in names:
            folders.clear()
            yield os.path.join(directory, MANIFEST)
        else:
            yield from (os.path.join(directory, name) for name in sorted(names) if name.lower().endswith(SUFFIXES))


def _listed_clips(folder: str, rows: list[dict], split: str | None, notice: Notice) -> Iterator[Clip]:
    for row in rows:
        path = os.path.join(folder, row["path"])
        if split not in (None, row["split"]):
            continue
        seconds = row.get("seconds")
        if isinstance(seconds, (int, float)) and seconds > 0 and os.path.isfile(path):
            yield Clip(path, round(seconds * RATE), row)
        elif clip := _measured_clip(path, notice):
            yield Clip(path, clip.n_samples, row)


def _measured_clip(path: str, notice: Notice) -> Clip | None:
    """A clip with the duration in its header or, where that has none, of its samples; None, reported, if unusable."""
    try:
        with AudioReader(path, RATE) as reader:
            return Clip(path, reader.n_samples_estimate or sum(map(len, reader)))
    except SilkAudioError as error:
        _report(notice, f"left out: {error}")
        return None


def _report(notice: Notice, text: str) -> None:
    if notice:
        notice(text)


# ---------------------------------------------------------------- reading


def read_excerpt(path: str, start: int, n_samples: int, sample_rate: int = RATE) -> np.ndarray:
    """Samples ``start`` to ``start + n_samples`` of a recording, mono float32 ``[n_samples]`` at ``sample_rate``.

    Equal, but for the resampler's rounding, to that part of the whole file; only the part is decoded. MP3, where
    libsndfile's seeks are not exact, is decoded from its beginning. Where the file ends before the excerpt does (a
    header may promise a little too much), the excerpt is the file's last ``n_samples``.

    Raises:
        SilkAudioError: the file cannot be read, is shorter than ``n_samples``, or holds samples that are not finite.
    """
    with AudioReader(path, sample_rate, block_samples=max(n_samples, sample_rate)) as reader:
        if reader.description.startswith("MP3") or reader.n_samples_estimate is None:
            return _excerpt_in_passing(reader, start, n_samples)
    return _excerpt_by_seeking(path, start, n_samples, sample_rate)


def _excerpt_in_passing(reader: AudioReader, start: int, n_samples: int) -> np.ndarray:
    held, n_read = np.zeros(0, np.float32), 0
    for block in reader:
        held = np.concatenate([held[-n_samples:], block])
        n_read += len(block)
        if n_read >= start + n_samples:
            break
    _check_length(reader.name, n_read, n_samples)
    end = len(held) - max(0, n_read - start - n_samples)
    return held[end - n_samples : end]


def _excerpt_by_seeking(path: str, start: int, n_samples: int, sample_rate: int) -> np.ndarray:
    import soundfile

    try:
        with soundfile.SoundFile(path) as sound:
            n_whole = resampled_length(sound.frames, sound.samplerate, sample_rate)
            _check_length(path, n_whole, n_samples)
            start = min(start, n_whole - n_samples)
            common = gcd(sound.samplerate, sample_rate)
            step_in, step_out = sound.samplerate // common, sample_rate // common
            # Begun at a whole number of steps, the resampler meets the file's samples in the same phase.
            n_steps = max(0, start - _MARGIN) // step_out
            n_frames = -(-(start + n_samples + _MARGIN - n_steps * step_out) // step_out) * step_in
            sound.seek(n_steps * step_in)
            frames = sound.read(n_frames, dtype="float32", always_2d=True)
            n_wanted = min(n_frames, sound.frames - n_steps * step_in)
    except (soundfile.LibsndfileError, OSError) as error:
        raise SilkAudioError(f"{path}: damaged or vanished, expected a readable audio file ({error})") from error
    if len(frames) < n_wanted:
        raise SilkAudioError(f"{path}: cut short, {len(frames)} samples where {n_wanted} were expected")
    if not np.isfinite(frames).all():
        raise SilkAudioError(f"{path}: holds samples that are not finite, expected finite ones")
    mono = frames.mean(axis=1, dtype=np.float32)
    resampled = np.concatenate(list(resample_blocks([mono], step_in, step_out)))
    first = start - n_steps * step_out
    return resampled[first : first + n_samples]


def _check_length(name: str, n_there: int, n_wanted: int) -> None:
    if n_there < n_wanted:
        raise SilkAudioError(f"{name}: holds {n_there} samples, expected at least {n_wanted}")


def whole_clips(
    clips: Sequence[Clip], n: int, seconds_limit: float, sample_rate: int = RATE, notice: Notice = None
) -> Iterator[torch.Tensor]:
    """Whole utterances, float32 ``[1, T]`` each, T >= 1: ``n`` clips spread evenly over ``clips``, or all if fewer.

    Args:
        clips: as found.
        n: how many, >= 1.
        seconds_limit: longer clips end there, so that memory is bounded.
        sample_rate: Hz.
        notice: called with one line of text for each file that cannot be read; such files are left out.

    Raises:
        SilkInputError: n or seconds_limit is impossible, or there are no clips.
        SilkAudioError: no file could be read.
    """
    n_most = int(seconds_limit * sample_rate)
    if n < 1 or n_most < 1 or not clips:
        raise SilkInputError(f"expected n >= 1, seconds_limit > 0 and clips, got {n}, {seconds_limit} and {len(clips)}")
    n = min(n, len(clips))
    return _read_whole([clips[i * len(clips) // n] for i in range(n)], n_most, sample_rate, notice)


def _read_whole(clips: list[Clip], n_most: int, sample_rate: int, notice: Notice) -> Iterator[torch.Tensor]:
    n_failed = 0
    for clip in clips:
        try:
            with AudioReader(clip.path, sample_rate, block_samples=n_most) as reader:
                samples = next(iter(reader))
        except SilkAudioError as error:
            n_failed += 1
            _report(notice, f"left out: {error}")
            continue
        yield torch.from_numpy(samples)[None]
    if n_failed == len(clips):
        raise SilkAudioError(
            f"none of {n_failed} files could be read, expected at least one; the first: {clips[0].path}"
        )


# ---------------------------------------------------------------- crops and batches


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording: ``samples`` float32 ``[n]``, and ``features`` of them, if there are any."""

    samples: np.ndarray
    features: np.ndarray | None = None


class CropDataset(Dataset):
    """Random crops of recordings; item ``index``, any whole number >= 0, is a function of (seed, index) alone.

    A file is drawn with a probability proportional to its duration, a position in it uniformly. A file that cannot be
    read is reported once (by each worker process), and another is drawn, by the same seed.

    Args:
        clips: as :func:`find_clips` gives them.
        crop_samples: length of a crop at ``sample_rate``.
        pieces: recordings that a crop is joined of, in equal parts.
        sample_rate: Hz; files are resampled as they are read.
        seed: decides the crops, with the index.
        gain_db: range of a random gain of each piece, less where the peak would reach 1; None leaves levels alone.
        notice: called with one line of text about clips that are too short and files that fail.
        alignment: pieces begin at multiples of so many samples of their recordings.

    Attributes:
        clips: those of the clips that are long enough.
        seconds: their total duration.
        piece_samples: length of a piece.

    Raises:
        SilkInputError: an argument is impossible, or no clip is as long as a piece.
        SilkAudioError: on reading an item, 100 files in a row failed.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        crop_samples: int,
        sample_rate: int = RATE,
        seed: int = 0,
        gain_db: tuple[float, float] | None = (-6.0, 6.0),
        notice: Notice = None,
        pieces: int = 1,
        alignment: int = 1,
    ):
        if crop_samples < 1 or sample_rate < 1 or seed < 0:
            raise SilkInputError(
                f"crop_samples and sample_rate must be >= 1 and seed >= 0, got {crop_samples}, {sample_rate} and {seed}"
            )
        if gain_db is not None and not -np.inf < gain_db[0] <= gain_db[1] < np.inf:
            raise SilkInputError(f"gain_db must be a finite range (lowest, highest), got {gain_db}")
        if pieces < 1 or crop_samples % (pieces * alignment):
            multiples = f" into multiples of {alignment}" if alignment > 1 else ""
            raise SilkInputError(f"pieces must divide a crop of {crop_samples} samples{multiples}, got {pieces}")
        if not clips:
            raise SilkInputError("clips are empty, expected at least one recording")
        lengths = np.array([resampled_length(clip.n_samples, RATE, sample_rate) for clip in clips], np.int64)
        piece_samples = crop_samples // pieces
        is_long = lengths >= piece_samples
        piece = f"{'crop' if pieces == 1 else 'piece'} of {piece_samples / sample_rate:.3f} s"
        if not is_long.any():
            raise SilkInputError(
                f"no clip is as long as a {piece} ({piece_samples} samples); "
                f"the longest of {len(clips)} has {lengths.max() / sample_rate:.3f} s"
            )
        for clip, length in zip(clips, lengths, strict=True):
            if length < piece_samples:
                _report(notice, f"left out: {clip.path}: {length / sample_rate:.3f} s, shorter than a {piece}")
        self.clips = [clip for clip, long in zip(clips, is_long, strict=True) if long]
        self.seconds = float(lengths[is_long].sum() / sample_rate)
        self.crop_samples, self.sample_rate, self.seed = crop_samples, sample_rate, seed
        self.gain_db, self.notice = gain_db, notice
        self.pieces, self.piece_samples, self._alignment = pieces, piece_samples, alignment
        self._lengths, self._ends = lengths[is_long], lengths[is_long].cumsum()
        self._reported: set[str] = set()

    def __getitem__(self, index: int) -> torch.Tensor:
        """Crop ``index``: float32 ``[1, crop_samples]``."""
        return self.joined(self.excerpts(index))

    def excerpts(self, index: int) -> Iterator[Excerpt]:
        """The pieces of crop ``index``."""
        random = np.random.default_rng([self.seed, index])
        return (self._draw(random) for _ in range(self.pieces))

    @staticmethod
    def joined(excerpts: Iterable[Excerpt]) -> torch.Tensor:
        """The samples of a crop's pieces, float32 ``[1, crop_samples]``."""
        return torch.from_numpy(np.concatenate([excerpt.samples for excerpt in excerpts]))[None]

    def read(self, path: str, start: int) -> Excerpt:
        """A piece of a recording, from sample ``start`` on, as it was recorded."""
        return Excerpt(read_excerpt(path, start, self.piece_samples, self.sample_rate))

    def _draw(self, random: np.random.Generator) -> Excerpt:
        for _ in range(_MOST_FAILURES):
            i_clip = int(np.searchsorted(self._ends, random.integers(self._ends[-1]), side="right"))
            path = self.clips[i_clip].path
            n_starts = (self._lengths[i_clip] - self.piece_samples) // self._alignment + 1
            start = int(random.integers(n_starts)) * self._alignment
            try:
                excerpt = self.read(path, start)
            except SilkAudioError as error:
                last_error = error
                if path not in self._reported:
                    self._reported.add(path)
                    _report(self.notice, f"not used: {error}")
                continue
            if self.gain_db is not None:
                gain = 10 ** (random.uniform(*self.gain_db) / 20)
                largest = 0.99 / max(np.abs(excerpt.samples).max(), 1e-9)
                excerpt = Excerpt(excerpt.samples * np.float32(min(gain, largest)))
            return excerpt
        raise SilkAudioError(
            f"{_MOST_FAILURES} files in a row could not be read, expected the clips to be there; the last: {last_error}"
        )


class StepSampler(Sampler[int]):
    """Indices for steps ``first_step`` to ``last_step``, both included: ``batch_size`` for each, ``rank``'s own.

    Item b of the batch of step s on rank r of W is ``(s * W + r) * batch_size + b``: no index is used twice, and a
    step's indices depend on no other step.

    Raises:
        SilkInputError: a number is out of its range.
    """

    def __init__(self, batch_size: int, first_step: int, last_step: int, rank: int = 0, world_size: int = 1):
        if batch_size < 1 or first_step < 0:
            raise SilkInputError(
                f"batch_size must be >= 1 and first_step >= 0, got batch_size {batch_size} and first_step {first_step}"
            )
        if not 0 <= rank < world_size:
            raise SilkInputError(f"rank must be in 0..world_size - 1, got rank {rank} of {world_size}")
        self.batch_size, self.steps = batch_size, range(first_step, last_step + 1)
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[int]:
        for step in self.steps:
            first = (step * self.world_size + self.rank) * self.batch_size
            yield from range(first, first + self.batch_size)

    def __len__(self) -> int:
        return len(self.steps) * self.batch_size


def make_loader(
    dataset: CropDataset,
    batch_size: int,
    first_step: int,
    last_step: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> DataLoader:
    """Batches ``[batch_size, 1, crop_samples]`` for steps ``first_step`` to ``last_step``, both included, in order.

    The same batches for every number of workers and every ``first_step``; PyTorch's global random state is untouched.

    Raises:
        SilkInputError: a number is out of its range.
    """
    if workers < 0:
        raise SilkInputError(f"workers must be >= 0, got {workers}")
    sampler = StepSampler(batch_size, first_step, last_step, rank, world_size)
    # The loader draws a number when iterated; from the global state, that would make a resumed run differ.
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=_use_one_thread,
        generator=torch.Generator(),
    )


def batches(loader: DataLoader) -> Iterator:
    """What ``loader`` gives; an error of one of its processes comes without that process's traceback.

    Raises:
        SilkAudioError: a crop could not be read.
    """
    try:
        yield from loader
    except SilkAudioError as error:
        last_line = str(error).strip().splitlines()[-1]
        raise SilkAudioError(last_line.removeprefix(f"{SilkAudioError.__module__}.SilkAudioError: ")) from None


def _use_one_thread(worker: int) -> None:
    torch.set_num_threads(1)
