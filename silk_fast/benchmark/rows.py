"""Result rows and the files that hold them.

A file is one JSON object ``{"format": 1, "rows": [...]}``. It is written anew, atomically, whenever a row arrives, so
a run that is killed loses the case in progress and nothing else.
"""

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import torch

from silk_fast.benchmark.provenance import Provenance
from silk_fast.errors import SilkInputError
from silk_fast.files import atomic_file

FORMAT = 1
NOISE = 0.1  # medians that differ by more than this share do not confirm each other
OK = "ok"
CONFIRMED, CONTRADICTED = "confirmed", "contradicted"
CHOICES = {
    "section": ("card", "ops", "codec"),
    "direction": ("forward", "backward"),
    "ceiling": ("bandwidth", "compute", None),
    "repeat": (CONFIRMED, CONTRADICTED, None),
}
LATER_FIELDS = ("captured", "repeat")  # early files do not have them


def dtype_name(dtype: torch.dtype) -> str:
    """``float16`` for ``torch.float16``."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: the 20th, 50th and 80th percentile of many.

    Args:
        p20, p50, p80: milliseconds.
        noisy: two halves of the run, or the run and a repeat, disagree by more than 10 % in the median.
    """

    p20: float
    p50: float
    p80: float
    noisy: bool

    def confirmed_by(self, repeat: "Timing") -> "Timing":
        """This timing, marked noisy also if the repeat is, or has another median."""
        return replace(self, noisy=self.noisy or repeat.noisy or disagree(self.p50, repeat.p50))


def disagree(a: float, b: float) -> bool:
    """Whether two medians are too far apart to be the same figure."""
    return bool(max(a, b) > (1 + NOISE) * min(a, b))


@dataclass(frozen=True)
class Row:
    """One provider's figure for one case, or the reason why there is none.

    Args:
        section: ``"card"`` (copy bandwidth, matmul rate), ``"ops"`` or ``"codec"``.
        op: ``"copy"``, ``"matmul"``, ``"snake"``, ..., ``"encode"``, ``"decode"``, ``"encode_frame"``.
        case: what people call the shape: ``"Silk small 24 kHz, 10 s, batch 8"``.
        shape: ``"8x32x240000"``.
        dtype: ``"float32"``.
        direction: ``"forward"`` or ``"backward"``.
        provider: ``"ours"``, ``"eager"``, ``"compile"``, ``"compile-max"``, or a rival's name.
        threads: of the CPU; None on a GPU.
        status: ``"ok"``, or why there is no figure: ``"absent: ..."``, ``"failed: ..."``, ``"skipped: ..."``.
        call: wall-clock time of a call, launch overhead and synchronisation included.
        kernel: time on the device; None on a CPU.
        captured: whether ``kernel`` is of the call as one CUDA graph; if not, it is of the call's own launches, gaps
            between them included. None without ``kernel``, and in early files.
        bytes: least traffic by formula.
        flops: arithmetic by formula.
        share: of this machine's measured ceiling, roofline time / measured time.
        ceiling: ``"bandwidth"`` or ``"compute"``, whichever bounds the case.
        seconds: of audio in the call.
        peak_bytes: peak memory of the call.
        repeat: whether measuring it again ``"confirmed"`` or ``"contradicted"`` it; None if that was not done.
        commit ... date: see :class:`Provenance`; :meth:`ResultWriter.add` fills them in.
    """

    section: str
    op: str
    case: str
    shape: str
    dtype: str
    direction: str
    provider: str
    threads: int | None = None
    status: str = OK
    call: Timing | None = None
    kernel: Timing | None = None
    captured: bool | None = None
    bytes: int | None = None
    flops: int | None = None
    share: float | None = None
    ceiling: str | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    repeat: str | None = None
    commit: str = ""
    device: str = ""
    driver: str | None = None
    torch: str = ""
    triton: str | None = None
    python: str = ""
    date: str = ""

    @property
    def key(self) -> tuple:
        """What makes two rows of one machine the same measurement."""
        names = ("section", "op", "case", "shape", "dtype", "direction", "provider", "threads")
        return tuple(getattr(self, name) for name in names)

    @property
    def timing(self) -> Timing:
        """Time on the device; of the whole call where only that is known. The row must have a figure."""
        timing = self.kernel or self.call
        assert timing is not None, f"no figure: {self.status}"
        return timing

    @property
    def model(self) -> str:
        """The codec or layer: ``"Silk small 24 kHz"``."""
        return self.case.split(",")[0]

    @property
    def realtime(self) -> float:
        """Seconds of audio per second of a call. The row must have a figure."""
        assert self.call is not None, f"no figure: {self.status}"
        return 1e3 * (self.seconds or 0.0) / self.call.p50

    @property
    def is_left_out(self) -> bool:
        """Whether it was not measured for reasons that say nothing of the provider: no time, or no such device."""
        return self.status.startswith(("skipped", "absent"))

    def confirmed_by(self, repeat: "Row") -> "Row":
        """This row, its times marked noisy where those of a repeat disagree; unchanged if either has no figure."""
        names = ("call", "kernel") if self.captured == repeat.captured else ("call",)
        pairs = {name: (getattr(self, name), getattr(repeat, name)) for name in names}
        pairs = {name: (mine, its) for name, (mine, its) in pairs.items() if mine and its}
        if not pairs:
            return self
        agree = self.repeat != CONTRADICTED and not any(disagree(mine.p50, its.p50) for mine, its in pairs.values())
        times = {name: mine.confirmed_by(its) for name, (mine, its) in pairs.items()}
        return replace(self, repeat=CONFIRMED if agree else CONTRADICTED, **times)


# ---------------------------------------------------------------- files


class ResultWriter:
    """A result file that is complete after every row.

    Args:
        path: of the file; its directory is made if absent. An existing file is replaced at the first row; where one
            of its medians and the new one differ by more than 10 %, the new row is marked noisy.
        provenance: what every row gets.
    """

    def __init__(self, path: str | os.PathLike, provenance: Provenance) -> None:
        self.path = Path(path)
        self.provenance = provenance
        self._earlier = {row.key: row for row in read_results(path)} if self.path.is_file() else {}
        self._rows: dict[tuple, Row] = {}
        self._lines: dict[tuple, str] = {}

    @property
    def rows(self) -> list[Row]:
        """What was added, in order."""
        return list(self._rows.values())

    def add(self, row: Row) -> Row:
        """Write ``row`` to the file, with the provenance; it replaces one of the same key. Returns what was written.

        Raises:
            SilkInputError: a field has a value that :func:`read_results` would refuse.
            SilkFileError: the file cannot be written.
        """
        (row,) = self.extend([row])
        return row

    def extend(self, rows: Iterable[Row]) -> list[Row]:
        """:meth:`add` many at once."""
        rows = [replace(row, **asdict(self.provenance)) for row in rows]
        rows = [row.confirmed_by(self._earlier[row.key]) if row.key in self._earlier else row for row in rows]
        for row in rows:
            values = asdict(row)
            _row(str(self.path), len(self._rows), values)
            self._rows[row.key] = row
            self._lines[row.key] = json.dumps(values, allow_nan=False)
        lines = ",\n".join(self._lines.values())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as file:
            file.write(f'{{"format": {FORMAT}, "rows": [\n{lines}\n]}}\n'.encode())
        return rows


def read_results(path: str | os.PathLike) -> list[Row]:
    """The rows of a result file.

    Raises:
        SilkInputError: the file is unreadable, no result file, of another format, or a field is missing, unknown, of
            the wrong type or out of range; the message names file, row and field.
    """
    name = os.fspath(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SilkInputError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SilkInputError(f"{name}: expected a JSON result file, got {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise SilkInputError(f'{name}: expected an object with "format" and a list "rows"')
    if content.get("format") != FORMAT:
        raise SilkInputError(f"{name}: format: expected {FORMAT}, got {content.get('format')!r}")
    return [_row(name, i, row) for i, row in enumerate(content["rows"])]


def _row(name: str, i_row: int, values: object) -> Row:
    """A checked row of plain values, as JSON holds it."""
    where = f"{name}: row {i_row}"
    if isinstance(values, dict):
        values = {**dict.fromkeys(LATER_FIELDS), **values}
    values = _checked(where, Row, values)
    for field, choices in CHOICES.items():
        if values[field] not in choices:
            raise SilkInputError(f"{where}: {field}: expected one of {choices}, got {values[field]!r}")
    for field in ("call", "kernel"):
        if values[field] is not None:
            timing = Timing(**_checked(f"{where}: {field}", Timing, values[field]))
            if not 0 <= timing.p20 <= timing.p50 <= timing.p80:
                raise SilkInputError(f"{where}: {field}: expected 0 <= p20 <= p50 <= p80, got {timing}")
            values[field] = timing
    return Row(**values)


def _checked(where: str, kind: type, values: object) -> dict[str, Any]:
    """``values`` if they are exactly the fields of ``kind`` with its types; dataclasses inside may be any object."""
    if not isinstance(values, dict):
        raise SilkInputError(f"{where}: expected an object, got {values!r}")
    names = [field.name for field in fields(kind)]
    if set(names) != set(values):
        wrong = min(set(names) ^ set(values))
        raise SilkInputError(f"{where}: {wrong}: {'missing' if wrong in names else 'unknown field'}")
    for field, hint in get_type_hints(kind).items():
        if not any(_is_a(values[field], option) for option in get_args(hint) or (hint,)):
            expected = " or ".join("null" if o is NoneType else o.__name__ for o in get_args(hint) or (hint,))
            raise SilkInputError(f"{where}: {field}: expected {expected}, got {values[field]!r}")
    return dict(values)


def _is_a(value: Any, kind: type) -> bool:
    if kind is Timing:
        return isinstance(value, dict)
    if kind is float:
        return type(value) in (int, float) and isfinite(value)
    if kind is int:
        return type(value) is int and abs(value) < sys.maxsize
    return isinstance(value, kind)
