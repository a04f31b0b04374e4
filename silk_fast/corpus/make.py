"""A whole corpus: clips by several processes, in order, until there are enough; what is there is not made again."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

from silk_fast.corpus.clips import clip_path, is_intact, make_clip
from silk_fast.corpus.engines import find_engines
from silk_fast.corpus.manifest import JOURNAL, MANIFEST, Row, known_clips, manifest_line, write_manifest, write_summary
from silk_fast.corpus.plan import CorpusSettings
from silk_fast.corpus.voices import DIALECTS, HELDOUT_LANGUAGES
from silk_fast.errors import SilkError, SilkInputError
from silk_fast.files import cannot_write
from silk_fast.processes import obey_parent

_CHUNK = 8  # clips per task of a process

_Task = tuple[str, CorpusSettings, int, dict[int, Row]]


def make_corpus(
    folder: str | os.PathLike,
    hours: float,
    seed: int = 0,
    workers: int = 1,
    languages: Sequence[str] | None = None,
    progress: Callable[[float, float], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Row:
    """Make a corpus of synthetic speech, or go on with one that was interrupted or is to be longer.

    Clips are mono 16-bit FLAC at 24 kHz below ``folder/clips``. ``manifest.jsonl`` has one line for each, and appears
    when all are there; until then ``manifest.partial.jsonl`` keeps what is done. ``corpus.json`` describes the whole.
    Clips that are there and whose checksum holds are not made again. A corpus never becomes shorter.

    Args:
        folder: to make or to continue.
        hours: of speech, all splits together; the first clip to reach it is the last.
        seed: decides everything but the duration.
        workers: processes. Where the calling program is a script, its main part needs the usual guard
            ``if __name__ == "__main__":`` for more than one.
        languages: of :data:`~silk_fast.corpus.voices.DIALECTS`; None for all.
        progress: called with the seconds done and to do.
        notice: called with one line of text.

    Returns:
        What ``corpus.json`` holds.

    Raises:
        SilkInputError: an argument is impossible, eSpeak NG is missing, or the folder holds another corpus.
        SilkAudioError: an engine fails.
        SilkFileError: something cannot be written. Run again to go on.
    """
    chosen = _checked(hours, seed, workers, languages)
    settings = CorpusSettings(seed, chosen, find_engines(notice))
    folder = os.fspath(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        known = known_clips(folder, settings)
        rows = _make_rows(folder, settings, known, 3600 * hours, workers, progress)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_manifest(folder, MANIFEST, rows)
    summary = write_summary(folder, settings, rows)
    surplus = range(len(rows), len(rows) + _CHUNK * (2 * workers + 1))  # made ahead, in vain
    for path in (*map(clip_path, surplus), JOURNAL):
        Path(folder, path).unlink(missing_ok=True)
    return summary


def _checked(hours: float, seed: int, workers: int, languages: Sequence[str] | None) -> tuple[str, ...]:
    """Check the arguments; returns the languages, sorted, or raises SilkInputError for an impossible argument."""
    if not 0 < hours < float("inf"):
        raise SilkInputError(f"hours must be finite and > 0, got {hours}")
    if seed < 0 or workers < 1:
        raise SilkInputError(f"seed must be >= 0 and workers >= 1, got {seed} and {workers}")
    chosen = tuple(sorted(set(DIALECTS if languages is None else languages)))
    if unknown := [language for language in chosen if language not in DIALECTS]:
        raise SilkInputError(f"languages {' '.join(unknown)} are unknown, expected some of {' '.join(DIALECTS)}")
    if not set(chosen) - set(HELDOUT_LANGUAGES):
        expected = " ".join(language for language in DIALECTS if language not in HELDOUT_LANGUAGES)
        raise SilkInputError(
            f"languages {' '.join(chosen) or '(none)'} leave none to train on, expected any of {expected}"
        )
    return chosen


def _make_rows(
    folder: str,
    settings: CorpusSettings,
    known: dict[int, Row],
    wanted: float,
    workers: int,
    progress: Callable[[float, float], None] | None,
) -> list[Row]:
    """Make clips of ``wanted`` seconds, and no fewer than are known; returns their lines, and keeps the journal."""
    rows: list[Row] = []
    seconds, n_known = 0.0, max(known, default=-1) + 1
    write_manifest(folder, JOURNAL, known.values())
    with (
        open(os.path.join(folder, JOURNAL), "a", encoding="utf-8") as journal,
        closing(_chunks(_tasks(folder, settings, known), workers)) as chunks,
    ):
        while True:
            for row in next(chunks):
                rows.append(row)
                seconds += row["seconds"]
                if known.get(row["index"]) != row:
                    journal.write(manifest_line(row))
                    journal.flush()
                if progress:
                    progress(min(seconds, wanted), wanted)
                if seconds >= wanted and len(rows) >= n_known:
                    return rows


def _tasks(folder: str, settings: CorpusSettings, known: dict[int, Row]) -> Iterator[_Task]:
    """List the arguments of :func:`_make_chunk` for every chunk, without end."""
    for start in itertools.count(0, _CHUNK):
        yield folder, settings, start, {i: known[i] for i in range(start, start + _CHUNK) if i in known}


def _make_chunk(folder: str, settings: CorpusSettings, start: int, known: dict[int, Row]) -> list[Row]:
    """Make ``_CHUNK`` clips from ``start``, but for those that are known and intact; returns the lines of all."""
    return [
        known[index] if index in known and is_intact(folder, known[index]) else make_clip(folder, settings, index)
        for index in range(start, start + _CHUNK)
    ]


def _chunks(tasks: Iterator[_Task], workers: int) -> Generator[list[Row], None, None]:
    """Make the chunks of endless tasks, in order, with ``workers`` processes."""
    if workers == 1:
        for task in tasks:
            yield _make_chunk(*task)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=obey_parent)
    try:
        pending = deque(pool.submit(_make_chunk, *next(tasks)) for _ in range(2 * workers))
        while True:
            yield pending.popleft().result()
            pending.append(pool.submit(_make_chunk, *next(tasks)))
    except BrokenProcessPool as error:
        raise SilkError("a process that makes clips was killed, expected it to finish; run again to go on") from error
    finally:
        pool.shutdown(cancel_futures=True)
