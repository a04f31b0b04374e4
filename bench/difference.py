"""What became slower or faster from one result file to another. ``python -m bench.difference OLD NEW``

Exit status: 0, or 1 if something that is not noisy became slower or has no figure any more.
"""

import argparse
import math
import sys
from collections.abc import Iterable

from bench.summary import number, variant
from silk_fast.benchmark.rows import OK, Row, read_results

REGRESSION = 1.05

Change = tuple[str, float, Row, str]
"""What kind it is, new time / old, the new row, and the figures."""


def changes(old: Iterable[Row], new: Iterable[Row]) -> list[Change]:
    """Hold rows of equal key against each other, in call time and in device time, the largest loss first.

    Kinds are ``slower`` and ``faster`` beyond the spread, ``noisy``, and ``machine``: what the machine itself reaches,
    which may explain all others. A figure that was lost is slower, one that was gained faster; what was left out in one
    of the files is neither.
    """
    before, after = ({row.key: row for row in rows if not row.is_left_out} for rows in (old, new))
    found = [change for key in before if key in after and (change := _change(before[key], after[key]))]
    return sorted(found, key=lambda change: -change[1])


def _change(old: Row, new: Row) -> Change | None:
    """None if nothing changed beyond the spread; what is steady counts before what is noisy."""
    if OK in (old.status, new.status) and old.status != new.status:
        lost = old.status == OK
        return "slower" if lost else "faster", math.inf if lost else 0.0, new, f"{old.status} -> {new.status}"
    found: list[Change] = []
    for what in ("call", "kernel") if old.captured == new.captured else ("call",):
        a, b = getattr(old, what), getattr(new, what)
        if a and b and max(a.p50, b.p50) > REGRESSION * min(a.p50, b.p50) and not _overlap(a, b):
            kind = "noisy" if a.noisy or b.noisy else "slower" if b.p50 > a.p50 else "faster"
            kind = "machine" if new.section == "card" else kind
            found.append((kind, b.p50 / a.p50, new, f"{what} {number(a.p50)} -> {number(b.p50)} ms"))
    return max(found, key=lambda change: (change[0] != "noisy", change[1]), default=None)


def _overlap(a, b) -> bool:
    """Whether a median lies in the range of the other."""
    return a.p20 <= b.p50 <= a.p80 or b.p20 <= a.p50 <= b.p80


def main(argv: list[str] | None = None) -> int:
    """Print the difference; returns the exit status."""
    parser = argparse.ArgumentParser(prog="bench.difference", description="Compare two result files.")
    parser.add_argument("old")
    parser.add_argument("new")
    arguments = parser.parse_args(argv)
    found = changes(read_results(arguments.old), read_results(arguments.new))
    for kind, ratio, row, text in found:
        name = f"{row.section} {row.op} {row.direction}, {row.case}, {variant(row)}, {row.provider}"
        print(f"{kind}: {name}: {ratio:.2f}x, {text}")
    return 1 if any(kind == "slower" for kind, *_ in found) else 0


if __name__ == "__main__":
    sys.exit(main())
