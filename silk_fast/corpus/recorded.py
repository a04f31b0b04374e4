"""A corpus of recorded people, from packages of Debian: prompts and dialogues, joined to clips of some seconds.

A clip is one speaker's; what is joined lies side by side in the package. Speakers of :data:`HELDOUT` are for
evaluation, and in no other split.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from silk_fast.arguments import whole_number
from silk_fast.audio import load, resample_blocks, save
from silk_fast.corpus import RATE
from silk_fast.corpus.manifest import MANIFEST, SUMMARY, Row, write_manifest
from silk_fast.corpus.room import augment
from silk_fast.corpus.variation import vary
from silk_fast.errors import SilkAudioError, SilkInputError
from silk_fast.files import atomic_file, cannot_write

VERSION = 1  # of what the same packages make
HELDOUT = ("it", "ru")  # languages
SPLITS = ("train", "validation", "heldout-speaker")
VALIDATION_EVERY = 20  # clips of a speaker
JOINED_SECONDS = 8.0  # a clip's shortest duration, where a speaker says so much
PAUSE_SECONDS = 0.25
SILENT = 1e-2  # peak of a recording that says nothing
G722_RATE = 16_000


@dataclass(frozen=True)
class Package:
    """Recordings in a package of Debian.

    Args:
        name: of the package.
        language: that is spoken.
        files: a pattern of its files, below ``/usr/share``.
        speakers: by a word in the name of a file, or ``""`` for all; other files are left out.
        bandwidth: Hz, up to which they hold speech.
        licence: of the recordings.
    """

    name: str
    language: str
    files: str
    speakers: dict[str, str]
    bandwidth: float
    licence: str

    def recordings(self, root: Path) -> dict[str, list[Path]]:
        """Find the files of every speaker, in order; none where it is not installed."""
        found: dict[str, list[Path]] = {}
        for path in sorted(root.glob(self.files)):
            words = ["", *path.stem.split("-")]
            if speaker := next((name for word, name in self.speakers.items() if word in words), None):
                found.setdefault(speaker, []).append(path)
        return found


def _asterisk(language: str, speaker: str, licence: str) -> Package:
    # G.722 ends at 7 kHz by its standard; the prompts' spectra fall off between 7.5 and 7.9 kHz.
    files = f"asterisk/sounds/{language}_*/**/*.g722"
    return Package(f"asterisk-core-sounds-{language}-g722", language, files, {"": speaker}, 7500.0, licence)


PACKAGES = (
    _asterisk("en", "Allison Smith", "CC-BY-SA-3.0"),
    _asterisk("es", "Allison Smith", "CC-BY-SA-3.0"),
    _asterisk("fr", "June Wallack", "CC-BY-SA-3.0"),
    _asterisk("it", "Carlo Flora", "CC-BY-3.0"),
    _asterisk("ru", "ivrvoice.ru", "CC-BY-3.0"),
    Package(
        "fillets-ng-data-cs",
        "cs",
        "games/fillets-ng/sound/*/cs/*.ogg",
        {"m": "small fish", "v": "big fish"},
        10_000.0,  # at 22.05 kHz, of most
        "GPL-2.0-or-later",
    ),
)


def make_recorded_corpus(
    folder: str | os.PathLike,
    root: str | os.PathLike = "/usr/share",
    versions: int = 1,
    progress: Callable[[float, float], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Row:
    """Make a corpus of recorded people of what is installed of :data:`PACKAGES`.

    Clips are mono 16-bit FLAC at 24 kHz below ``folder/clips``, as ``silk train corpus`` makes them: ``manifest.jsonl``
    has a line for each, with speaker (``voice``), language, licence and bandwidth in Hz; ``corpus.json`` describes the
    whole. The same packages make the same bytes.

    Args:
        folder: to make.
        root: where packages have their data.
        versions: of every clip to train on: as it was recorded, and so many less one that are varied, in a room, with
            noise, as :mod:`silk_fast.corpus.variation` and :mod:`silk_fast.corpus.room` have it.
        progress: called with the recordings done and to do.
        notice: called with one line of text for a package or a recording that is left out.

    Returns:
        What ``corpus.json`` holds.

    Raises:
        SilkInputError: no package is installed, PyAV, which decodes G.722, is missing, or ``versions`` is no integer
            >= 1.
        SilkFileError: something cannot be written.
    """
    versions, tell = whole_number("versions", versions, 1), notice or (lambda text: None)
    found = [(package, package.recordings(Path(root))) for package in PACKAGES]
    missing = [package.name for package, speakers in found if not speakers]
    if len(missing) == len(PACKAGES):
        raise SilkInputError(f"no recordings below {root}; apt-get install {' '.join(missing)}")
    if missing:
        tell(f"left out: {len(missing)} packages are not installed; apt-get install {' '.join(missing)}")
    n_total = sum(len(paths) for _, speakers in found for paths in speakers.values())
    rows: list[Row] = []
    n_done = 0
    try:
        for package, speakers in found:
            for speaker, paths in speakers.items():
                for i, (names, samples) in enumerate(_clips(paths, tell)):
                    split = "heldout-speaker" if package.language in HELDOUT else _split(i)
                    row = {"split": split, "voice": speaker, "recordings": [recording.name for recording in names]}
                    for version in range(versions if split == "train" else 1):
                        rows.append(_write_clip(Path(folder), len(rows), package, row, samples, version))
                    if progress:
                        progress(n_done + paths.index(names[-1]) + 1, n_total)
                n_done += len(paths)
    except OSError as error:
        raise cannot_write(os.fspath(folder), error) from error
    write_manifest(folder, MANIFEST, rows)
    summary = _summary([package for package, speakers in found if speakers], rows)
    with atomic_file(Path(folder, SUMMARY)) as file:
        file.write((json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _split(i_clip: int) -> str:
    return "validation" if i_clip % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "train"


def _clips(paths: Sequence[Path], notice: Callable[[str], None]) -> Iterator[tuple[list[Path], np.ndarray]]:
    """Join recordings until they last :data:`JOINED_SECONDS`; what is left at the end is a clip if it lasts half."""
    pause = np.zeros(round(PAUSE_SECONDS * RATE), np.float32)
    names: list[Path] = []
    parts: list[np.ndarray] = []
    for path in paths:
        try:
            samples = _read(path)
        except SilkAudioError as error:
            notice(f"left out: {error}")
            continue
        if np.abs(samples).max() < SILENT:
            continue
        names.append(path)
        parts += [samples, pause]
        if sum(map(len, parts)) >= JOINED_SECONDS * RATE:
            yield names, np.concatenate(parts[:-1])
            names, parts = [], []
    if sum(map(len, parts)) >= JOINED_SECONDS * RATE / 2:
        yield names, np.concatenate(parts[:-1])


def _read(path: Path) -> np.ndarray:
    """Read a recording, float32 ``[T]`` at 24 kHz."""
    if path.suffix != ".g722":
        return load(path, RATE)
    try:
        import av
    except ImportError as error:
        raise SilkInputError(
            f"G.722 needs the package av (PyAV): pip install av, or silk_fast[train] ({error})"
        ) from error
    try:
        with av.open(str(path), format="g722") as file:
            blocks = [frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]
    except av.FFmpegError as error:
        raise SilkAudioError(f"{path}: cannot be decoded as G.722: {error}") from error
    if not blocks:
        raise SilkAudioError(f"{path}: holds no samples")
    return np.concatenate(list(resample_blocks(blocks, G722_RATE, RATE)))


def _write_clip(folder: Path, index: int, package: Package, row: Row, samples: np.ndarray, version: int) -> Row:
    done: Row = {}
    if version:
        random = np.random.default_rng([index, version])
        samples, done = vary(samples, random)
        samples, augmentation = augment(samples, random)
        done |= augmentation
    name = f"clips/{package.language}/{index:06d}.flac"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, samples, RATE)
    return {
        "path": name,
        **row,
        "language": package.language,
        "bandwidth": min(package.bandwidth * done.get("speed", 1.0), RATE / 2),
        "package": package.name,
        "licence": package.licence,
        "version": version,
        **done,
        "seconds": len(samples) / RATE,
        "crc32": zlib.crc32(path.read_bytes()),
    }


def _summary(packages: Sequence[Package], rows: Sequence[Row]) -> Row:
    def of(some: Sequence[Row]) -> Row:
        return {
            "clips": len(some),
            "hours": sum(row["seconds"] for row in some) / 3600,
            "languages": sorted({row["language"] for row in some}),
            "voices": sorted({row["voice"] for row in some}),
        }

    return {
        "version": VERSION,
        "complete": True,
        "sample_rate": RATE,
        "clips": len(rows),
        "hours": sum(row["seconds"] for row in rows) / 3600,
        "splits": {split: of([row for row in rows if row["split"] == split]) for split in SPLITS},
        "packages": {package.name: package.licence for package in packages},
    }
