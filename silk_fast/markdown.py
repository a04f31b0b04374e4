"""What generated pages are written with: Markdown tables and lists, and the formats of figures in them."""

import math
from collections.abc import Iterable, Mapping, Sequence

UNKNOWN = "–"
RIGHT, LEFT, BARE = " ---: ", " --- ", "---"
"""Rules under the columns of a table but the first: aligned to the right, to the left, and without spaces."""


def table(head: Sequence[object], rows: Iterable[Sequence[object]], rule: str = RIGHT) -> str:
    """Write a Markdown table, each line ended; a ``|`` in a cell is escaped.

    As an element of lines that are joined by ``"\\n"`` it is followed by an empty line.

    Args:
        head: titles of the N columns.
        rows: N cells each.
        rule: :data:`RIGHT`, :data:`LEFT` or :data:`BARE`, for columns but the first.
    """
    rules = "|".join([rule.replace(":", ""), *[rule] * (len(head) - 1)])
    return "\n".join([_line(head), f"|{rules}|", *map(_line, rows), ""])


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def bullets(facts: Mapping[str, object]) -> str:
    """Write a Markdown list of names and values, each line ended."""
    return "".join(f"- **{name}**: {value}\n" for name, value in facts.items())


def fixed(value: float, digits: int) -> str:
    """Write a figure with ``digits`` after the point; :data:`UNKNOWN` for NaN, and infinity as its sign."""
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def significant(value: float | None, unknown: str = UNKNOWN, thousands: str = "") -> str:
    """Write a figure with three significant digits, from 100 on as a whole number.

    Args:
        value: None is not known.
        unknown: what is written for None.
        thousands: what separates groups of three digits.
    """
    if value is None:
        return unknown
    return f"{value:,.0f}".replace(",", thousands) if abs(value) >= 100 else f"{value:.3g}"
