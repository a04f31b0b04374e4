import math
import signal
import threading
import time

import pytest

from silk_fast.benchmark.limit import TimeLimit, time_limit


def test_what_takes_too_long_is_stopped():
    start = time.monotonic()
    with pytest.raises(TimeLimit, match="stopped after 0 s"), time_limit(0.05):
        time.sleep(10)
    assert time.monotonic() - start < 5


def test_no_library_takes_it_for_its_own_failure():
    def goes_on_after_failures() -> None:
        try:
            time.sleep(10)
        except Exception:
            pytest.fail("caught")

    with pytest.raises(TimeLimit), time_limit(0.05):
        goes_on_after_failures()


def test_what_is_quick_is_not_stopped_and_handler_and_alarm_are_restored():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.2):
        assert signal.getsignal(signal.SIGALRM) != before
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    time.sleep(0.3)


def test_without_a_limit_or_outside_the_main_thread_nothing_is_limited():
    before, found = signal.getsignal(signal.SIGALRM), []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.1)
            found.append(True)

    with time_limit(math.inf):
        assert signal.getsignal(signal.SIGALRM) == before
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found
