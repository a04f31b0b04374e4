"""Mathematics on the device against float64: products that are added, sine, cosine, exponential, sigmoid.

Sines of half turns are tested with Snake.
"""

import math

import pytest
import torch
import triton
import triton.language as tl
from silk_fast.kernels._launch import AS_WRITTEN
from silk_fast.kernels._math import fma, sigmoid, sincos
from silk_fast.kernels.inverse_stft.polar_spectrum import exp_limited

from tests.kernels.support import DEVICE


@triton.jit
def _sums_kernel(x_ptr, fused_ptr, plain_ptr, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + o)
    tl.store(fused_ptr + o, fma(x, x, -1.0 - 2.0 * (x - 1.0)))
    tl.store(plain_ptr + o, x * x + (-1.0 - 2.0 * (x - 1.0)))


def test_a_product_is_rounded_unless_it_is_written_as_fused():
    """Of ``x = 1 + e`` the square is ``1 + 2 e + e^2``; float32 has no room for the last term, 2^-30 .. 2^-24."""
    e = torch.tensor([2.0**-n for n in (12, 13, 14, 15)], device=DEVICE)
    fused, plain = torch.empty_like(e), torch.empty_like(e)
    _sums_kernel[(1,)](1 + e, fused, plain, BLOCK=4, **AS_WRITTEN)
    assert torch.equal(fused, e * e)
    assert torch.equal(plain, torch.zeros_like(e))


@triton.jit
def _sigmoid_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + o, sigmoid(tl.load(x_ptr + o, mask=o < n)), mask=o < n)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy, in the interpreter, on what exceeds float32
def test_sigmoid_agrees_with_float64():
    ends = torch.tensor([3.4e38, -3.4e38, math.inf, -math.inf, 1e-45, 0.0])
    x = torch.cat([torch.linspace(-120, 120, 20_001), ends]).to(DEVICE)
    y = torch.empty_like(x)
    _sigmoid_kernel[(triton.cdiv(len(x), 1 << 14),)](x, y, len(x), BLOCK=1 << 14, **AS_WRITTEN)
    exact = x.double().sigmoid()
    assert ((y - exact).abs() <= 4e-7 * exact.clamp(min=0.03) + 1.2e-38).all()


@triton.jit
def _sincos_kernel(x_ptr, sine_ptr, cosine_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    sine, cosine = sincos(tl.load(x_ptr + o, mask=o < n))
    tl.store(sine_ptr + o, sine, mask=o < n)
    tl.store(cosine_ptr + o, cosine, mask=o < n)


def run_sincos(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    sine, cosine = torch.empty_like(x), torch.empty_like(x)
    _sincos_kernel[(triton.cdiv(len(x), 1 << 14),)](x, sine, cosine, len(x), BLOCK=1 << 14, **AS_WRITTEN)
    return sine, cosine


@triton.jit
def _exp_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + o, exp_limited(tl.load(x_ptr + o, mask=o < n)), mask=o < n)


def test_limited_exponential_agrees_with_float64():
    x = torch.linspace(-87, 6, 50_001, device=DEVICE)
    y = torch.empty_like(x)
    _exp_kernel[(triton.cdiv(len(x), 1 << 14),)](x, y, len(x), BLOCK=1 << 14, **AS_WRITTEN)
    exact = x.double().clamp(max=math.log(100)).exp()
    assert ((y - exact).abs() / exact).max() <= 3e-7  # ex2.approx alone may err by 2.4e-7


def phases() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    quarters = torch.arange(-640, 641) * (math.pi / 2)
    steps = torch.arange(-2, 3)[:, None] * 1e-7
    every_half = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(torch.float16).float()
    return {
        "few turns": torch.linspace(-10, 10, 50_001),
        "up to 1e3": (torch.rand(50_000, generator=generator) * 2 - 1) * 1e3,
        "around multiples of pi / 2": (quarters * (1 + steps)).flatten(),
        "every float16": every_half[every_half.isfinite()],
    }


@pytest.mark.parametrize("name", phases())
def test_sine_and_cosine_agree_with_float64(name):
    x = phases()[name].float().to(DEVICE)
    sine, cosine = run_sincos(x)
    assert (sine - x.double().sin()).abs().max() <= 1e-7
    assert (cosine - x.double().cos()).abs().max() <= 1e-7


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy, in the interpreter, on infinity
def test_sine_and_cosine_of_extreme_phases():
    sine, cosine = run_sincos(torch.tensor([1e6, -1e10, 1e20, 3.4e38, -3.4e38], device=DEVICE))
    assert (sine.abs() <= 1).all()
    assert (cosine.abs() <= 1).all()
    sine, cosine = run_sincos(torch.tensor([math.inf, -math.inf, math.nan], device=DEVICE))
    assert sine.isnan().all()
    assert cosine.isnan().all()
