import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from silk_fast.benchmark import timing
from silk_fast.benchmark.timing import cpu_cache_bytes, cpu_cache_clearer, measure, summarise
from silk_fast.errors import SilkInputError


@pytest.fixture
def sleep(monkeypatch) -> Callable[[float], None]:
    """Sleeps on a clock that stands still otherwise, however busy the machine is."""
    now = [0.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return advance


def test_sees_a_known_sleep(sleep):
    measured = measure(lambda: sleep(0.02), "cpu", seconds_budget=0.3)
    call = measured.call
    assert (call.p20, call.p50, call.p80) == pytest.approx((20, 20, 20))
    assert not call.noisy
    assert measured.kernel is None
    assert measured.peak_bytes is None


def test_sees_a_known_copy():
    """A copy that is far larger than the cache takes as long as the same copy timed by hand."""
    source = torch.zeros(cpu_cache_bytes() // 2)  # float32: twice the cache
    target = torch.zeros_like(source)

    def by_hand() -> list[float]:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            target.copy_(source)
            times.append((time.perf_counter() - start) * 1e3)
        return times

    before = by_hand()
    measured = measure(lambda: target.copy_(source), "cpu", seconds_budget=0.5).call
    after = by_hand()  # the machine may have become slower, or faster, meanwhile
    assert min(before + after) / 2 < measured.p50 < 2 * max(np.median(before), np.median(after))


def test_budget_bounds_the_repetitions():
    calls = []
    start = time.perf_counter()
    measure(lambda: calls.append(time.sleep(0.001)), "cpu", seconds_budget=0.2)
    assert time.perf_counter() - start < 1
    assert len(calls) > timing.MIN_REPEATS
    calls.clear()
    measure(lambda: calls.append(time.sleep(0.01)), "cpu", seconds_budget=0.0)
    assert len(calls) == timing.FEW + 1  # one warms up


def test_the_cache_is_cleared_before_each_repetition():
    """A copy that fits into the cache is faster when it is there."""
    source, target = np.zeros(2**18, dtype=np.uint8), np.ones(2**18, dtype=np.uint8)
    clear = cpu_cache_clearer()

    def copy_milliseconds() -> float:
        start = time.perf_counter()
        np.copyto(target, source)
        return (time.perf_counter() - start) * 1e3

    copy_milliseconds()
    warm = np.median([copy_milliseconds() for _ in range(51)])
    cleared = np.median([clear() or copy_milliseconds() for _ in range(21)])
    assert cleared > 1.2 * warm


def test_measuring_clears_the_cache_before_each_repetition(monkeypatch):
    log = []
    monkeypatch.setattr(timing, "cpu_cache_clearer", lambda: lambda: log.append("clear"))
    measure(lambda: log.append("call"), "cpu", seconds_budget=0.0)
    assert log == ["call"] + ["clear", "call"] * timing.FEW


def test_preparation_is_not_timed_and_its_result_is_passed_on(sleep):
    received = []
    prepared = iter(range(1000))

    def prepare() -> int:
        sleep(0.02)
        return next(prepared)

    measured = measure(received.append, "cpu", seconds_budget=0.2, prepare=prepare)
    assert measured.call.p50 == 0
    assert received == list(range(len(received)))


@pytest.mark.parametrize(
    "samples",
    [
        [1.0] * 50 + [1.2] * 50,  # slower in the second half
        [1.0, 2.0] * 50,  # two modes, halves alike
        [1.0, 1.01, 1.3, 0.99, 1.02],  # too few to know
    ],
)
def test_noise_is_marked(samples):
    assert summarise(samples).noisy


@pytest.mark.parametrize("outliers", [[], [50.0, 80.0]])
def test_a_steady_function_is_not_noisy(outliers):
    samples = np.random.default_rng(0).normal(1.0, 0.05, 100)
    samples[: len(outliers)] = outliers
    result = summarise(samples)
    assert not result.noisy
    assert result.p20 < result.p50 < result.p80
    assert result.p50 == pytest.approx(1.0, abs=0.02)


def test_percentiles():
    result = summarise([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert (result.p20, result.p50, result.p80) == (2.0, 3.5, 5.0)
    with pytest.raises(SilkInputError, match="got 1"):
        summarise([1.0])


class FakeGPU:
    """A clock, in milliseconds, that only queued work advances, and a log of what happened."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.device_time = 0.0

    def work(self, milliseconds: float, what: str = "work") -> None:
        self.log.append(what)
        self.device_time += milliseconds


@pytest.fixture
def gpu(monkeypatch):
    fake = FakeGPU()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.time = fake.device_time

        def synchronize(self) -> None:
            fake.log.append("synchronise")

        def elapsed_time(self, later: "Event") -> float:
            return later.time - self.time

    cuda = {
        "Event": Event,
        "synchronize": lambda device: None,
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: 4096,
        "_sleep": lambda cycles: fake.work(500.0, "sleep"),
    }
    monkeypatch.setattr(timing.torch, "cuda", SimpleNamespace(**cuda))
    monkeypatch.setattr(timing, "gpu_cache_clearer", lambda device: lambda: fake.work(100.0, "clear"))
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    return fake


def test_kernel_time_is_between_events_that_the_device_reaches_late(gpu):
    measured = measure(lambda: gpu.work(7.0), "cuda", seconds_budget=0.0)
    assert measured.kernel.p50 == pytest.approx(7.0)
    assert measured.peak_bytes == 4096
    assert gpu.log[-4:] == ["clear", "sleep", "work", "synchronise"]
    with_input = measure(lambda prepared: gpu.work(prepared), "cuda", seconds_budget=0.0, prepare=lambda: 4.0)
    assert with_input.kernel.p50 == pytest.approx(4.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_sees_a_known_copy_on_a_gpu():
    """A copy timed by hand over many launches, without clearing, of data larger than any L2."""
    source = torch.zeros(2**27, device="cuda")
    target = torch.empty_like(source)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    target.copy_(source)
    start.record()
    for _ in range(20):
        target.copy_(source)
    stop.record()
    stop.synchronize()
    by_hand = start.elapsed_time(stop) / 20
    measured = measure(lambda: target.copy_(source), "cuda", seconds_budget=0.5)
    assert by_hand / 1.2 < measured.kernel.p50 < 1.2 * by_hand
    assert measured.call.p50 > measured.kernel.p50 / 1.1
    assert measured.peak_bytes >= 2 * source.nbytes
