"""Warnings of what is hardly meant: they point at the caller, and a program may have them as lines of text."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from silk_fast.errors import SilkWarning

_LIBRARIES = ("silk_fast", "torch", "contextlib")


def warn(message: str) -> None:
    """Warn of something, at the line outside of this package that led to it."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, SilkWarning, stacklevel=level)


@contextmanager
def warnings_to(notice: Callable[[str], None]) -> Iterator[None]:
    """Give the text of every SilkWarning to ``notice`` while the block runs; other warnings are shown as they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SilkWarning)
        show = warnings.showwarning

        def notice_or_show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SilkWarning):
                notice(str(message))
            else:
                show(message, category, *where, **more)

        warnings.showwarning = notice_or_show
        yield
