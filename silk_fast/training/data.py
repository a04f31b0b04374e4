"""Training data: random crops that depend on nothing but seed and index, and batches that depend on the step.

A crop is a function of (seed, index), and the batch of a step holds fixed indices, so a run that is resumed needs only
its step number, and the number of worker processes changes nothing. Samples are mono float32 at one sample rate.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from silk_fast.audio import resampled_length
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.training.pitch import pitch_track
from silk_fast.training.recordings import RATE, Clip, Notice, read_excerpt, report

Item = dict[str, Tensor]
"""A crop: its audio, and what is known of it, by name."""

_MOST_FAILURES = 100  # in a row, until something else than single files must be at fault


@dataclass(frozen=True)
class Excerpt:
    """A part of a recording.

    Args:
        samples: float32 ``[n]``.
        bandwidth: Hz, up to which the recording holds anything.
        features: of the samples, if there are any.
    """

    samples: np.ndarray
    bandwidth: float
    features: np.ndarray | None = None


class CropDataset(Dataset):
    """Random crops of recordings; item ``index``, any whole number >= 0, is a function of (seed, index) alone.

    A file is drawn with a probability proportional to its duration, a position in it uniformly; the pieces of a crop
    are of one bandwidth, as the label ``bandwidth`` of a clip has it, in Hz. A file that cannot be read is reported
    once (by each worker process), and another is drawn, by the same seed.

    Args:
        clips: as :func:`find_clips` gives them.
        crop_samples: length of a crop at ``sample_rate``.
        pieces: recordings that a crop is joined of, in equal parts.
        sample_rate: Hz; files are resampled as they are read.
        seed: decides the crops, with the index.
        gain_db: range of a random gain of each piece, less where the peak would reach 1; None leaves levels alone.
        notice: called with one line of text about clips that are too short and files that fail.
        alignment: pieces begin at multiples of so many samples of their recordings.
        pitch_hop: samples for each of which the pitch is given; 0 for no pitch.

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
        pitch_hop: int = 0,
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
                report(notice, f"left out: {clip.path}: {length / sample_rate:.3f} s, shorter than a {piece}")
        self.clips = [clip for clip, long in zip(clips, is_long, strict=True) if long]
        self.seconds = float(lengths[is_long].sum() / sample_rate)
        self.crop_samples, self.sample_rate, self.seed = crop_samples, sample_rate, seed
        self.gain_db, self.notice = gain_db, notice
        self.pieces, self.piece_samples, self._alignment = pieces, piece_samples, alignment
        self.pitch_hop = pitch_hop
        self._lengths = lengths[is_long]
        full = sample_rate / 2
        self._bandwidths = np.array([min(float(clip.labels.get("bandwidth", full)), full) for clip in self.clips])
        self._all = np.arange(len(self.clips))
        self._reported: set[str] = set()

    def __getitem__(self, index: int) -> Item:
        """Read crop ``index``: ``audio`` float32 ``[1, crop_samples]``.

        Where not all clips reach half the sample rate, also ``bandwidth``, float32 ``[]``, in Hz; with ``pitch_hop``,
        ``pitch``, float32 ``[crop_samples / pitch_hop]``, in Hz and 0 where there is no voice.
        """
        return self.item(list(self.excerpts(index)))

    def item(self, excerpts: Sequence[Excerpt]) -> Item:
        """Join the pieces of a crop."""
        found = {"audio": self.joined(excerpts)}
        if self._bandwidths.min() < self.sample_rate / 2:
            found["bandwidth"] = torch.tensor(excerpts[0].bandwidth, dtype=torch.float32)
        if self.pitch_hop:
            tracks = [pitch_track(excerpt.samples, self.sample_rate, self.pitch_hop) for excerpt in excerpts]
            found["pitch"] = torch.from_numpy(np.concatenate(tracks))
        return found

    def excerpts(self, index: int) -> Iterator[Excerpt]:
        """Read the pieces of crop ``index``."""
        random = np.random.default_rng([self.seed, index])
        first = self._draw(random, self._all)
        yield first
        alike = self._all[self._bandwidths == first.bandwidth]
        yield from (self._draw(random, alike) for _ in range(self.pieces - 1))

    @staticmethod
    def joined(excerpts: Iterable[Excerpt]) -> torch.Tensor:
        """Join the samples of a crop's pieces, float32 ``[1, crop_samples]``."""
        return torch.from_numpy(np.concatenate([excerpt.samples for excerpt in excerpts]))[None]

    def read(self, path: str, start: int, bandwidth: float) -> Excerpt:
        """Read a piece of a recording, from sample ``start`` on, as it was recorded."""
        return Excerpt(read_excerpt(path, start, self.piece_samples, self.sample_rate), bandwidth)

    def _draw(self, random: np.random.Generator, candidates: np.ndarray) -> Excerpt:
        ends = self._lengths[candidates].cumsum()
        for _ in range(_MOST_FAILURES):
            i_clip = int(candidates[np.searchsorted(ends, random.integers(ends[-1]), side="right")])
            path = self.clips[i_clip].path
            n_starts = (self._lengths[i_clip] - self.piece_samples) // self._alignment + 1
            start = int(random.integers(n_starts)) * self._alignment
            try:
                excerpt = self.read(path, start, float(self._bandwidths[i_clip]))
            except SilkAudioError as error:
                last_error = error
                if path not in self._reported:
                    self._reported.add(path)
                    report(self.notice, f"not used: {error}")
                continue
            if self.gain_db is not None:
                gain = 10 ** (random.uniform(*self.gain_db) / 20)
                largest = 0.99 / max(np.abs(excerpt.samples).max(), 1e-9)
                excerpt = replace(excerpt, samples=excerpt.samples * np.float32(min(gain, largest)))
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
    """Make batches of items for steps ``first_step`` to ``last_step``, both included.

    ``audio`` is ``[batch_size, 1, crop_samples]``; what else an item has is stacked, too.

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
    """Pass on what ``loader`` gives; an error of one of its processes comes without that process's traceback.

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
