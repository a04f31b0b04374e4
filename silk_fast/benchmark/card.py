"""What this machine reaches: copy bandwidth, and the rate of matrix products in each dtype.

All shares of a result file are shares of these. A copy is of tensors far larger than any cache, counted as one read
and one write. Products are square; in float32 they are IEEE float32 without TF32, and stand for all arithmetic
outside matrix units as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        seconds: for each measurement.
    """

    copy_bytes: int
    matmul: int
    seconds: float


GPU = Sizes(2**30, 8192, 0.5)
CPU = Sizes(2**28, 1024, 0.5)
SMOKE = Sizes(2**26, 256, 0.05)


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
    found = measure(lambda: target.copy_(source), device, seconds_budget=sizes.seconds)
    return _row("copy", device, source.shape[0], torch.float32, found, 2 * source.nbytes, 0, "bandwidth")


def _matmul_row(device: torch.device, sizes: Sizes, dtype: torch.dtype) -> Row:
    n = sizes.matmul
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    found = measure(lambda: torch.mm(a, b, out=out), device, seconds_budget=sizes.seconds)
    return _row("matmul", device, f"{n}x{n}x{n}", dtype, found, 3 * a.nbytes, 2 * n**3, "compute")


def _row(op, device, shape, dtype, found, n_bytes, flops, ceiling) -> Row:
    return Row(
        section="card",
        op=op,
        case="ceiling",
        shape=str(shape),
        dtype=dtype_name(dtype),
        direction="forward",
        provider="eager",
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        call=found.call,
        kernel=found.kernel,
        bytes=n_bytes,
        flops=flops,
        share=1.0,
        ceiling=ceiling,
        peak_bytes=found.peak_bytes,
    )
