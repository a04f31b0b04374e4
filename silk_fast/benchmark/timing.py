"""The timer: what one call costs, on a CPU or an NVIDIA GPU, with caches cleared between repetitions.

On a GPU a call has two times. *Call time* is what the caller waits: launches, device work and synchronisation.
*Kernel time* is the device's alone: the call is captured as a CUDA graph whose replay lies between two events; a call
that cannot be captured (it reads a result on the host, or replays graphs itself) runs directly between the events.
In both, the launches queue up behind the clearing of the cache, so the device does not wait for the host as long as
that takes longer than the launches.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil, floor, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from silk_fast.benchmark.rows import Timing, disagree
from silk_fast.errors import SilkInputError

MIN_REPEATS, MAX_REPEATS = 5, 1000
FEW = 2  # repetitions of a call that is longer than its share of the time
WARM_UP_SECONDS = 0.05  # an idle GPU needs about this long to raise its clocks
CPU_CACHE_BYTES = 64 * 2**20  # where the system does not say
GPU_FLUSH_BYTES = 256 * 2**20  # long enough to read to hide the launch of a graph


@dataclass(frozen=True)
class Measurement:
    """What :func:`measure` found.

    Args:
        call: wall-clock milliseconds of a call.
        kernel: milliseconds on the device; None on a CPU.
        peak_bytes: most memory that PyTorch held on the GPU during a call, inputs included; None on a CPU.
        captured: whether ``kernel`` is of a CUDA graph, and not of single launches; None on a CPU.
    """

    call: Timing
    kernel: Timing | None = None
    peak_bytes: int | None = None
    captured: bool | None = None


# ---------------------------------------------------------------- statistics


def summarise(milliseconds: Sequence[float]) -> Timing:
    """Percentiles of repetitions in the order in which they ran.

    Noisy are those whose median is not known to 10 %: the first and the second half disagree (drift), or the 95 %
    confidence interval of the median, from order statistics, is wider than that (two modes, few repetitions).

    Raises:
        SilkInputError: fewer than two repetitions.
    """
    if len(milliseconds) < 2:
        raise SilkInputError(f"a timing needs at least 2 repetitions, got {len(milliseconds)}")
    p20, p50, p80 = (float(p) for p in np.percentile(milliseconds, (20, 50, 80)))
    middle = len(milliseconds) // 2
    halves = np.median(milliseconds[:middle]), np.median(milliseconds[middle:])
    return Timing(p20, p50, p80, noisy=disagree(*halves) or disagree(*_median_interval(milliseconds)))


def _median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the median, without assumptions on the distribution."""
    ordered, n = sorted(samples), len(samples)
    reach = 1.96 * sqrt(n) / 2
    return ordered[max(0, floor(n / 2 - reach))], ordered[min(n - 1, ceil(n / 2 + reach))]


# ---------------------------------------------------------------- caches


@lru_cache
def cpu_cache_bytes() -> int:
    """Size of the last-level cache."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) * 1024 for size in sizes if size.endswith("K")), default=CPU_CACHE_BYTES)


def cpu_cache_clearer() -> Callable[[], object]:
    """Writes a buffer of twice the last-level cache."""
    buffer = np.zeros(2 * cpu_cache_bytes(), dtype=np.uint8)
    return lambda: buffer.fill(1)


def gpu_cache_clearer(device: torch.device) -> Callable[[], Tensor]:
    """Reads a buffer of four times the L2: unlike written lines, read ones need not be stored while the call runs."""
    l2_bytes = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
    buffer = torch.zeros(max(4 * l2_bytes, GPU_FLUSH_BYTES) // 4, device=device)
    return buffer.sum


# ---------------------------------------------------------------- measuring


def measure(
    fn: Callable[..., object],
    device: torch.device | str,
    *,
    seconds_budget: float = 1.0,
    prepare: Callable[[], object] | None = None,
    capture: bool = True,
) -> Measurement:
    """Time ``fn()``, warmed up, with a cleared cache before each repetition.

    Args:
        fn: what to time; on a GPU it must work on the current stream.
        device: a CPU or a CUDA device.
        seconds_budget: how long to repeat, clearing and preparing included; at least 5 repetitions are made.
        prepare: runs before each repetition, not timed; its result is given to ``fn``. Excludes capture.
        capture: whether ``fn`` may be captured as a CUDA graph; False where it is known to synchronise.

    Returns:
        call time; on a GPU also kernel time and peak memory.

    Raises:
        Whatever ``fn`` raises.
    """
    device = torch.device(device)
    step = (lambda: fn) if prepare is None else (lambda: partial(fn, prepare()))
    if device.type != "cuda":
        return Measurement(_wall_clock(step, cpu_cache_clearer(), lambda: None, seconds_budget))
    with torch.cuda.device(device), side_stream(device):
        return _measure_on_gpu(step, device, seconds_budget, fn if capture and prepare is None else None)


def measure_long(fn: Callable[[], object], device: torch.device) -> Measurement:
    """Time a call so long that it is repeated twice only; it needs neither warm-up nor a cold cache."""
    is_gpu = device.type == "cuda"
    if is_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    milliseconds = [1e3 * seconds_of(fn, device) for _ in range(FEW)]
    return Measurement(summarise(milliseconds), None, torch.cuda.max_memory_allocated(device) if is_gpu else None)


def seconds_of(fn: Callable[[], object], device: torch.device) -> float:
    """Time one call, as it is."""
    start = time.perf_counter()
    fn()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


@contextmanager
def side_stream(device: torch.device | str) -> Iterator[None]:
    """On a GPU, a stream other than the default one, which cannot be captured; a current one of that kind stays.

    A backward pass runs on the stream of its forward pass: to measure it alone, make it inside.
    """
    device = torch.device(device)
    if device.type != "cuda" or torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
        yield
        return
    outer, inner = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    inner.wait_stream(outer)
    with torch.cuda.stream(inner):
        yield
    outer.wait_stream(inner)


Step = Callable[[], Callable[[], object]]
"""Does what must happen before a call; the call itself, which it returns, is to be timed."""


def _measure_on_gpu(step: Step, device: torch.device, budget: float, fn: Callable | None) -> Measurement:
    """``fn``: what may be captured."""
    peak_bytes = _peak_bytes(step, device)
    clear = gpu_cache_clearer(device)

    def synchronise() -> None:
        torch.cuda.synchronize(device)

    _warm_up(step, synchronise)
    call = _wall_clock(step, clear, synchronise, budget / 2)
    graph = _captured(fn, device) if fn else None
    kernel = _device_clock((lambda: graph.replay) if graph else step, clear, budget / 2)
    return Measurement(call, kernel, peak_bytes, captured=graph is not None)


def _warm_up(step: Step, synchronise: Callable[[], None]) -> None:
    end = time.perf_counter() + WARM_UP_SECONDS
    for i_call in range(MAX_REPEATS):
        if i_call >= 2 and time.perf_counter() > end:
            return
        step()()
        synchronise()


def _wall_clock(step: Step, clear: Callable, synchronise: Callable, budget: float) -> Timing:
    """Repetitions until the budget is spent; the first, which warms up, is not counted."""
    milliseconds: list[float] = []
    end: float | None = None
    while end is None or _wants_more(milliseconds, end):
        call = step()
        clear()
        synchronise()
        start = time.perf_counter()
        call()
        synchronise()
        elapsed = time.perf_counter() - start
        if end is None:
            end = time.perf_counter() + budget
        else:
            milliseconds.append(elapsed * 1e3)
    return summarise(milliseconds)


def _wants_more(milliseconds: Sequence[float], end: float) -> bool:
    n = len(milliseconds)
    return n < MIN_REPEATS or (n < MAX_REPEATS and time.perf_counter() < end)


def _device_clock(step: Step, clear: Callable, budget: float) -> Timing:
    """Repetitions between events; they are queued in bursts, so that the host stays ahead of the device."""
    milliseconds: list[float] = []
    end = time.perf_counter() + budget
    while _wants_more(milliseconds, end):
        burst = [_between_events(step, clear) for _ in range(MIN_REPEATS)]
        burst[-1][1].synchronize()
        milliseconds += [start.elapsed_time(stop) for start, stop in burst]
    return summarise(milliseconds)


def _between_events(step: Step, clear: Callable) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    call = step()
    clear()
    start.record()
    call()
    stop.record()
    return start, stop


def capture(fn: Callable[[], object], device: torch.device | str) -> tuple[torch.cuda.CUDAGraph, object]:
    """``fn``, which is warmed up, as a CUDA graph; and its result, which every replay overwrites.

    It runs once before, where waiting for the device is an error: a capture that breaks over that can leave allocator
    and random numbers of PyTorch in the state of capturing. The stream is the current one, which it stays even then.

    Raises:
        RuntimeError: ``fn`` waits for the device, or cannot be captured for another reason.
    """
    with _waiting_is_an_error():
        fn()
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(device)):
        result = fn()
    return graph, result


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _captured(fn: Callable[[], object], device: torch.device) -> torch.cuda.CUDAGraph | None:
    """``fn`` as a CUDA graph; None where it cannot be captured."""
    try:
        graph, _ = capture(fn, device)
        graph.replay()
        torch.cuda.synchronize(device)
    except RuntimeError:
        torch.cuda.synchronize(device)  # raises if the device itself is lost
        return None
    return graph


def release(device: torch.device) -> None:
    """Give back what the last call held."""
    if device.type == "cuda":
        with suppress(RuntimeError):  # of a device that is lost: the rows that follow say so
            torch.cuda.empty_cache()


def _peak_bytes(step: Step, device: torch.device) -> int:
    """Of one call after a first, which may compile, tune and allocate workspaces."""
    step()()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
