"""The parity checks that a run makes before it measures, one test each, on a GPU. ``pytest bench/test_parity.py``"""

import pytest
import torch

from bench.parity import checks
from silk_fast.benchmark.runner import ieee_float32

CHECKS = checks()

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels run on a GPU")


@pytest.mark.parametrize("name", CHECKS)
def test_parity(name, request):
    device = torch.device(request.config.getoption("--device"))
    _, check = CHECKS[name]
    with torch.cuda.device(device), ieee_float32():
        check(device)
        torch.cuda.empty_cache()
