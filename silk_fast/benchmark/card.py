"""What this machine reaches: copy bandwidth, and the rate of matrix products in each dtype.

All shares of a result file are shares of these. A copy is of tensors far larger than any cache, counted as one read
and one write. Products are square; in float32 they are IEEE float32 without TF32, and stand for all arithmetic
outside matrix units as well. Each is measured in several rounds, of which the fastest counts: a ceiling that was taken
in a slow moment would be below what is measured later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch

from silk_fast.benchmark.costs import Ceilings
from silk_fast.benchmark.rows import Row, dtype_name
from silk_fast.benchmark.timing import measure


@dataclass(frozen=True)
class Sizes:
    """Of what is measured.

    Args:
        copy_bytes: of the tensor that is copied.
        matmul: rows and columns of the factors.
        seconds: for each round of a measurement; a few repetitions are made in any case.
    """

    copy_bytes: int
    matmul: int
    seconds: float


GPU = Sizes(2**30, 8192, 0.2)
CPU = Sizes(2**28, 1536, 0.2)
SMOKE = Sizes(2**26, 256, 0.02)
ROUNDS = 3


def use_ieee_float32() -> None:
    """float32 means float32 for every provider: no TF32 in products or convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def measure_card(
    device: torch.device, sizes: Sizes, add: Callable[[Row], Row], dtypes: Sequence[torch.dtype]
) -> dict[torch.dtype, Ceilings]:
    """Measure the ceilings, by dtype, float32 among them; ``add`` receives a row for each."""
    copy = add(_copy_row(device, sizes))
    bandwidth = _rate(copy, copy.bytes)
    rates = {}
    for dtype in dtypes:
        row = add(_matmul_row(device, sizes, dtype))
        rates[dtype] = _rate(row, row.flops)
    return {dtype: Ceilings(bandwidth, rates[dtype], rates[torch.float32]) for dtype in dtypes}


def _rate(row: Row, amount: int) -> float:
    """Per second."""
    return amount / ((row.kernel or row.call).p50 / 1e3)


def _copy_row(device: torch.device, sizes: Sizes) -> Row:
    source = torch.ones(sizes.copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    row = _row("copy", device, source.shape[0], torch.float32, 2 * source.nbytes, 0, "bandwidth")
    return _fastest(row, lambda: target.copy_(source), device, sizes)


def _matmul_row(device: torch.device, sizes: Sizes, dtype: torch.dtype) -> Row:
    n = sizes.matmul
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    row = _row("matmul", device, f"{n}x{n}x{n}", dtype, 3 * a.nbytes, 2 * n**3, "compute")
    return _fastest(row, lambda: torch.mm(a, b, out=out), device, sizes)


def _fastest(row: Row, call: Callable[[], object], device: torch.device, sizes: Sizes) -> Row:
    """``row`` with the figures of the fastest round, and whether the others confirm it."""
    rounds = [replace(row, **measure(call, device, seconds_budget=sizes.seconds).figures) for _ in range(ROUNDS)]
    first, *others = sorted(rounds, key=lambda row: (row.kernel or row.call).p50)
    return reduce(Row.confirmed_by, others, first)


def _row(op, device, shape, dtype, n_bytes, flops, ceiling) -> Row:
    return Row(
        section="card",
        op=op,
        case="ceiling",
        shape=str(shape),
        dtype=dtype_name(dtype),
        direction="forward",
        provider="eager",
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        bytes=n_bytes,
        flops=flops,
        share=1.0,
        ceiling=ceiling,
    )
