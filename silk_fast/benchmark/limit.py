"""A limit of time for a piece of work."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TimeLimit(BaseException):
    """Work took too long. No ``Exception``, so that no library takes it for a failure of its own and goes on."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeLimit` inside the block once it has run for ``seconds``.

    It is raised between two steps of Python, so a call into compiled code ends first. Without a finite limit, outside
    the main thread and on systems without such alarms nothing is limited.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not (math.isfinite(seconds) and in_main and hasattr(signal, "setitimer")):
        yield
        return

    def stop(signal_number: int, frame: object) -> None:
        raise TimeLimit(f"stopped after {seconds:.0f} s")

    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)
