"""What this machine reaches: copy bandwidth, and the rate of matrix products in each dtype.

All shares of a result file are shares of these. A copy is of tensors far larger than any cache, counted as one read
and one write. Products are square; in float32 they are IEEE float32 without TF32, and stand for all arithmetic
outside matrix units as well. Each is measured in several rounds, of which the fastest counts: a ceiling that was taken
in a slow moment would be below what is measured later.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch

from silk_fast.benchmark.costs import Ceilings
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.runner import ieee_float32
from silk_fast.benchmark.timing import measure

ROUNDS = 3


@dataclass(frozen=True)
class Sizes:
    """Of what is measured.

    Args:
        copy_bytes: of the tensor that is copied.
        matmul: rows and columns of the factors.
        seconds: for each round of a measurement; a few repetitions are made in any case.
        dtypes: of products; float32 is among them.
    """

    copy_bytes: int
    matmul: int
    seconds: float
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)


SIZES = {
    "cuda": Sizes(2**30, 8192, 0.2, (torch.float32, torch.float16, torch.bfloat16)),
    "cpu": Sizes(2**28, 1536, 0.2),
}


SMOKE = Sizes(2**26, 256, 0.02)
"""Says little, to test the path itself."""


def measure_ceilings(
    device: torch.device, threads: Iterable[int | None], sizes: Sizes, add: Callable[[Iterable[Row]], Sequence[Row]]
) -> dict[tuple[int | None, str], Ceilings]:
    """Measure what the machine reaches, by the number of threads (None on a GPU) and the name of the dtype.

    Args:
        add: receives the rows, and returns them as they were written.
    """
    before = torch.get_num_threads()
    found: dict[tuple[int | None, str], Ceilings] = {}
    for n_threads in threads:
        torch.set_num_threads(n_threads or before)
        with ieee_float32():
            (copy,) = add([_copy_row(device, n_threads, sizes)])
            products = [row for dtype in sizes.dtypes for row in add([_matmul_row(device, n_threads, sizes, dtype)])]
        bandwidth = 1e3 * (copy.bytes or 0) / copy.timing.p50
        rates = {row.dtype: 1e3 * (row.flops or 0) / row.timing.p50 for row in products}
        found |= {(n_threads, dtype): Ceilings(bandwidth, rate, rates["float32"]) for dtype, rate in rates.items()}
    torch.set_num_threads(before)
    return found


def _copy_row(device: torch.device, threads: int | None, sizes: Sizes) -> Row:
    source = torch.ones(sizes.copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    row = _row("copy", str(len(source)), torch.float32, threads)
    row = replace(row, bytes=2 * source.nbytes, flops=0, ceiling="bandwidth")
    return _fastest(row, lambda: target.copy_(source), device, sizes)


def _matmul_row(device: torch.device, threads: int | None, sizes: Sizes, dtype: torch.dtype) -> Row:
    n = sizes.matmul
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    row = replace(_row("matmul", f"{n}x{n}x{n}", dtype, threads), bytes=3 * a.nbytes, flops=2 * n**3, ceiling="compute")
    return _fastest(row, lambda: torch.mm(a, b, out=out), device, sizes)


def _row(op: str, shape: str, dtype: torch.dtype, threads: int | None) -> Row:
    return Row("card", op, "ceiling", shape, dtype_name(dtype), "forward", "eager", threads, share=1.0)


def _fastest(row: Row, call: Callable[[], object], device: torch.device, sizes: Sizes) -> Row:
    """``row`` with the figures of the fastest round, and whether the others confirm it."""
    rounds = [replace(row, **vars(measure(call, device, seconds_budget=sizes.seconds))) for _ in range(ROUNDS)]
    first, *others = sorted(rounds, key=lambda row: row.timing.p50)
    return reduce(Row.confirmed_by, others, first)
