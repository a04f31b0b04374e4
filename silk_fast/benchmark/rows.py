"""Result rows and the files that hold them.

A file is one JSON object ``{"format": 1, "rows": [...]}``. It is written anew, atomically, whenever a row arrives, so
a run that is killed loses the case in progress and nothing else.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from math import isfinite
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import torch

from silk_fast import __version__
from silk_fast.benchmark.limit import TimeLimit
from silk_fast.errors import SilkInputError
from silk_fast.files import atomic_file

FORMAT = 1
NOISE = 0.1  # medians that differ by more than this share do not confirm each other
OK = "ok"
CONFIRMED, CONTRADICTED = "confirmed", "contradicted"
ROOT = Path(__file__).resolve().parents[2]
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


def failure(error: BaseException) -> str:
    """Status of a row whose provider raised: ``"failed: OutOfMemoryError: ..."``, on one line of modest length."""
    if isinstance(error, TimeLimit):
        return f"skipped: time budget, {error}"
    return f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:300]


def disagree(a: float, b: float) -> bool:
    """Whether two medians are too far apart to be the same figure."""
    return bool(max(a, b) > (1 + NOISE) * min(a, b))


@dataclass(frozen=True)
class Provenance:
    """Where, when and of what code a row was measured.

    Args:
        commit: of this repository, with ``+dirty`` if tracked files differ from it, ``+unchecked`` where git cannot
            say; the version if there is no repository.
        device: what the vendor calls it; for a CPU with the number of its logical cores.
        driver: of the GPU; None on a CPU.
        torch, triton, python: versions; triton None where it is absent.
        date: UTC, ISO 8601, to the second.
    """

    commit: str
    device: str
    driver: str | None
    torch: str
    triton: str | None
    python: str
    date: str


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


# ---------------------------------------------------------------- provenance


def provenance(device: torch.device | str) -> Provenance:
    """Of the code, the machine and the moment."""
    device = torch.device(device)
    is_gpu = device.type == "cuda"
    return Provenance(
        commit=_commit(),
        device=torch.cuda.get_device_name(device) if is_gpu else cpu_name(),
        driver=_driver() if is_gpu else None,
        torch=torch.__version__,
        triton=_triton_version(),
        python=platform.python_version(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def cpu_name() -> str:
    """``"AMD EPYC 7B13 (2 cores)"``."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def _output(*command: str | os.PathLike) -> str | None:
    """What a command prints; None if it is absent or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _commit() -> str:
    # A package installed in a virtual environment may lie inside an unrelated repository.
    top = _output("git", "-C", ROOT, "rev-parse", "--show-toplevel")
    if top is None and (commit := _commit_on_disk(ROOT / ".git")):
        return f"{commit[:10]}+unchecked"
    if top is None or Path(top).resolve() != ROOT:
        return f"v{__version__}"
    commit = _output("git", "-C", ROOT, "rev-parse", "--short=10", "HEAD") or "unknown"
    changed = _output("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if changed else commit


def _commit_on_disk(git: Path) -> str | None:
    """The commit that ``.git`` names, read without git, which may be absent or refuse another user's files."""
    try:
        if git.is_file():  # of a worktree: "gitdir: <path>"
            git = git.parent / git.read_text().strip().removeprefix("gitdir: ")
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        if (common / ref).is_file():
            return (common / ref).read_text().strip()
        packed = (line.split() for line in (common / "packed-refs").read_text().splitlines())
        return next((words[0] for words in packed if words[1:] == [ref]), None)
    except OSError:
        return None


def _driver() -> str:
    driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return f"{driver.splitlines()[0] if driver else 'unknown'} (CUDA {torch.version.cuda})"


def _triton_version() -> str | None:
    try:
        import triton
    except ImportError:
        return None
    return triton.__version__


# ---------------------------------------------------------------- files


def slug(text: str) -> str:
    """``"NVIDIA GeForce RTX 3090"`` as part of a file name: ``"nvidia-geforce-rtx-3090"``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def result_path(directory: str | os.PathLike, where: Provenance) -> Path:
    """``<device>-<date>-<commit>.json`` in ``directory``, with a number behind it if that exists."""
    stem = f"{slug(where.device)}-{where.date[:10]}-{slug(where.commit)}"
    path, i_run = Path(directory) / f"{stem}.json", 1
    while path.exists():
        i_run += 1
        path = path.with_name(f"{stem}-{i_run}.json")
    return path


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

    def get(self, key: tuple) -> Row | None:
        """The row of a key; None if there is none."""
        return self._rows.get(key)

    def add(self, row: Row) -> Row:
        """Write ``row`` to the file, with the provenance; it replaces one of the same key. Returns what was written.

        Raises:
            SilkInputError: a field has a value that :func:`read_results` would refuse.
            SilkFileError: the file cannot be written.
        """
        (row,) = self.extend([row])
        return row

    def extend(self, rows: Iterable[Row]) -> list[Row]:
        """:meth:`add` of many at once."""
        rows = [replace(row, **asdict(self.provenance)) for row in rows]
        rows = [row.confirmed_by(self._earlier[row.key]) if row.key in self._earlier else row for row in rows]
        for row in rows:
            values = asdict(row)
            _row(str(self.path), len(self._rows), values)
            self._rows[row.key] = row
            self._lines[row.key] = json.dumps(values, allow_nan=False)
        _write_lines(self.path, self._lines.values())
        return rows


def write_results(path: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Write a result file, atomically.

    Raises:
        SilkFileError: the file cannot be written.
    """
    _write_lines(path, (json.dumps(asdict(row), allow_nan=False) for row in rows))


def _write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    """Write rows that are JSON already, one a line."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(lines)
    with atomic_file(path) as file:
        file.write(f'{{"format": {FORMAT}, "rows": [\n{rows}\n]}}\n'.encode())


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


def _is_a(value: object, kind: type) -> bool:
    if kind is Timing:
        return isinstance(value, dict)
    if kind is float:
        return type(value) in (int, float) and isfinite(value)
    if kind is int:
        return type(value) is int and abs(value) < sys.maxsize
    return isinstance(value, kind)
