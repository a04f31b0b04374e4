"""Sums, softmax, layer norm, scans, sorting, transposition and functions, against torch in float64."""

import pytest
import torch
import triton
import triton.language as tl

FLOATS = [torch.float32, torch.float16, torch.bfloat16]


@triton.jit
def add_kernel(x, y, out, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    mask = i < n
    tl.store(out + i, tl.load(x + i, mask=mask) + tl.load(y + i, mask=mask), mask=mask)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64, torch.int8, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("n", [1, 4097])
def test_add(machine, dtype, n):
    x, y = (torch.randn(2, n) * 10).to(dtype)
    out = torch.empty(n, dtype=dtype)
    add_kernel[(triton.cdiv(n, 1024),)](x, y, out, n, B=1024)
    assert torch.equal(out, x + y)


@triton.jit
def softmax_kernel(x, out, n, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + tl.program_id(0) * n + i, mask=i < n, other=-float("inf")).to(tl.float32)
    v = tl.exp(v - tl.max(v, 0))
    tl.store(out + tl.program_id(0) * n + i, (v / tl.sum(v, 0)).to(out.dtype.element_ty), mask=i < n)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("n", "num_warps"), [(7, 1), (500, 4), (2000, 8)])
def test_softmax(machine, dtype, n, num_warps):
    x = torch.randn(3, n).to(dtype)
    out = torch.empty_like(x)
    softmax_kernel[(3,)](x, out, n, B=triton.next_power_of_2(n), num_warps=num_warps)
    assert (out.double() - x.double().softmax(-1)).abs().max() < torch.finfo(dtype).eps


@triton.jit
def layer_norm_kernel(x, gain, bias, out, n, eps, B: tl.constexpr):
    i = tl.arange(0, B)
    mask = i < n
    v = tl.load(x + tl.program_id(0) * n + i, mask=mask, other=0.0).to(tl.float32)
    centred = tl.where(mask, v - tl.sum(v, 0) / n, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / n + eps)
    y = centred * scale * tl.load(gain + i, mask=mask, other=0.0) + tl.load(bias + i, mask=mask, other=0.0)
    tl.store(out + tl.program_id(0) * n + i, y.to(out.dtype.element_ty), mask=mask)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_layer_norm(machine, dtype):
    x, (gain, bias) = torch.randn(5, 300).to(dtype), torch.rand(2, 300)
    out = torch.empty_like(x)
    layer_norm_kernel[(5,)](x, gain, bias, out, 300, 1e-5, B=512)
    exact = torch.nn.functional.layer_norm(x.double(), (300,), gain.double(), bias.double())
    assert (out.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps + 2e-6


@triton.jit
def scan_kernel(x, sums, greatest, ordered, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    tl.store(sums + i, tl.cumsum(v, 0))
    tl.store(greatest, tl.argmax(v, 0))
    tl.store(ordered + i, tl.sort(v))


@pytest.mark.parametrize("num_warps", [1, 4])
def test_scan_argmax_and_sort(machine, num_warps):
    x = torch.randperm(512).to(torch.int32)
    sums, greatest, ordered = torch.empty_like(x), torch.empty(1, dtype=torch.int32), torch.empty_like(x)
    scan_kernel[(1,)](x, sums, greatest, ordered, B=512, num_warps=num_warps)
    assert torch.equal(sums, x.cumsum(0).int())
    assert greatest.item() == x.argmax()
    assert torch.equal(ordered, x.sort().values)


@triton.jit
def transpose_kernel(x, out, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    tl.store(out + n[:, None] * M + m, tl.trans(tl.load(x + m[:, None] * N + n)))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.float32, torch.int64], ids=str)
def test_transpose(machine, dtype):
    x = torch.randint(-100, 100, (64, 32)).to(dtype)
    out = torch.empty(32, 64, dtype=dtype)
    transpose_kernel[(1,)](x, out, M=64, N=32)
    assert torch.equal(out, x.t())


@triton.jit
def functions_kernel(x, out, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    tl.store(out + i, tl.sin(v))
    tl.store(out + B + i, tl.cos(v))
    tl.store(out + 2 * B + i, tl.exp(v / 100))
    tl.store(out + 3 * B + i, tl.log(tl.abs(v) + 1))
    tl.store(out + 4 * B + i, tl.sqrt(tl.abs(v)))
    tl.store(out + 5 * B + i, tl.erf(v))
    tl.store(out + 6 * B + i, tl.sigmoid(v))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-14)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_functions(machine, dtype, bound, scale):
    """The large arguments take the slow path of sine, with a table and a stack."""
    x = (torch.randn(256, dtype=torch.float64) * scale).clamp(-5000, 1e6).to(dtype)
    out = torch.empty(7, 256, dtype=dtype)
    functions_kernel[(1,)](x, out, B=256)
    d = x.double()
    exact = torch.stack([d.sin(), d.cos(), (d / 100).exp(), (d.abs() + 1).log(), d.abs().sqrt(), d.erf(), d.sigmoid()])
    exact = exact.to(dtype).double()  # what overflows is infinite
    error = torch.where(out == exact, 0.0, (out.double() - exact).abs() / (exact.abs() + 0.5))
    argument = x.abs().double() / 100 * torch.finfo(dtype).eps  # exp repeats the errors of x / 100 and of its scaling
    assert (error <= bound + 6 * argument).all()


@triton.jit
def histogram_kernel(x, counts, n, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.atomic_add(counts + tl.load(x + i, mask=i < n, other=0), 1, mask=i < n)


def test_atomics_of_many_programs(machine):
    x = torch.randint(0, 9, (3000,), dtype=torch.int32)
    counts = torch.zeros(9, dtype=torch.int32)
    histogram_kernel[(3,)](x, counts, 3000, B=1024)
    assert torch.equal(counts, torch.bincount(x, minlength=9).int())
