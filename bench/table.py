"""The short table that ends a run, and what is behind."""

from collections.abc import Iterable, Sequence

from bench.contests import Contest, contests
from bench.plots import GOOD_SHARE, middle
from silk_fast.benchmark.codec import OURS
from silk_fast.benchmark.rows import OK, Row

COLUMNS = (*OURS, "eager", "compile", "compile-max")
SLOWER = 1.05  # a rival must be faster by this much to count


def table(rows: Sequence[Row]) -> str:
    """Milliseconds of the cases that most providers computed, and the share of the ceiling of the first of them.

    Cases of ops without torch.compile are left out where other ops have it: they are many, and in the result file.
    """
    found = [measured(contest) for contest in contests(row for row in rows if row.section != "card")]
    found = [by_provider for by_provider in found if by_provider]
    if any(_is_compiled_op(by_provider) for by_provider in found):
        found = [
            by_provider for by_provider in found if _is_compiled_op(by_provider) or _first(by_provider).section != "ops"
        ]
    lines = [("op", "case", "dtype", "direction", *COLUMNS, "library", "share of")]
    lines += [(*_head(by_provider), *_cells(by_provider)) for by_provider in found]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    n_missing = sum(row.status != OK for row in rows)
    return "\n".join([*text, f"Milliseconds, ~: noisy. {n_missing} of {len(rows)} rows have no figure, and say why."])


def measured(contest: Contest) -> dict[str, Row]:
    """The rows of a case that have a figure, by provider."""
    return {provider: row for provider, row in contest.rows.items() if row.status == OK}


def _first(found: dict[str, Row]) -> Row:
    return found.get("ours") or next(iter(found.values()))


def _is_compiled_op(found: dict[str, Row]) -> bool:
    return _first(found).section == "ops" and "compile" in found


def _head(found: dict[str, Row]) -> tuple[str, str, str, str]:
    row = _first(found)
    return row.op, row.case, row.dtype, row.direction


def _cells(found: dict[str, Row]) -> list[str]:
    cells = [_figure(found.get(provider)) for provider in COLUMNS]
    libraries = [row for provider, row in found.items() if provider not in COLUMNS]
    best, first = min(libraries, key=middle, default=None), _first(found)
    share = f"{first.share:.0%} {first.ceiling}" if first.share is not None else "-"
    return [*cells, f"{_figure(best)} {best.provider}" if best else "-", share]


def _figure(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{middle(row):.4g}{'~' if (row.kernel or row.call).noisy else ''}"


def behind(rows: Iterable[Row]) -> list[str]:
    """One line for every case in which ours is slower than a rival or far from its ceiling."""
    lines = []
    for contest in contests(row for row in rows if row.section != "card"):
        ours = contest.ours
        if ours is None:
            continue
        faults = [f"{rival} is {1 / value:.2f}x as fast" for rival, value in contest.speedups() if SLOWER * value < 1]
        if ours.share is not None and ours.share < GOOD_SHARE:
            faults.append(f"{ours.share:.0%} of its {ours.ceiling} ceiling")
        if faults:
            lines.append(f"behind: {' '.join(_head(contest.rows))}: {', '.join(faults)}")
    return lines
