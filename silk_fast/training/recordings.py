"""Recordings to train on: found in files, folders and corpora, read in part or whole as mono float32."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
import torch

from silk_fast.audio import SUFFIXES, AudioReader, resample_blocks, resampled_length
from silk_fast.corpus.manifest import MANIFEST, read_manifest
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import is_stream

RATE = 24_000  # Hz, in which Clip counts
Notice = Callable[[str], None] | None

_MARGIN = 1024  # samples at the target rate before and after an excerpt, longer than the resampler's filter


@dataclass(frozen=True)
class Clip:
    """A recording.

    Args:
        path: of its file.
        n_samples: its duration at 24 kHz, as its header or manifest states it.
        labels: its line of the manifest (voice, language, split, text ...), empty where there is none.
    """

    path: str
    n_samples: int
    labels: dict[str, Any] = field(default_factory=dict, compare=False)


# ---------------------------------------------------------------- finding


def find_clips(
    paths: str | os.PathLike | Iterable[str | os.PathLike], *, split: str | None = None, notice: Notice = None
) -> list[Clip]:
    """Find the recordings in files and folders, in a fixed order.

    Folders are searched to any depth for the suffixes in :data:`silk_fast.audio.SUFFIXES`. One that holds a
    ``manifest.jsonl`` is taken for a corpus: the recordings that the manifest lists, and no others.

    Args:
        paths: a file or folder, or several.
        split: takes these clips of a corpus, None all; files outside a corpus belong to every split.
        notice: called with one line of text for each file or folder that cannot be used; such are left out.

    Raises:
        SilkInputError: nothing usable was found, or a manifest is damaged.
    """
    names = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    clips: list[Clip] = []
    splits: set[str] = set()
    for name in names:
        for source in _sources(name, notice):
            if os.path.basename(source) == MANIFEST:
                rows = read_manifest(source)
                splits |= {row["split"] for row in rows}
                clips += _listed_clips(os.path.dirname(source), rows, split, notice)
            elif clip := _measured_clip(source, notice):
                clips.append(clip)
    if not clips:
        where = ", ".join(names) or "no path"
        which = f" of split {split!r} (there are: {', '.join(sorted(splits))})" if splits and split else ""
        raise SilkInputError(f"{where}: no usable audio{which}, expected {'/'.join(SUFFIXES)} files or a {MANIFEST}")
    return clips


def _sources(path: str, notice: Notice) -> Iterator[str]:
    """List ``path``, or the manifests and audio files in a folder; nothing else of a folder with a manifest."""
    if not os.path.isdir(path):
        yield path
        return

    def left_out(error: OSError) -> None:
        report(notice, f"left out: {error.filename}: {error.strerror}, expected a readable folder")

    for directory, folders, names in os.walk(path, onerror=left_out):
        folders.sort()
        if MANIFEST in names:
            folders.clear()
            yield os.path.join(directory, MANIFEST)
        else:
            sources = (os.path.join(directory, name) for name in sorted(names) if name.lower().endswith(SUFFIXES))
            yield from (source for source in sources if not is_stream(source))  # a pipe would be waited for


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
    """Measure a clip by its header or, where that says nothing, its samples; None, reported, if it is unusable."""
    try:
        with AudioReader(path, RATE) as reader:
            return Clip(path, reader.n_samples_estimate or sum(map(len, reader)))
    except SilkAudioError as error:
        report(notice, f"left out: {error}")
        return None


def report(notice: Notice, text: str) -> None:
    """Pass on a line of text, if someone listens."""
    if notice:
        notice(text)


# ---------------------------------------------------------------- reading


def read_excerpt(path: str, start: int, n_samples: int, sample_rate: int = RATE) -> np.ndarray:
    """Read samples ``start`` to ``start + n_samples`` of a recording, mono float32 ``[n_samples]`` at ``sample_rate``.

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
    """Read whole utterances, float32 ``[1, T]`` each, T >= 1, of ``n`` clips spread evenly over ``clips``.

    Args:
        clips: as found.
        n: how many, >= 1; all if there are fewer.
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
            report(notice, f"left out: {error}")
            continue
        yield torch.from_numpy(samples)[None]
    if n_failed == len(clips):
        raise SilkAudioError(
            f"none of {n_failed} files could be read, expected at least one; the first: {clips[0].path}"
        )
