"""What is evaluated: clips that training has not seen, from a corpus folder and from recordings of people."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from silk_fast.audio import SUFFIXES, load
from silk_fast.corpus.manifest import MANIFEST, SUMMARY, read_manifest
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import files_below

RATE = 24_000
RECORDINGS = {"alsa-utils": Path("/usr/share/sounds/alsa"), "klettres-data": Path("/usr/share/klettres")}
"""Debian's package and folder of human voices: one speaker's phrases, and letters and syllables in many languages."""
RECORDED = "recordings"
PEOPLE = "heldout-speaker"
GROUPS = {
    "validation": "Seen voices, new clips",
    "heldout-voice": "Held-out voices",
    "heldout-language": "Held-out languages",
    PEOPLE: "People, connected speech",
    RECORDED: "Human recordings",
}
"""Group (a split of a manifest, or the recordings) and its title."""

SHORT_SECONDS = 4.0
JOINED_SECONDS = 8.0
PAUSE_SECONDS = 0.25
VOICED_SHARE = 0.1


@dataclass(frozen=True)
class Clip:
    """One clip to evaluate.

    Args:
        name: for tables; the path in the corpus, or the name of the recording.
        group: a key of :data:`GROUPS`.
        language: of the speech; empty if unknown.
        voice: of the speech; empty if unknown.
        paths: files; several are joined by pauses of :data:`PAUSE_SECONDS`.
    """

    name: str
    group: str
    language: str
    voice: str
    paths: tuple[Path, ...]

    def load(self) -> np.ndarray:
        """Read the samples, float32 ``[T]`` at 24 kHz.

        Raises:
            SilkAudioError: a file cannot be read.
        """
        pause = np.zeros(round(PAUSE_SECONDS * RATE), np.float32)
        parts = [part for path in self.paths for part in (load(path, RATE), pause)]
        return np.concatenate(parts[:-1])


def corpus_rows(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Read the lines of the manifest of a corpus that ``silk train`` made, in its order.

    Raises:
        SilkInputError: no such folder, no manifest in it, or a line that does not describe a clip.
    """
    if not Path(folder).is_dir():
        raise SilkInputError(f"{folder}: no such folder, expected a corpus made by 'silk train corpus'")
    return read_manifest(Path(folder) / MANIFEST)


def corpus_facts(folder: str | os.PathLike) -> dict[str, Any]:
    """Read what ``corpus.json`` says of a corpus; empty if it says nothing."""
    try:
        facts = json.loads((Path(folder) / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def spread(rows: Sequence[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Choose at most ``n`` rows, over as many languages and voices as they can; which follows from the rows alone."""
    left = sorted(rows, key=lambda row: row["path"])
    chosen: list[dict[str, Any]] = []
    counts: Counter[tuple[str, Any]] = Counter()
    while left and len(chosen) < n:
        row = min(left, key=lambda row: sum(counts[key, row.get(key)] for key in ("language", "voice")))
        counts.update((key, row.get(key)) for key in ("language", "voice"))
        left.remove(row)
        chosen.append(row)
    return chosen


def corpus_clips(folder: str | os.PathLike, rows: Sequence[dict[str, Any]], split: str, n: int) -> list[Clip]:
    """Choose at most ``n`` clips of a split, over all its languages and voices."""
    chosen = spread([row for row in rows if row["split"] == split], n)
    return [
        Clip(row["path"], split, str(row.get("language", "")), str(row.get("voice", "")), (Path(folder) / row["path"],))
        for row in chosen
    ]


# ---------------------------------------------------------------- recordings


def recorded_clips(sources: Sequence[str | os.PathLike], n: int, notice: Callable[[str], None]) -> list[Clip]:
    """Find clips of recorded speech; files that cannot be read, or are no speech, are reported and left out.

    Recordings shorter than :data:`SHORT_SECONDS`, too short for PESQ, are joined with their neighbours in the folder,
    with pauses, to clips of :data:`JOINED_SECONDS` or more.

    Args:
        sources: files, or folders that are searched.
        n: clips at most, taken in turn from the sources and the folders in them: one speaker's, in most collections.
        notice: called with one line of text for what is left out or joined.

    Raises:
        SilkInputError: a source that is not there, or nothing in all of them is speech.
    """
    speech: dict[Path, dict[Path, float]] = {}
    for folder, path in _audio_files(sources, notice):
        try:
            samples = load(path, RATE)
        except SilkAudioError as error:
            notice(f"left out: {error}")
            continue
        if voiced_share(samples) >= VOICED_SHARE:
            speech.setdefault(folder, {})[path] = len(samples) / RATE
        else:
            notice(f"left out: {path}: does not sound like a voice")
    if sources and not speech:
        raise SilkInputError(f"{', '.join(map(str, sources))}: no recording of a voice, expected at least one")
    in_turn = zip_longest(*(_clips_of_one_folder(seconds) for seconds in speech.values()))
    chosen = [paths for turn in in_turn for paths in turn if paths][:n]
    for paths in chosen:
        if len(paths) > 1:
            notice(f"{len(paths)} short recordings joined to one clip: {' '.join(path.name for path in paths)}")
    return [Clip(_name(paths), RECORDED, "", "", paths) for paths in chosen]


def _name(paths: tuple[Path, ...]) -> str:
    first = "/".join(paths[0].absolute().parts[-3:])
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


def _clips_of_one_folder(seconds: dict[Path, float]) -> list[tuple[Path, ...]]:
    """Group files to clips: long recordings alone, then short ones together."""
    alone = [(path,) for path, duration in seconds.items() if duration >= SHORT_SECONDS]
    return alone + _joined({path: duration for path, duration in seconds.items() if duration < SHORT_SECONDS})


def _audio_files(sources: Sequence[str | os.PathLike], notice: Callable[[str], None]) -> Iterator[tuple[Path, Path]]:
    """List every file, with the source, or the folder in it, that holds it."""
    for source in map(Path, sources):
        if source.is_dir():
            paths = sorted(map(Path, files_below(str(source), SUFFIXES, lambda _, why: notice(f"left out: {why}"))))
            yield from ((source.joinpath(*path.relative_to(source).parts[:-1][:1]), path) for path in paths)
        elif source.is_file():
            yield source.parent, source
        else:
            raise SilkInputError(f"{source}: no such file or folder, expected recordings of speech")


def _joined(seconds: dict[Path, float]) -> list[tuple[Path, ...]]:
    """Join neighbours until they are long enough; a remainder goes to the last ones."""
    groups: list[list[Path]] = [[]]
    total = 0.0
    for path, duration in seconds.items():
        if total >= JOINED_SECONDS:
            groups.append([])
            total = 0.0
        groups[-1].append(path)
        total += duration
    if len(groups) > 1 and total < JOINED_SECONDS:
        last = groups.pop()
        groups[-1] += last
    return [tuple(group) for group in groups if group]


def voiced_share(samples: np.ndarray, sample_rate: int = RATE) -> float:
    """Compute the share of frames that are periodic with a pitch of 60-400 Hz: high in speech, near 0 in noise.

    Of the 40 ms frames of the signal's first difference, those within 30 dB of the loudest count; a frame is periodic
    if its normalised autocorrelation exceeds 0.5. ``samples`` is float32 ``[T]``; a signal without a frame has 0.
    """
    length = sample_rate // 25
    n_frames = len(samples) // length
    if not n_frames or not np.abs(samples).max() > 0:
        return 0.0
    sharpened = np.diff(samples, prepend=samples[:1])  # or rumble would pass for periodic
    frames = sharpened[: n_frames * length].reshape(n_frames, length).astype(np.float64)
    energy = np.square(frames).sum(1)
    frames = frames[energy > 1e-3 * energy.max()]
    spectrum = np.abs(np.fft.rfft(frames, 2 * length)) ** 2
    correlation = np.fft.irfft(spectrum)[:, :length]
    lags = np.arange(sample_rate // 400, sample_rate // 60)
    unbiased = correlation[:, lags] * length / (length - lags) / correlation[:, :1]
    return float((unbiased.max(1) > 0.5).mean())
