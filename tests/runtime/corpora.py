"""A small corpus in every form that ``silk tokenize`` takes, and what it makes of it."""

import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from tests.cli.support import silk
from tests.support import speech

LENGTHS = {"anna/one": 31_000, "anna/two": 9_600, "ben/one": 77_777, "ben/three": 1, "zoe": 20_001}
"""Samples of the clips at 24 kHz, by id."""

TEXTS = {id: f"what {id} said" for id in LENGTHS}


def clip_bytes(n_samples: int, start: int = 0, suffix: str = "FLAC") -> bytes:
    """A recording of voices, 16 bits at 24 kHz."""
    file = io.BytesIO()
    soundfile.write(file, speech(n_samples, start)[0, 0].numpy(), 24_000, "PCM_16", format=suffix)
    return file.getvalue()


def corpus() -> dict[str, bytes]:
    """FLAC files of the clips, by id, of different moments."""
    return {id: clip_bytes(n, 10_000 * i) for i, (id, n) in enumerate(LENGTHS.items())}


def write_folder(folder: Path, clips: dict[str, bytes]) -> Path:
    for id, data in clips.items():
        path = folder / f"{id}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_jsonl(folder: Path, clips: dict[str, bytes]) -> Path:
    write_folder(folder, clips)
    lines = [json.dumps({"path": f"{id}.flac", "text": TEXTS[id], "weight": i / 4}) for i, id in enumerate(clips)]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_csv(folder: Path, clips: dict[str, bytes]) -> Path:
    write_folder(folder, clips)
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "text"])
        writer.writerows([id, f"{id}.flac", TEXTS[id]] for id in clips)
    return path


def write_tar(path: Path, clips: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for id, data in clips.items():
            for suffix, content in (("flac", data), ("txt", TEXTS.get(id, "").encode())):
                member = tarfile.TarInfo(f"./{id}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, clips: dict[str, bytes], rows_in_a_group: int = 2) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"audio": {"bytes": clips[id], "path": f"{id}.flac"}, "text": TEXTS.get(id)} for id in clips]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_in_a_group)
    return path


def tokenize(source: Path, out: Path, model: Path, *more: object) -> int:
    """Exit status of the command, quiet, with one process unless ``more`` says otherwise."""
    return silk("tokenize", source, out, "-m", model, "-q", "--workers", 1, *more)


def parts_in(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def rows_in(out: Path, pattern: str = "part-*.parquet") -> list[dict]:
    """Rows of all shards, in order."""
    import pyarrow.parquet as pq

    return [row for path in sorted(out.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def tokens_in(out: Path) -> dict[str, list[list[int]]]:
    return {row["id"]: row["tokens"] for row in rows_in(out)}


def problems_in(out: Path) -> dict[str, tuple[str, str]]:
    """Kind and reason of every input without tokens; an id that has two is an error of the test."""
    rows = rows_in(out, "errors-*.parquet")
    found = {row["id"]: (row["kind"], row["reason"]) for row in rows}
    assert len(found) == len(rows)
    return found


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of everything that a run leaves but its lock."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir() if path.name != ".lock"}


def samples_of(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]
