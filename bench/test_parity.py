"""Parity of what ``bench.gpu`` measures, which runs this first: our kernels against the reference, on the GPU.

pytest bench/test_parity.py
"""

import pytest
import torch

from bench.cases import FRAME, TimingCase
from bench.ops import timing_cases
from bench.parity import check, check_codec
from bench.providers import family
from silk_fast.benchmark.card import use_ieee_float32
from silk_fast.benchmark.rows import dtype_name

# A sentence, and less: a batch adds programs, not code. Gradients of attention to a single frame are rounding alone.
POINTS = {"forward": ((1, FRAME), (1, 10)), "backward": ((2, 2), (1, 10))}

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels run on a GPU")


def parity_cases() -> list[TimingCase]:
    """The layers that are measured first, what Silk serves before other dtypes, and those at the largest size only."""
    cases = [
        case
        for direction, points in POINTS.items()
        for case in timing_cases(points)
        if case.is_main and case.direction == direction
    ]
    largest = {(*family(case), case.layer): case.point for case in cases}
    cases = [case for case in cases if case.is_served or case.point == largest[(*family(case), case.layer)]]
    return sorted(cases, key=lambda case: (not case.is_served, case.direction == "backward"))


def case_id(case: TimingCase) -> str:
    """``snake-float16-forward-DAC 44.1 kHz, 10 s, batch 1``; ``bench.gpu`` reads it."""
    return f"{case.op}-{dtype_name(case.dtype)}-{case.direction}-{case.case}"


case_id.__test__ = False


def codec_families() -> dict[str, tuple[str, str, str]]:
    """Of the tests of the whole codec, by name: what of it they speak for."""
    return {direction: (direction, "float32", "forward") for direction in ("encode", "decode")}


@pytest.fixture
def device(request) -> torch.device:
    """The GPU of ``--device``, made the current one; its memory is given back."""
    device = torch.device(request.config.getoption("--device"))
    use_ieee_float32()
    with torch.cuda.device(device):
        yield device
        torch.cuda.empty_cache()


@pytest.mark.parametrize("direction", codec_families())
def test_codec_parity(direction, device):
    check_codec(direction, device)


@pytest.mark.parametrize("case", parity_cases(), ids=case_id)
def test_parity(case, device):
    check(case, device)
