"""Result rows and the files that hold them.

A file is one JSON object ``{"format": 1, "rows": [...]}``. It is written anew, atomically, whenever a row arrives, so
a run that is killed loses the case in progress and nothing else.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from silk_fast.errors import SilkInputError
from silk_fast.files import atomic_file

FORMAT = 1
OK = "ok"


def dtype_name(dtype: torch.dtype) -> str:
    """``float16`` for ``torch.float16``."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: the 20th, 50th and 80th percentile of many.

    Args:
        p20, p50, p80: milliseconds.
        noisy: the median is not known to 10 %.
    """

    p20: float
    p50: float
    p80: float
    noisy: bool


@dataclass(frozen=True)
class Row:
    """One provider's figure for one case, or the reason why there is none.

    What follows ``repeat`` is of the run; :class:`ResultWriter` fills it in.
    """

    section: str  # "card" (copy bandwidth, matmul rate), "ops", "codec", "libraries" (codecs of others) or "reading"
    op: str  # "copy", "matmul", "snake", ..., "encode", "decode", "encode_frame"
    case: str  # what people call the shape: "Silk small 24 kHz, 10 s, batch 8"
    shape: str  # "8x32x240000"
    dtype: str
    direction: str  # "forward" or "backward"
    provider: str  # "ours", "eager", "compile", "compile-max", or a rival's name
    threads: int | None = None  # of the CPU; None on a GPU
    status: str = OK  # or why there is no figure: "absent: ...", "failed: ...", "skipped: ..."
    call: Timing | None = None  # wall-clock time of a call, launch overhead and synchronisation included
    kernel: Timing | None = None  # time on the device; None on a CPU
    captured: bool | None = None  # None; a field of early files
    bytes: int | None = None  # least traffic by formula
    flops: int | None = None  # arithmetic by formula
    share: float | None = None  # of this machine's measured ceiling, roofline time / measured time
    ceiling: str | None = None  # "bandwidth" or "compute", whichever bounds the case
    seconds: float | None = None  # of audio in the call
    peak_bytes: int | None = None  # peak memory of the call
    repeat: str | None = None  # None; in early files, whether measuring it again "confirmed" or "contradicted" it
    commit: str = ""  # with "+dirty" if tracked files differ from it; the version where git cannot say
    device: str = ""  # what the vendor calls it; for a CPU with the number of its logical cores
    driver: str | None = None  # of the GPU; None on a CPU
    torch: str = ""
    triton: str | None = None  # None where it is absent
    python: str = ""
    date: str = ""  # UTC, ISO 8601, to the second

    @property
    def case_key(self) -> tuple:
        """What rows of one case by several providers share."""
        names = ("device", "section", "op", "case", "shape", "dtype", "direction", "threads")
        return tuple(getattr(self, name) for name in names)

    @property
    def timing(self) -> Timing:
        """Time on the device; of the whole call where only that is known. The row must have a figure."""
        timing = self.kernel or self.call
        assert timing is not None, f"no figure: {self.status}"
        return timing

    @property
    def realtime(self) -> float:
        """Seconds of audio per second of a call. The row must have a figure."""
        assert self.call is not None, f"no figure: {self.status}"
        return 1e3 * (self.seconds or 0.0) / self.call.p50


class ResultWriter:
    """Rows of a run, and a result file that is complete after every one.

    Args:
        path: of the file; its directory is made if absent, and an existing file is replaced at the first row. None to
            write no file.
        provenance: what every row gets.
    """

    def __init__(self, path: Path | None, provenance: dict[str, Any]) -> None:
        self.path, self.provenance = path, provenance
        self.rows: list[Row] = []
        self._lines: list[str] = []

    def add(self, *rows: Row) -> None:
        """Write ``rows`` to the file, with the provenance.

        Raises:
            SilkFileError: the file cannot be written.
        """
        complete = [replace(row, **self.provenance) for row in rows]
        self.rows += complete
        self._lines += [json.dumps(asdict(row), allow_nan=False) for row in complete]
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.write(self.path)

    def write(self, path: str | os.PathLike) -> None:
        """Write a result file of all rows so far, or the same to a pipe or a device.

        Raises:
            SilkFileError: it cannot be written.
        """
        lines = ",\n".join(self._lines)
        with atomic_file(path) as file:
            file.write(f'{{"format": {FORMAT}, "rows": [\n{lines}\n]}}\n'.encode())


def read_results(path: str | os.PathLike) -> list[Row]:
    """The rows of a result file.

    Raises:
        SilkInputError: the file is unreadable, no result file, of another format, or a row has not the fields of a row;
            the message names file, row and field.
    """
    name = os.fspath(path)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SilkInputError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SilkInputError(f"{name}: expected a JSON result file, got {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("rows"), list):
        raise SilkInputError(f'{name}: expected an object with "format": {FORMAT} and a list "rows"')
    return list(_rows(name, content["rows"]))


def _rows(name: str, rows: Iterable[dict]) -> Iterable[Row]:
    """Rows of plain values, as JSON holds them."""
    for i, values in enumerate(rows):
        try:
            times = {field: Timing(**values[field]) for field in ("call", "kernel") if values[field]}
            yield Row(**{**values, **times})
        except (TypeError, KeyError) as error:
            raise SilkInputError(f"{name}: row {i}: {error}") from error
