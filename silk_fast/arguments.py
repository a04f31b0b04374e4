"""Checks of plain arguments, and how messages name a value of any kind."""

import operator
from typing import Any

from silk_fast.errors import SilkInputError

SHOWN = 80  # characters of a value in a message
LARGEST_RATE = 10**6  # samples per second, of any signal


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
        is_bool = isinstance(value, bool) or str(getattr(value, "dtype", "")) == "torch.bool"
        number = None if is_bool else operator.index(value)
    except Exception:  # of every kind: what is no integer comes from anywhere
        number = None
    if number is None or number < smallest or (largest is not None and number > largest):
        bounds = f">= {smallest}" if largest is None else f"in {smallest} .. {largest}"
        raise SilkInputError(f"{name} must be an integer {bounds}, got {shown(value)}")
    return number


def sample_rate(name: str, value: Any) -> int:
    """Give an argument as the samples per second that it must be.

    Raises:
        SilkInputError: not an integer from 1 to ``LARGEST_RATE``.
    """
    return whole_number(name, value, 1, LARGEST_RATE)
