"""Rows against each other: of one case by several providers, and of one measurement in several runs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

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

    @property
    def any_row(self) -> Row:
        """A row, for what all share."""
        return self.ours or next(iter(self.rows.values()))

    def speedups(self) -> dict[str, float]:
        """Time / ours of every rival that has a figure of the same run: machines drift, code changes."""
        ours = self.ours
        if ours is None:
            return {}
        rivals = [row for row in self.rows.values() if row.provider != "ours" and row.status == OK]
        return {row.provider: ratio(row, ours) for row in rivals if row.date == ours.date}


def contests(rows: Iterable[Row], section: str) -> list[Contest]:
    """Group the rows of a section by machine and case, in the order in which cases first appear."""
    found: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.section == section:
            found.setdefault(row.case_key, {})[row.provider] = row
    return [Contest(by_provider) for by_provider in found.values()]


def comparable(a: Row, b: Row) -> tuple[Timing, Timing]:
    """Times of two rows that mean the same: of the device, or else of calls."""
    if a.kernel and b.kernel:
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


def measurements(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of every measurement of several runs, in order of time.

    What was left out, for want of time or of a device, says nothing and is there only if there is nothing else.
    """
    found: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.date):
        found.setdefault((*row.case_key, row.provider), []).append(row)
    return [[row for row in runs if row.status.startswith((OK, "failed"))] or runs for runs in found.values()]


def agrees(runs: list[Row]) -> bool | None:
    """Whether the last two figures of a measurement overlap; None where there are no two."""
    figures = [row for row in runs if row.status == OK]
    return overlap(*figures[-2:]) if len(figures) > 1 else None


def latest(runs: list[Row]) -> Row:
    """The last row of a measurement; noisy if the figure before it does not agree."""
    row = runs[-1]
    if row.status != OK or row.call is None or agrees(runs) is not False:
        return row
    return replace(row, call=replace(row.call, noisy=True))
