"""Matrix products of every dtype, precision, tile and depth of pipeline, against torch in float64."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def matmul_kernel(
    a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), SUM)
    for k0 in range(0, K, BK):
        k = k0 + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * stride_am + k * stride_ak, mask=(m < M)[:, None] & (k < K), other=0)
        y = tl.load(b + k[:, None] * stride_bk + n * stride_bn, mask=(k < K)[:, None] & (n < N), other=0)
        acc = tl.dot(x, y, acc, input_precision=PRECISION, out_dtype=SUM)
    tl.store(c + m[:, None] * N + n, acc, mask=(m < M)[:, None] & (n < N))


KINDS = {  # dtype of the factors, precision, of the sum, the largest error
    "float32": (torch.float32, "ieee", torch.float32, 3e-5),
    "tf32": (torch.float32, "tf32", torch.float32, 5e-2),
    "tf32x3": (torch.float32, "tf32x3", torch.float32, 3e-5),
    "float16": (torch.float16, "ieee", torch.float32, 3e-5),
    "bfloat16": (torch.bfloat16, "ieee", torch.float32, 3e-5),
    "float64": (torch.float64, "ieee", torch.float64, 1e-12),
    "int8": (torch.int8, "ieee", torch.int32, 0),
}
SUMS = {torch.float32: tl.float32, torch.float64: tl.float64, torch.int32: tl.int32}
PLANS = [  # tile, num_warps, num_stages, whether a and b are stored transposed
    ((16, 16, 32), 1, 1, (False, False)),
    ((32, 64, 32), 4, 2, (False, True)),
    ((64, 32, 32), 4, 3, (True, False)),
    ((64, 64, 64), 8, 2, (False, False)),
    ((64, 128, 32), 4, 4, (False, True)),
]
CASES = [(kind, *plan) for kind in KINDS for plan in (PLANS[:3] if kind == "float64" else PLANS)]  # larger do not fit


def factors(shape: tuple[int, int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.int8:
        return torch.randint(-99, 99, shape, generator=generator).to(dtype)
    return torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize(("kind", "tile", "num_warps", "num_stages", "transposed"), CASES)
def test_matmul(machine, kind, tile, num_warps, num_stages, transposed):
    dtype, precision, sum_dtype, bound = KINDS[kind]
    M, N, K = 130, 72, 136
    a, b = factors((M, K), dtype, 0), factors((K, N), dtype, 1)
    exact = a.double() @ b.double()
    a, b = (x.t().contiguous().t() if is_transposed else x for x, is_transposed in zip((a, b), transposed, strict=True))
    c = torch.full((M, N), -1, dtype=sum_dtype)
    grid = triton.cdiv(M, tile[0]), triton.cdiv(N, tile[1])
    constants = (*tile, precision, SUMS[sum_dtype])
    options = {"num_warps": num_warps, "num_stages": num_stages}
    matmul_kernel[grid](a, b, c, M, N, K, *a.stride(), *b.stride(), *constants, **options)
    error = (c.double() - exact).abs().max()
    assert error <= bound
    if precision == "tf32":
        assert error > 1e-4  # it has been used
