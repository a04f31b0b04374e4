"""Rows against each other: of one case by several providers, and of one measurement in several runs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from silk_fast.benchmark.codec_cases import OURS
from silk_fast.benchmark.rows import CONFIRMED, OK, Row, Timing


@dataclass(frozen=True)
class Contest:
    """One case on one machine: the row of every provider, by name."""

    rows: dict[str, Row]

    @property
    def ours(self) -> Row | None:
        """Our row, if it has a figure."""
        row = self.rows.get("ours")
        return row if row is not None and row.status == OK else None

    @property
    def any_row(self) -> Row:
        """A row, for what all share."""
        return self.ours or next(iter(self.rows.values()))

    def speedups(self) -> dict[str, float]:
        """Time / ours of every rival that has a figure of the same run: machines drift, code changes."""
        ours = self.ours
        if ours is None:
            return {}
        rivals = [row for row in self.rows.values() if row.provider not in OURS and row.status == OK]
        return {row.provider: ratio(row, ours) for row in rivals if row.date == ours.date}


def contests(rows: Iterable[Row], section: str) -> list[Contest]:
    """Group the rows of a section by machine and case, in the order in which cases first appear."""
    found: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.section == section:
            found.setdefault(_case_key(row), {})[row.provider] = row
    return [Contest(by_provider) for by_provider in found.values()]


def _case_key(row: Row) -> tuple:
    names = ("device", "section", "op", "case", "shape", "dtype", "direction", "threads")
    return tuple(getattr(row, name) for name in names)


def comparable(a: Row, b: Row) -> tuple[Timing, Timing]:
    """Times of two rows that mean the same: of the device if both are of CUDA graphs or both are not, else of calls."""
    if a.kernel and b.kernel and a.captured == b.captured:
        return a.kernel, b.kernel
    assert a.call is not None, a.status
    assert b.call is not None, b.status
    return a.call, b.call


def ratio(rival: Row, ours: Row) -> float:
    """How many times longer the rival takes."""
    theirs, mine = comparable(rival, ours)
    return theirs.p50 / mine.p50


def overlap(a: Row, b: Row) -> bool:
    """Whether the ranges p20 .. p80 of the times that :func:`ratio` compares meet."""
    first, second = comparable(a, b)
    return first.p20 <= second.p80 and second.p20 <= first.p80


def latest(rows: Iterable[Row]) -> list[Row]:
    """Of every measurement on every device the last row, marked by what the last run before it found.

    A row that was left out hides none before it. Earlier runs may be of other code; ranges that overlap confirm each
    other.
    """
    found: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.date):
        found.setdefault((row.device, *row.key), []).append(row)
    return [_latest(runs) for runs in found.values()]


def _latest(runs: list[Row]) -> Row:
    """Of rows in order of time."""
    last = next((row for row in reversed(runs) if not row.is_left_out), runs[-1])
    earlier = next((row for row in reversed(runs) if row.status == OK and row.date < last.date), None)
    if last.status != OK or earlier is None:
        return last
    return replace(last, repeat=last.repeat or CONFIRMED) if overlap(last, earlier) else last.confirmed_by(earlier)
