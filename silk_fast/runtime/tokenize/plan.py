"""The plan of a run: every input in a stable order, cut into units of work, in ``plan.parquet``.

Shards follow from it alone, so that it does not matter who makes which unit, when, and how often.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from silk_fast.errors import SilkFileError, SilkInputError
from silk_fast.files import atomic_file, cannot_write, printable
from silk_fast.runtime.tokenize.sources import Input, Source

PLAN = "plan.parquet"
METADATA = b"silk_fast"
"""Key of the schema's metadata under which plans and shards have the settings, as JSON."""

# The same bytes for the same rows, which "now" and "here" are not to change.
WRITER: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "data_page_version": "1.0",
    "write_statistics": True,
}
COLUMN = "column."  # before the names of columns that are passed through
MOST_INPUTS = 10_000  # of a unit, however short they are
_FIELDS = [
    pa.field("unit", pa.int32()),
    pa.field("id", pa.string()),
    pa.field("path", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("size", pa.int64()),
    pa.field("start", pa.float64()),
    pa.field("end", pa.float64()),
    pa.field("seconds", pa.float64()),
    pa.field("kind", pa.string()),
    pa.field("reason", pa.string()),
]
_ROWS = 10_000  # of a row group
_READERS = 8  # threads that read headers: mostly they wait

Settings = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is known of a plan without its inputs.

    Args:
        path: of its file.
        settings: on which shards depend.
        n_inputs: in all.
        seconds: expected of each unit.
    """

    path: str
    settings: Settings
    n_inputs: int
    seconds: list[float]


def settle_plan(out: str, source: Source, settings: Settings, unit_hours: float) -> Plan:
    """Write the plan of ``source`` into the folder ``out``, or find that the same is there.

    Raises:
        SilkInputError: the source holds nothing, or the folder shards of another plan.
        SilkFileError: the plan cannot be written.
    """
    path = os.path.join(out, PLAN)
    if os.path.exists(path):
        _check_settings(path, settings)
    elif strays := [name for name in os.listdir(out) if name.startswith(("part-", "errors-"))]:
        raise SilkInputError(
            f"{out}: has {printable(min(strays))} but no {PLAN}, expected a new folder or that of a run"
        )
    try:
        with tempfile.TemporaryFile(dir=out) as file:
            _write(file, source, settings, unit_hours)
            if not os.path.exists(path):
                file.seek(0)
                with atomic_file(path) as target:
                    shutil.copyfileobj(file, target, 2**20)
            elif not _holds(path, file):
                raise SilkInputError(
                    f"{out}: holds the plan of other inputs than {printable(source.root) or '.'} has now, "
                    "expected the same as when it was begun, or a new folder"
                )
    except OSError as error:
        raise cannot_write(path, error) from error
    return read_plan(path)


def _check_settings(path: str, settings: Settings) -> None:
    found = _settings_of(path)
    for name in sorted(found.keys() | settings.keys()):
        if found.get(name) != settings.get(name):
            raise SilkInputError(
                f"{os.path.dirname(path)}: holds tokens with {name} {found.get(name)}, expected {settings.get(name)} "
                "as asked for, or a new folder"
            )


def _settings_of(path: str) -> Settings:
    try:
        return json.loads(pq.read_schema(path).metadata[METADATA])
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise SilkInputError(f"{path}: is no plan of silk tokenize, expected that of an earlier run") from error


def schema_of(fields: Iterable[pa.Field], settings: Settings) -> pa.Schema:
    """Make a schema whose metadata have the settings."""
    return pa.schema(list(fields), {METADATA: json.dumps(settings, sort_keys=True)})


def _write(file: BinaryIO, source: Source, settings: Settings, unit_hours: float) -> None:
    fields = [*_FIELDS, *(field.with_name(COLUMN + field.name) for field in source.columns)]
    schema = schema_of(fields, settings)
    inputs = numbered(distinct(_measured(source)), 3600 * unit_hours)
    with pq.ParquetWriter(file, schema, **WRITER) as writer:
        n_written = 0
        while some := list(islice(inputs, _ROWS)):
            writer.write_table(pa.Table.from_pylist([_row(unit, one) for unit, one in some], schema))
            n_written += len(some)
    if not n_written:
        raise SilkInputError(f"{printable(source.root)}: holds no audio, expected at least one recording")
    file.flush()


def _row(unit: int, one: Input) -> dict[str, Any]:
    row = {field.name: getattr(one, field.name) for field in _FIELDS[1:]}
    return row | {"unit": unit} | {COLUMN + name: value for name, value in one.values.items()}


def _measured(source: Source) -> Iterator[Input]:
    """List inputs with their sizes and durations, for which headers are read."""

    def measured(one: Input) -> Input:
        if one.kind:
            return one
        size, seconds = source.measure(one)
        return replace(one, size=size, seconds=seconds)

    inputs = source.inputs()
    with ThreadPoolExecutor(_READERS) as pool:
        while some := list(islice(inputs, 32 * _READERS)):
            yield from pool.map(measured, some)


def distinct(inputs: Iterable[Input]) -> Iterator[Input]:
    """Refuse inputs whose id an earlier one has, or that have none."""
    seen: set[str] = set()
    for one in inputs:
        if not one.kind and not one.id:
            one = replace(one, kind="id", reason="has an empty id")
        elif not one.kind and one.id in seen:
            one = replace(one, kind="duplicate", reason=f"{one.path}: an earlier input has this id")
        elif not one.kind:
            seen.add(one.id)
        yield one


def numbered(inputs: Iterable[Input], unit_seconds: float) -> Iterator[tuple[int, Input]]:
    """Cut inputs into units, each ended by the input that makes it ``unit_seconds`` long."""
    unit, seconds, n_inputs = 0, 0.0, 0
    for one in inputs:
        if seconds >= unit_seconds or n_inputs == MOST_INPUTS:
            unit, seconds, n_inputs = unit + 1, 0.0, 0
        seconds, n_inputs = seconds + one.seconds, n_inputs + 1
        yield unit, one


def _holds(path: str, file: BinaryIO) -> bool:
    """Tell whether the file at ``path`` holds what ``file`` does."""
    file.seek(0)
    with open(path, "rb") as other:
        while True:
            ours, theirs = file.read(2**20), other.read(2**20)
            if ours != theirs:
                return False
            if not ours:
                return True


def read_plan(path: str) -> Plan:
    """Read what is known of a plan.

    Raises:
        SilkInputError: it is none.
    """
    settings = _settings_of(path)
    seconds: list[float] = []
    n_inputs = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(_ROWS, columns=["unit", "seconds"], use_threads=False):
            n_inputs += batch.num_rows
            for unit, some in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                seconds.extend([0.0] * (unit + 1 - len(seconds)))
                seconds[unit] += some
    return Plan(path, settings, n_inputs, seconds)


def columns_of(path: str) -> list[pa.Field]:
    """List the columns that the shards of a plan pass through."""
    schema = pq.read_schema(path)
    return [field.with_name(field.name.removeprefix(COLUMN)) for field in schema if field.name.startswith(COLUMN)]


def read_unit(path: str, unit: int) -> list[Input]:
    """Read the inputs of a unit."""
    names = [field.name for field in _FIELDS]
    with pq.ParquetFile(path, pre_buffer=False) as file:
        groups = [i for i in range(file.num_row_groups) if _may_hold(file.metadata.row_group(i), unit)]
        table = file.read_row_groups(groups, use_threads=False)
    table = table.filter(pc.equal(table["unit"], unit))
    inputs = []
    for row in table.to_pylist():
        values = {name.removeprefix(COLUMN): value for name, value in row.items() if name.startswith(COLUMN)}
        inputs.append(Input(values=values, **{name: row[name] for name in names[1:]}))
    if not inputs:
        raise SilkFileError(f"{path}: has no unit {unit}")
    return inputs


def _may_hold(group: Any, unit: int) -> bool:
    statistics = group.column(0).statistics
    return statistics is None or statistics.min <= unit <= statistics.max
