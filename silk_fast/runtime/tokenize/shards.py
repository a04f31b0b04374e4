"""What a unit becomes: a shard of tokens and a list of the inputs that have none; the same bytes always."""

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from silk_fast.errors import SilkFileError
from silk_fast.files import atomic_file
from silk_fast.runtime.tokenize.encoding import Encoded
from silk_fast.runtime.tokenize.plan import WRITER, Settings, schema_of

MERGED = "tokens.parquet"
SUFFIXES = {"parquet": ".parquet", "webdataset": ".tar"}
"""Of shards, by what ``--to`` says."""

_FIELDS = [
    pa.field("id", pa.string()),
    pa.field("tokens", pa.list_(pa.list_(pa.int32()))),
    pa.field("samples", pa.int64()),
    pa.field("source_sha256", pa.string()),
]
_ERRORS = [pa.field("id", pa.string()), pa.field("kind", pa.string()), pa.field("reason", pa.string())]


@dataclass(frozen=True)
class Done:
    """A row of a shard.

    Args:
        id: of the input.
        encoded: its tokens.
        sha256: of the file it is of.
        values: of the columns that are passed through.
    """

    id: str
    encoded: Encoded
    sha256: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """An input that has no tokens, and why."""

    id: str
    kind: str
    reason: str


def part_path(out: str, unit: int, to: str) -> str:
    """Name the shard of a unit; that it is there means that the unit is done."""
    return os.path.join(out, f"part-{unit:05d}{SUFFIXES[to]}")


def errors_path(out: str, unit: int) -> str:
    """Name the list of the inputs of a unit that have no tokens; it is there if there are any."""
    return os.path.join(out, f"errors-{unit:05d}.parquet")


def write_unit(
    out: str,
    unit: int,
    settings: Settings,
    columns: Sequence[pa.Field],
    rows: Sequence[Done],
    problems: Sequence[Problem],
) -> None:
    """Write the shard of a unit, after its list of problems.

    Raises:
        SilkFileError: one cannot be written; none is left unfinished.
    """
    path = errors_path(out, unit)
    if problems:
        table = pa.Table.from_pylist([vars(problem) for problem in problems], schema_of(_ERRORS, settings))
        with atomic_file(path) as file:
            pq.write_table(table, file, **WRITER)
    else:
        with suppress(FileNotFoundError):  # that of a run which was stopped before the shard was written
            os.unlink(path)
    with atomic_file(part_path(out, unit, settings["to"])) as file:
        if settings["to"] == "webdataset":
            _write_archive(file, settings, rows)
        else:
            pq.write_table(_table(settings, columns, rows), file, **WRITER)


def _table(settings: Settings, columns: Sequence[pa.Field], rows: Sequence[Done]) -> pa.Table:
    tokens = [row.encoded.tokens for row in rows]
    arrays = [
        pa.array([row.id for row in rows], pa.string()),
        _lists(tokens),
        pa.array([row.encoded.n_samples for row in rows], pa.int64()),
        pa.array([row.sha256 for row in rows], pa.string()),
        *(pa.array([row.values.get(field.name) for row in rows], field.type) for field in columns),
    ]
    return pa.Table.from_arrays(arrays, schema=schema_of([*_FIELDS, *columns], settings))


def _lists(tokens: Sequence[np.ndarray]) -> pa.Array:
    """Make an array of lists of lists from int32 ``[F, K]`` each, with one copy."""
    n_columns = tokens[0].shape[1] if tokens else 0
    n_frames = np.cumsum([0, *(len(one) for one in tokens)])
    if n_frames[-1] * n_columns >= 2**31:
        raise SilkFileError("a unit has 2^31 tokens or more, expected fewer: choose smaller ones with --unit-hours")
    flat = np.concatenate([np.zeros(0, np.int32), *(one.ravel() for one in tokens)])
    inner = np.arange(n_frames[-1] + 1, dtype=np.int32) * n_columns
    frames = pa.ListArray.from_arrays(pa.array(inner, pa.int32()), pa.array(flat, pa.int32()))
    return pa.ListArray.from_arrays(pa.array(n_frames, pa.int32()), frames)


def _write_archive(file: BinaryIO, settings: Settings, rows: Sequence[Done]) -> None:
    """Write a WebDataset archive: ``ID.tokens.npy``, int32 ``[F, K]``, and ``ID.json`` for every row."""
    headers = {METADATA_OF_ARCHIVES: json.dumps(settings, sort_keys=True)}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for row in rows:
            key = row.id.replace("%", "%25").replace(".", "%2E")  # a dot would end it
            array = io.BytesIO()
            np.save(array, row.encoded.tokens)
            about = {"id": row.id, "samples": row.encoded.n_samples, "source_sha256": row.sha256, **row.values}
            text = json.dumps(about, ensure_ascii=False, default=str)
            for name, data in ((f"{key}.json", text.encode()), (f"{key}.tokens.npy", array.getvalue())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


METADATA_OF_ARCHIVES = "SILKFAST.settings"
"""Key of the global header of an archive under which it has the settings, as JSON."""


def problems_in(out: str, n_units: int) -> Iterator[Problem]:
    """Read the inputs without tokens, unit by unit."""
    for unit in range(n_units):
        path = errors_path(out, unit)
        if os.path.exists(path):
            for row in pq.read_table(path, use_threads=False, memory_map=False).to_pylist():
                yield Problem(**row)


def merge(out: str, n_units: int) -> str:
    """Write all shards as one Parquet file, a row group each; returns its path.

    Raises:
        SilkFileError: it cannot be written.
    """
    path = os.path.join(out, MERGED)
    with atomic_file(path) as file:
        writer = None
        for unit in range(n_units):
            table = pq.read_table(part_path(out, unit, "parquet"), use_threads=False)
            writer = writer or pq.ParquetWriter(file, table.schema, **WRITER)
            writer.write_table(table)
        if writer:
            writer.close()
    return path
