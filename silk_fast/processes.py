"""Processes that this package starts: how they obey the one that started them."""

import os
import signal
import threading
from multiprocessing import parent_process


def obey_parent() -> None:
    """Leave interrupts to the parent, in a worker, and do not outlive a parent that was killed."""
    parent = parent_process()
    assert parent is not None, "a worker is a process that another has started"

    def follow() -> None:
        parent.join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, daemon=True).start()
