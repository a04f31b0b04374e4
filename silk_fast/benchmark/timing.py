"""The timer: what one call costs, on a CPU or an NVIDIA GPU, with caches cleared between repetitions.

On a GPU a call has two times. *Call time* is what the caller waits: launches, device work and synchronisation.
*Kernel time* is the device's alone, between two events: the device sleeps before the first, so that all launches are
queued by the time it begins and it does not wait for the host, unless the call itself does (it reads a result).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import ceil, floor, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from silk_fast.benchmark.rows import Timing
from silk_fast.errors import SilkInputError

MIN_REPEATS, MAX_REPEATS = 5, 1000
FEW = 2  # repetitions of a call that is longer than the time for all of them
NOISE = 0.1  # medians that differ by more than this share are not the same figure
WARM_UP_SECONDS = 0.05  # an idle GPU needs about this long to raise its clocks
SLEEP_CYCLES = 1_000_000  # half a millisecond, in which the host launches some hundred kernels
CPU_CACHE_BYTES = 64 * 2**20  # where the system does not say
GPU_FLUSH_BYTES = 256 * 2**20  # at least


@dataclass(frozen=True)
class Measurement:
    """What :func:`measure` found.

    Args:
        call: wall-clock milliseconds of a call.
        kernel: milliseconds on the device; None on a CPU.
        peak_bytes: most memory that PyTorch held on the GPU during a call, inputs included; None on a CPU.
    """

    call: Timing
    kernel: Timing | None = None
    peak_bytes: int | None = None


def summarise(milliseconds: Sequence[float]) -> Timing:
    """Percentiles of repetitions in the order in which they ran.

    Noisy are those whose median is not known to 10 %: the first and the second half disagree (drift), or the 95 %
    confidence interval of the median, from order statistics, is wider than that (two modes, few repetitions).

    Raises:
        SilkInputError: fewer than two repetitions.
    """
    n = len(milliseconds)
    if n < 2:
        raise SilkInputError(f"a timing needs at least 2 repetitions, got {n}")
    p20, p50, p80 = (float(p) for p in np.percentile(milliseconds, (20, 50, 80)))
    halves = np.median(milliseconds[: n // 2]), np.median(milliseconds[n // 2 :])
    ordered, reach = sorted(milliseconds), 1.96 * sqrt(n) / 2
    interval = ordered[max(0, floor(n / 2 - reach))], ordered[min(n - 1, ceil(n / 2 + reach))]
    return Timing(p20, p50, p80, noisy=any(max(pair) > (1 + NOISE) * min(pair) for pair in (halves, interval)))


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


def measure(
    fn: Callable[..., object],
    device: torch.device | str,
    seconds_budget: float = 1.0,
    prepare: Callable[[], object] | None = None,
) -> Measurement:
    """Time ``fn()``, warmed up, with a cleared cache before each repetition.

    Args:
        fn: what to time; on a GPU it must work on the current stream.
        device: a CPU or a CUDA device.
        seconds_budget: how long to repeat, clearing and preparing included; at least 5 repetitions are made, or 2 of a
            call that is longer than that.
        prepare: runs before each repetition, not timed; its result is given to ``fn``.

    Returns:
        call time; on a GPU also kernel time and peak memory.

    Raises:
        Whatever ``fn`` raises.
    """
    device = torch.device(device)
    step: Step = (lambda: fn) if prepare is None else (lambda: partial(fn, prepare()))
    step()()  # may compile, tune, fold and allocate workspaces
    if device.type != "cuda":
        return Measurement(_wall_clock(step, cpu_cache_clearer(), lambda: None, seconds_budget))
    synchronise = partial(torch.cuda.synchronize, device)
    synchronise()
    torch.cuda.reset_peak_memory_stats(device)
    _wall_clock(step, lambda: None, synchronise, WARM_UP_SECONDS)
    peak_bytes = torch.cuda.max_memory_allocated(device)
    clear = gpu_cache_clearer(device)
    call = _wall_clock(step, clear, synchronise, seconds_budget / 2)
    return Measurement(call, _device_clock(step, clear, seconds_budget / 2), peak_bytes)


Step = Callable[[], Callable[[], object]]
"""Does what must happen before a call; the call itself, which it returns, is to be timed."""


def _wall_clock(step: Step, clear: Callable, synchronise: Callable, budget: float) -> Timing:
    """Repetitions until the budget is spent."""
    milliseconds: list[float] = []
    end = time.perf_counter() + budget
    while _wants_more(milliseconds, end, budget):
        call = step()
        clear()
        synchronise()
        start = time.perf_counter()
        call()
        synchronise()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return summarise(milliseconds)


def _wants_more(milliseconds: Sequence[float], end: float, budget: float) -> bool:
    n = len(milliseconds)
    n_least = FEW if n and milliseconds[0] > 1e3 * budget else MIN_REPEATS
    return n < n_least or (n < MAX_REPEATS and time.perf_counter() < end)


def _device_clock(step: Step, clear: Callable, budget: float) -> Timing:
    """Repetitions between events."""
    milliseconds: list[float] = []
    end = time.perf_counter() + budget
    while _wants_more(milliseconds, end, budget):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        call = step()
        clear()
        torch.cuda._sleep(SLEEP_CYCLES)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        milliseconds.append(start.elapsed_time(stop))
    return summarise(milliseconds)
