"""Parquet files with audio as bytes, as the ``datasets`` library and others write them; read by pyarrow alone."""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from silk_fast.errors import SilkInputError
from silk_fast.files import printable
from silk_fast.runtime.tokenize.sources import (
    BYTES_PER_SECOND,
    Input,
    Opened,
    check_columns,
    failing,
    id_of,
    is_text,
    refused,
    seconds_of,
    spooled,
)

_ROWS = 16  # read at once
_BUFFER = 2**20  # bytes of a column that are read at once
_DAMAGE = (pa.ArrowException, OSError)


class Tables:
    """The rows of Parquet files: a :class:`~silk_fast.runtime.tokenize.sources.Source`.

    A column holds audio: of bytes, or of structs with ``bytes`` and perhaps ``path``; of several, the one that is named
    ``audio``. Ids are those of ``id``, or paths without suffix, or the file's name and the row's number.

    Args:
        root: folder of the files.
        paths: of them, relative to it; all have the same columns.

    Raises:
        SilkInputError: a file cannot be read, has no column of audio, other columns than the first, or one with a name
            that shards have.
    """

    kind = "parquet"

    def __init__(self, root: str, paths: Sequence[str]) -> None:
        self.root, self.paths = root, paths
        schemas = [self._schema(path) for path in paths]
        for path, schema in zip(paths, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise SilkInputError(f"{printable(path)}: has other columns than {printable(paths[0])}")
        self.audio = audio_column(schemas[0], paths[0])
        self.has_id = "id" in schemas[0].names
        self.columns = [field.remove_metadata() for field in schemas[0] if field.name not in (self.audio, "id")]
        check_columns([field.name for field in self.columns], paths[0])

    def _schema(self, path: str) -> pa.Schema:
        try:
            return pq.read_schema(os.path.join(self.root, path))
        except _DAMAGE as error:
            raise SilkInputError(f"{printable(path)}: cannot be read as Parquet: {_line(error)}") from error

    def inputs(self) -> Iterator[Input]:
        """List the rows, file by file."""
        for path in self.paths:
            row = 0
            try:
                with _open(self.root, path) as file:
                    names = self._names(file)
                    per_byte = self._seconds_per_byte(file)
                    for i in range(file.num_row_groups):
                        n_rows, n_bytes = file.metadata.row_group(i).num_rows, self._n_bytes(file, i)
                        size = n_bytes // max(1, n_rows)
                        for _ in range(n_rows):
                            yield self._input(path, row, next(names), size, size * per_byte)
                            row += 1
            except _DAMAGE as error:
                yield refused(f"{path}:{row}", path, "table", f"{_line(error)}, expected intact Parquet from here on")

    def _input(self, path: str, row: int, name: Any, size: int, seconds: float) -> Input:
        default = f"{id_of(path)}:{row}"
        if self.has_id and (isinstance(name, bool) or not isinstance(name, int | str)):
            return refused(default, path, "table", f"id must be text or a whole number, got {name!r}")
        if not self.has_id:
            name = default if not name else id_of(name)
        if not is_text(str(name)):
            return refused(default, path, "name", "its id holds a NUL")
        return Input(str(name), path, row, size, seconds=seconds)

    def _names(self, file: pq.ParquetFile) -> Iterator[Any]:
        """Read of every row what its id is made of; None where there is nothing."""
        column = "id" if self.has_id else f"{self.audio}.path"
        if column not in _leaves(file):
            yield from (None for _ in range(file.metadata.num_rows))
            return
        for batch in file.iter_batches(2**12, columns=[column], use_threads=False):
            for value in batch.column(0).to_pylist():
                yield value.get("path") if isinstance(value, dict) else value

    def _seconds_per_byte(self, file: pq.ParquetFile) -> float:
        """Tell how long a byte is in the first recording."""
        for batch in file.iter_batches(1, columns=[self.audio], use_threads=False):
            data = _bytes_of(batch.column(0)[0].as_py())
            return seconds_of(io.BytesIO(data), len(data)) / len(data) if data else 1 / BYTES_PER_SECOND
        return 1 / BYTES_PER_SECOND

    def _n_bytes(self, file: pq.ParquetFile, i: int) -> int:
        """Count the bytes of audio in a row group."""
        group = file.metadata.row_group(i)
        columns = (group.column(j) for j in range(group.num_columns))
        named = (self.audio, f"{self.audio}.bytes")
        return sum(column.total_uncompressed_size for column in columns if column.path_in_schema in named)

    def measure(self, one: Input) -> tuple[int, float]:
        return one.size, one.seconds


def audio_column(schema: pa.Schema, path: str) -> str:
    """Name the column that holds audio.

    Raises:
        SilkInputError: there is none, or several of which none is named ``audio``.
    """
    names = [field.name for field in schema if _is_audio(field.type)]
    if "audio" in names or len(names) == 1:
        return "audio" if "audio" in names else names[0]
    raise SilkInputError(f"{printable(path)}: expected one column of audio as bytes, or one named audio, found {names}")


def _is_audio(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_audio(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _bytes_of(value: Any) -> bytes:
    """Give the bytes of a value of the column of audio; none of a null."""
    return (value.get("bytes") if isinstance(value, dict) else value) or b""


def _open(root: str, path: str) -> pq.ParquetFile:
    return pq.ParquetFile(os.path.join(root, path), buffer_size=_BUFFER, pre_buffer=False)


def _leaves(file: pq.ParquetFile) -> set[str]:
    return {file.schema.column(i).path for i in range(len(file.schema))}


def _line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()) or type(error).__name__)


def read_tables(root: str, inputs: Sequence[Input]) -> Iterator[Opened]:
    """Read recordings out of Parquet files, with the other columns of their rows."""
    for path, group in groupby(inputs, lambda one: one.path):
        waiting = {one.offset: one for one in group}
        try:
            with _open(root, path) as file:
                audio = audio_column(file.schema_arrow, path)
                for row, values in _rows(file, waiting):
                    one = waiting.pop(row)
                    data = _bytes_of(values.pop(audio))
                    yield [one], spooled([data], one.id, values) if data else failing(one.id, "holds no bytes of audio")
        except (*_DAMAGE, SilkInputError) as error:
            reason = f"its row cannot be read: {_line(error)}"
            yield from (([one], failing(one.id, reason)) for one in waiting.values())
        else:
            yield from (([one], failing(one.id, "its row is not there")) for one in waiting.values())


def _rows(file: pq.ParquetFile, wanted: Mapping[int, Input]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the wanted rows, and no row group before the first or behind the last."""
    least, most, first = min(wanted), max(wanted), 0
    groups: list[int] = []
    rows: list[range] = []
    for i in range(file.num_row_groups):
        these = range(first, first + file.metadata.row_group(i).num_rows)
        first = these.stop
        if these.start <= most and these.stop > least:
            groups.append(i)
            rows.append(these)
    numbers = chain.from_iterable(rows)
    names = [name for name in file.schema_arrow.names if name != "id"]
    for batch in file.iter_batches(_ROWS, row_groups=groups, columns=names, use_threads=False):
        for i, row in zip(range(batch.num_rows), numbers, strict=False):
            if row in wanted:
                yield row, {name: batch.column(j)[i].as_py() for j, name in enumerate(batch.schema.names)}
