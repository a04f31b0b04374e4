"""The short table that ends a run, and what is behind."""

from collections.abc import Iterable, Sequence

from silk_fast.benchmark.costs import FORMULAS
from silk_fast.benchmark.rows import OK, Row

COLUMNS = ("ours", "eager", "compile", "compile-max")
SLOWER, LOW_SHARE = 1.05, 0.8
"""A rival must be faster by 5 % to count, and a share of the ceiling below 0.8 is low."""


def milliseconds(row: Row) -> float | None:
    """What rows are compared by: the device's time where there is one, else the call's."""
    timing = row.kernel or row.call
    return timing.p50 if row.status == OK and timing else None


def by_case(rows: Iterable[Row]) -> dict[tuple, dict[str, Row]]:
    """Rows of ops and codec with a figure, by everything but the provider, then by provider."""
    cases: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.section != "card" and milliseconds(row) is not None:
            key = (row.op, row.case, row.dtype, row.direction, row.threads)
            cases.setdefault(key, {})[row.provider] = row
    return cases


def table(rows: Sequence[Row]) -> str:
    """Milliseconds of the cases that most providers computed, and the share of the ceiling of the first of them.

    Cases of ops without torch.compile are left out where others have it: they are many, and in the result file.
    """
    cases = by_case(rows)
    compiled = {key for key, found in cases.items() if "compile" in found or key[0] not in FORMULAS}
    shown = {key: found for key, found in cases.items() if key in compiled} or cases
    lines = [("op", "case", "dtype", "direction", *COLUMNS, "library", "share of")]
    lines += [(*key[:4], *_cells(found)) for key, found in shown.items()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    n_missing = sum(row.status != OK for row in rows)
    return "\n".join([*text, f"Milliseconds, ~: noisy. {n_missing} of {len(rows)} rows have no figure, and say why."])


def _cells(found: dict[str, Row]) -> list[str]:
    cells = [_figure(found.get(provider)) for provider in COLUMNS]
    libraries = [row for provider, row in found.items() if provider not in COLUMNS]
    best = min(libraries, key=milliseconds, default=None)
    first = found.get("ours") or next(iter(found.values()))
    share = f"{first.share:.0%} {first.ceiling}" if first.share is not None else "-"
    return [*cells, f"{_figure(best)} {best.provider}" if best else "-", share]


def _figure(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{milliseconds(row):.4g}{'~' if (row.kernel or row.call).noisy else ''}"


def behind(rows: Iterable[Row]) -> list[str]:
    """One line for every case in which ours is slower than a rival or far from its ceiling."""
    lines = []
    for key, found in by_case(rows).items():
        if "ours" not in found:
            continue
        ours, faults = found["ours"], []
        for provider, row in found.items():
            if milliseconds(ours) > SLOWER * milliseconds(row):
                faults.append(f"{provider} is {milliseconds(ours) / milliseconds(row):.2f}x as fast")
        if ours.share is not None and ours.share < LOW_SHARE:
            faults.append(f"{ours.share:.0%} of its {ours.ceiling} ceiling")
        if faults:
            lines.append(f"behind: {' '.join(str(part) for part in key[:4])}: {', '.join(faults)}")
    return lines
