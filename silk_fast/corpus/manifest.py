"""The files that describe a corpus: a line of JSON for each clip, and a summary of the whole."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from silk_fast.corpus import RATE
from silk_fast.corpus.plan import SPLITS, CorpusSettings
from silk_fast.corpus.voices import LICENCE
from silk_fast.errors import SilkInputError
from silk_fast.files import atomic_file

VERSION = 1  # of what the same settings make
MANIFEST, SUMMARY, JOURNAL = "manifest.jsonl", "corpus.json", "manifest.partial.jsonl"

Row = dict[str, Any]


def read_manifest(path: str | os.PathLike) -> list[Row]:
    """Read the lines of a manifest, each a clip; the last line may be torn, as an interruption leaves it.

    Raises:
        SilkInputError: another line is not a clip, or the file cannot be read.
    """
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SilkInputError(f"{path}: cannot be read as a manifest: {error}") from error
    for i, line in enumerate(lines):
        try:
            row = json.loads(line)
            rows.append({**row, "path": str(row["path"]), "split": str(row["split"])})
        except (ValueError, KeyError, TypeError) as error:
            if i == len(lines) - 1:
                break
            raise SilkInputError(f"{path}: line {i + 1} is no clip, expected JSON with path and split") from error
    return rows


def manifest_line(row: Row) -> str:
    """Write a clip as a line of a manifest."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_manifest(folder: str | os.PathLike, name: str, rows: Iterable[Row]) -> None:
    """Write a manifest, or the journal of one, whole.

    Raises:
        SilkFileError: it cannot be written.
    """
    _write(Path(folder, name), "".join(map(manifest_line, rows)))


def write_summary(folder: str | os.PathLike, settings: CorpusSettings, rows: list[Row]) -> Row:
    """Write ``corpus.json``; returns what it holds. No rows: the corpus is not complete.

    Raises:
        SilkFileError: it cannot be written.
    """
    summary = _summary(settings, rows)
    _write(Path(folder, SUMMARY), json.dumps(summary, indent=2) + "\n")
    return summary


def known_clips(folder: str | os.PathLike, settings: CorpusSettings) -> dict[int, Row]:
    """Read the lines of an earlier run by index; where there was none, record the settings.

    Raises:
        SilkInputError: the folder holds a corpus with other settings.
        SilkFileError: the settings cannot be recorded.
    """
    path = Path(folder, SUMMARY)
    if not path.exists():
        write_summary(folder, settings, [])
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name, value in _settings_row(settings).items() if found.get(name) != value]
    except (ValueError, AttributeError) as error:
        raise SilkInputError(f"{path}: does not describe a corpus, expected that of an earlier run") from error
    if differing:
        name = differing[0]
        wanted = _settings_row(settings)[name]
        raise SilkInputError(
            f"{folder}: holds a corpus with {name} {found.get(name)}, expected {wanted} or a new folder"
        )
    paths = [Path(folder, name) for name in (MANIFEST, JOURNAL)]
    rows = itertools.chain.from_iterable(read_manifest(path) for path in paths if path.exists())
    return {row["index"]: row for row in rows}


def _settings_row(settings: CorpusSettings) -> Row:
    return {"version": VERSION, **asdict(settings), "languages": list(settings.languages)}


def _summary(settings: CorpusSettings, rows: list[Row]) -> Row:
    seconds: Counter[str] = Counter()
    voices: dict[str, set[str]] = {split: set() for split in SPLITS}
    for row in rows:
        seconds[row["split"]] += row["seconds"]
        voices[row["split"]].add(f"{row['engine']} {row['voice']}")
    splits = {
        split: {
            "clips": sum(row["split"] == split for row in rows),
            "hours": seconds[split] / 3600,
            "languages": sorted({row["language"] for row in rows if row["split"] == split}),
            "voices": sorted(voices[split]),
        }
        for split in SPLITS
    }
    return {
        **_settings_row(settings),
        "complete": bool(rows),
        "sample_rate": RATE,
        "clips": len(rows),
        "hours": sum(seconds.values()) / 3600,
        "splits": splits,
        "licence": LICENCE,
    }


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
