"""What changed between two result files. ``python -m bench.difference OLD NEW``

Exit status: 0, or 1 if something that is not noisy became slower, or 2 for wrong usage or a bad file.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.summary import number, variant
from silk_fast.benchmark.rows import OK, Row, read_results
from silk_fast.errors import SilkError

REGRESSION = 1.05
KINDS = ("machine", "slower", "faster", "noisy", "only old", "only new", "equal")
TITLES = {
    "machine": "the machine itself changed, which may explain the rest",
    "noisy": "changed, but noisy",
    "only old": "only in the old file",
    "only new": "only in the new file",
    "equal": "equal within the spread",
}


@dataclass(frozen=True)
class Change:
    """One measurement in two files.

    Args:
        kind: of :data:`KINDS`.
        ratio: new time / old; infinite where it failed, 0 where it had failed before.
    """

    kind: str
    row: Row
    ratio: float = 1.0
    text: str = ""


def compare(old: Iterable[Row], new: Iterable[Row]) -> dict[str, list[Change]]:
    """Hold rows of equal key against each other, in call time and in device time; those left out count as absent.

    Returns:
        Changes by kind; what is slower or faster beyond the spread, the largest first.
    """
    before, after = ({row.key: row for row in rows if not row.is_left_out} for rows in (old, new))
    found = [_change(before[key], after[key]) for key in before if key in after]
    found += [Change("only old", row) for key, row in before.items() if key not in after]
    found += [Change("only new", row) for key, row in after.items() if key not in before]
    found.sort(key=lambda change: -change.ratio if change.kind == "slower" else change.ratio)
    return {kind: [change for change in found if change.kind == kind] for kind in KINDS}


def _change(old: Row, new: Row) -> Change:
    """What is steady counts before what is noisy."""
    if OK in (old.status, new.status) and old.status != new.status:
        is_lost = old.status == OK
        kind, ratio = ("slower", math.inf) if is_lost else ("faster", 0.0)
        return Change(kind, new, ratio, f"{old.status} -> {new.status}")
    found = []
    for what in ("call", "kernel") if old.captured == new.captured else ("call",):
        a, b = getattr(old, what), getattr(new, what)
        if a is None or b is None:
            continue
        is_slower = b.p50 > REGRESSION * a.p50 and b.p50 > a.p80 and a.p50 < b.p20
        is_faster = a.p50 > REGRESSION * b.p50 and a.p50 > b.p80 and b.p50 < a.p20
        if is_slower or is_faster:
            kind = "noisy" if a.noisy or b.noisy else "slower" if is_slower else "faster"
            kind = "machine" if new.section == "card" else kind
            found.append(Change(kind, new, b.p50 / a.p50, f"{what} {number(a.p50)} -> {number(b.p50)} ms"))
    return max(found, key=lambda change: (change.kind != "noisy", change.ratio), default=Change("equal", new))


def describe(changes: dict[str, list[Change]]) -> list[str]:
    """Lines for people: the number of each kind, and each change but for what is equal."""
    lines = []
    for kind, found in changes.items():
        if kind == "machine" and not found:
            continue
        lines.append(f"{TITLES.get(kind, kind)}: {len(found)}")
        for change in found if kind != "equal" else []:
            row, factor = change.row, f"{change.ratio:.2f}x " if 0 < change.ratio < math.inf and change.text else ""
            name = f"{row.section} {row.op} {row.direction}, {row.case}, {variant(row)}, {row.provider}"
            lines.append(f"  {name}: {factor}{change.text}".rstrip(": "))
    return lines


def origin(rows: Sequence[Row]) -> str:
    """Devices, commits, dates and torch versions of a file's rows."""
    names = {"commit": "commit", "date": "of", "torch": "torch", "device": "on"}
    return ", ".join(f"{text} {' '.join(sorted({getattr(row, n) for row in rows}))}" for n, text in names.items())


def main(argv: list[str] | None = None) -> int:
    """Print the difference; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.difference", description="Compare two result files.")
    parser.add_argument("old")
    parser.add_argument("new")
    arguments = parser.parse_args(argv)
    try:
        old, new = read_results(arguments.old), read_results(arguments.new)
    except SilkError as error:
        print(f"difference: {error}", file=sys.stderr)
        return 2
    changes = compare(old, new)
    print("\n".join([f"old: {origin(old)}", f"new: {origin(new)}", *describe(changes)]))
    return 1 if changes["slower"] else 0


if __name__ == "__main__":
    sys.exit(main())
