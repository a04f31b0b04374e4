"""Manifests, JSON Lines or CSV: a line is a recording or a part of one; what else it holds is passed through."""

import csv
import json
import math
import os
from collections.abc import Iterator
from typing import Any, TextIO

import pyarrow as pa

from silk_fast.arguments import shown
from silk_fast.errors import SilkInputError
from silk_fast.files import cannot_read, printable
from silk_fast.runtime.tokenize.sources import Input, check_columns, id_of, is_text, measure_file, refused

_OWN = ("path", "id", "start", "end")
_Row = dict[str, Any]
_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


class Manifest:
    """The lines of a manifest: a :class:`~silk_fast.runtime.tokenize.sources.Source`.

    A line has ``path``, relative to the folder of the manifest, and may have ``id``, ``start`` and ``end`` in seconds.
    Other columns of CSV are text; those of JSON are of the type that all their values have, or the text of their JSON.

    Args:
        path: of a file whose name ends in ``.csv``, or of JSON Lines.

    Raises:
        SilkInputError: it cannot be read, or a column has a name that shards have.
    """

    kind = "files"

    def __init__(self, path: str) -> None:
        self.path, self.root = path, os.path.dirname(path)
        types: dict[str, Any] = {}
        for _, row, _ in self._rows():
            for name, value in row.items():
                if name not in _OWN:
                    types[name] = _widened(types.get(name), value)
        self.columns = [pa.field(name, _TYPES.get(kind, pa.string())) for name, kind in types.items()]
        self._as_json = {name for name, kind in types.items() if kind is object}
        check_columns(types, path)

    def inputs(self) -> Iterator[Input]:
        """List the lines."""
        name = os.path.basename(self.path)
        for i, row, why in self._rows():
            if why:
                yield refused(f"line {i}", name, "manifest", why)
                continue
            try:
                yield self._input(row)
            except SilkInputError as error:
                yield refused(str(row.get("id") or row.get("path") or f"line {i}"), name, "manifest", str(error))

    def _input(self, row: _Row) -> Input:
        path = row.get("path")
        if not isinstance(path, str) or not path or not is_text(path):
            raise SilkInputError(f"path must be the name of a file, in UTF-8, got {shown(path)}")
        start, end = (_seconds(row, name) for name in ("start", "end"))
        if end is not None and end <= (start or 0.0):
            raise SilkInputError(f"end must be behind start, got {start} and {end}")
        id = row.get("id")
        if id is None or id == "":
            id = id_of(path) + (
                "" if start is end is None else f"@{start or 0.0:g}-{'' if end is None else f'{end:g}'}"
            )
        elif isinstance(id, bool) or not isinstance(id, int | str):
            raise SilkInputError(f"id must be text or a whole number, got {shown(id)}")
        values = {field.name: self._value(row, field.name) for field in self.columns}
        return Input(str(id), path, start=start, end=end, values=values)

    def _value(self, row: _Row, name: str) -> Any:
        value = row.get(name)
        if value is None or name not in self._as_json:
            return value
        return json.dumps(value, ensure_ascii=False, sort_keys=True)

    def measure(self, one: Input) -> tuple[int, float]:
        size, seconds = measure_file(os.path.join(self.root, one.path))
        end = seconds if one.end is None else one.end
        return size, max(0.0, end - (one.start or 0.0))

    def _rows(self) -> Iterator[tuple[int, _Row, str]]:
        """Read the lines that are not empty: the number of each, what it holds, and why it is refused."""
        is_csv = self.path.lower().endswith(".csv")
        try:
            with open(
                self.path, encoding="utf-8-sig", errors="surrogateescape", newline="" if is_csv else "\n"
            ) as file:
                yield from _rows_of_csv(file) if is_csv else _rows_of_json(file)
        except OSError as error:
            raise SilkInputError(str(cannot_read(printable(self.path), error, "manifest"))) from error
        except csv.Error as error:
            raise SilkInputError(f"{printable(self.path)}: {error}, expected CSV with a line of names") from error


def _rows_of_csv(file: TextIO) -> Iterator[tuple[int, _Row, str]]:
    reader = csv.DictReader(file, strict=True)
    names = reader.fieldnames or []
    if "path" not in names or len(set(names)) < len(names) or not all(map(is_text, names)):
        raise csv.Error(f"its columns are {', '.join(map(shown, names))}, none twice and one of them path")
    for row in reader:
        if None in row or None in row.values():
            yield reader.line_num, {}, f"expected {len(names)} values, as many as columns"
        elif not all(map(is_text, row.values())):
            yield reader.line_num, {}, "expected UTF-8"
        else:
            yield reader.line_num, row, ""


def _rows_of_json(file: TextIO) -> Iterator[tuple[int, _Row, str]]:
    for i, line in enumerate(file, 1):
        if line.strip():
            yield i, *_row_of_json(line)


def _row_of_json(line: str) -> tuple[_Row, str]:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # also of what is not UTF-8
        return {}, f"expected an object of JSON in UTF-8: {printable(str(error))}"
    return (row, "") if isinstance(row, dict) else ({}, f"expected an object of JSON, got {shown(row)}")


def _seconds(row: _Row, name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise SilkInputError(f"{name} must be a number of seconds >= 0, got {shown(value)}")
    return seconds


def _widened(kind: type | None, value: Any) -> type | None:
    """Give the type of a column that has held ``kind``, once it holds ``value`` as well: object is anything."""
    if value is None:
        return kind
    found: type = type(value) if type(value) in _TYPES else object
    if found is int and not -(2**63) <= value < 2**63:
        found = object
    if kind is None or kind is found:
        return found
    return float if {kind, found} == {int, float} else object
