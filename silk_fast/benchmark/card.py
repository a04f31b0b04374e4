"""What this machine reaches: copy bandwidth, and the rate of matrix products in each dtype.

All shares of a result file are shares of these. A copy is of tensors far larger than any cache, counted as one read
and one write. Products are square; in float32 they are IEEE float32 without TF32, and stand for all arithmetic
outside matrix units as well. Each is measured in several rounds, of which the fastest counts: a ceiling that was taken
in a slow moment would be below what is measured later.
"""

from collections.abc import Callable, Iterable

import torch

from silk_fast.benchmark.costs import Ceilings
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import ieee_float32
from silk_fast.benchmark.timing import measure

ROUNDS = 3
SECONDS = 0.2  # for each round of a measurement
COPY_BYTES = {"cuda": 2**30, "cpu": 2**28}
MATMUL_SIZE = {"cuda": 8192, "cpu": 1536}
DTYPES = {"cuda": (torch.float32, torch.float16, torch.bfloat16), "cpu": (torch.float32,)}


def measure_ceilings(
    device: torch.device, threads: Iterable[int | None], add: Callable[..., object]
) -> dict[tuple[int | None, str], Ceilings]:
    """Measure what the machine reaches, by the number of threads (None on a GPU) and the name of the dtype.

    Args:
        add: receives the rows.
    """
    before = torch.get_num_threads()
    found: dict[tuple[int | None, str], Ceilings] = {}
    for n_threads in threads:
        torch.set_num_threads(n_threads or before)
        with ieee_float32():
            copy = _copy_row(device, n_threads)
            products = {dtype_name(d): _matmul_row(device, n_threads, d) for d in DTYPES[device.type]}
        add(copy, *products.values())
        bandwidth = 1e3 * (copy.bytes or 0) / copy.timing.p50
        rates = {name: 1e3 * (row.flops or 0) / row.timing.p50 for name, row in products.items()}
        found |= {(n_threads, name): Ceilings(bandwidth, rate, rates["float32"]) for name, rate in rates.items()}
    torch.set_num_threads(before)
    return found


def _copy_row(device: torch.device, threads: int | None) -> Row:
    source = torch.ones(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    figures = _fastest(lambda: target.copy_(source), device)
    place = ("card", "copy", "ceiling", str(len(source)), "float32", "forward", "eager", threads)
    return Row(*place, bytes=2 * source.nbytes, flops=0, share=1.0, ceiling="bandwidth", **figures)


def _matmul_row(device: torch.device, threads: int | None, dtype: torch.dtype) -> Row:
    n = MATMUL_SIZE[device.type]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    figures = _fastest(lambda: torch.mm(a, b, out=out), device)
    place = ("card", "matmul", "ceiling", f"{n}x{n}x{n}", dtype_name(dtype), "forward", "eager", threads)
    return Row(*place, bytes=3 * a.nbytes, flops=2 * n**3, share=1.0, ceiling="compute", **figures)


def _fastest(call: Callable[[], object], device: torch.device) -> dict:
    """The figures of the fastest round."""
    rounds = [measure(call, device, seconds_budget=SECONDS) for _ in range(ROUNDS)]
    return vars(min(rounds, key=lambda found: (found.kernel or found.call).p50))
