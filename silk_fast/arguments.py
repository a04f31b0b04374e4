"""Checks of plain arguments, and how messages name a value of any kind."""

import operator
from typing import Any

from silk_fast.errors import SilkInputError

SHOWN = 80  # characters of a value in a message


def shown(value: Any) -> str:
    """Write a value as messages do: its ``repr``, cut where it is long; never fails."""
    try:
        text = repr(value)
    except Exception:  # an integer of more than 4300 digits has no text, and a class may write its own badly
        return f"{type(value).__name__} that cannot be printed"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def shown_text(text: str) -> str:
    """Write a name or a path as messages do: as it is if it is short and printable, else like :func:`shown`."""
    return text if text.isprintable() and len(text) <= 4 * SHOWN else shown(text)


def whole_number(name: str, value: Any, smallest: int, largest: int | None = None) -> int:
    """Give an argument as the integer that it must be: of Python, of NumPy or of one-element tensors.

    Raises:
        SilkInputError: not an integer from ``smallest`` to ``largest``.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or number < smallest or (largest is not None and number > largest):
        bounds = f">= {smallest}" if largest is None else f"in {smallest} .. {largest}"
        raise SilkInputError(f"{name} must be an integer {bounds}, got {shown(value)}")
    return number
