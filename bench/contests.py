"""Rows of one case against each other: which are rivals, and which of their times may be compared."""

from collections.abc import Iterable
from dataclasses import dataclass

from silk_fast.benchmark.codec import OURS
from silk_fast.benchmark.rows import OK, Row, Timing


@dataclass(frozen=True)
class Contest:
    """One case on one machine: the row of every provider, by name."""

    rows: dict[str, Row]

    @property
    def ours(self) -> Row | None:
        """Our row, if it has a figure."""
        row = self.rows.get("ours")
        return row if row is not None and row.status == OK else None

    def speedups(self) -> list[tuple[str, float]]:
        """(rival, its time / ours) of every rival that has a figure of the same run: machines drift, code changes."""
        if self.ours is None:
            return []
        rivals = [row for row in self.rows.values() if row.provider not in OURS and row.status == OK]
        return [(row.provider, ratio(row, self.ours)) for row in rivals if row.date == self.ours.date]


def comparable(a: Row, b: Row) -> tuple[Timing, Timing]:
    """Times of two rows that mean the same: of the device if both are of CUDA graphs or both are not, else of calls."""
    if a.kernel and b.kernel and a.captured == b.captured:
        return a.kernel, b.kernel
    return a.call, b.call


def ratio(rival: Row, ours: Row) -> float:
    """How many times longer the rival takes."""
    theirs, mine = comparable(rival, ours)
    return theirs.p50 / mine.p50


def overlap(a: Row, b: Row) -> bool:
    """Whether the ranges p20 .. p80 of the times that :func:`ratio` compares meet."""
    first, second = comparable(a, b)
    return first.p20 <= second.p80 and second.p20 <= first.p80


def case_key(row: Row) -> tuple:
    """What the rows of one contest share."""
    return tuple(getattr(row, name) for name in ("section", "op", "case", "shape", "dtype", "direction", "threads"))


def of_last_run(rows: Iterable[Row]) -> list[Row]:
    """Of every case the rows of the last run among them."""
    rows = list(rows)
    last: dict[tuple, str] = {}
    for row in rows:
        last[case_key(row)] = max(row.date, last.get(case_key(row), ""))
    return [row for row in rows if row.date == last[case_key(row)]]


def contests(rows: Iterable[Row]) -> list[Contest]:
    """Rows by case, in the order in which cases first appear."""
    found: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(case_key(row), {})[row.provider] = row
    return [Contest(by_provider) for by_provider in found.values()]
