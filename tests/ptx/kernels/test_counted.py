"""What compiled kernels are counted to do, against counts worked out by hand."""

import pytest
import torch
import triton
import triton.language as tl
from silk_fast.kernels import fsq_quantize, snake

from bench.counted import LARGE_SAMPLE, SMALL, Counting
from tests.ptx.driver import install
from tests.ptx.kernels.test_elementwise import add_kernel
from tests.ptx.kernels.test_matmul import matmul_kernel

BLOCK = 1024  # of 4 warps: 8 elements a thread, two accesses of 16 bytes


@pytest.fixture
def counting(machine):
    """Counts launches for the target of ``machine``."""
    emulator = Counting(machine.arch)
    install(emulator)
    return emulator


@pytest.mark.parametrize("blocks", [4, SMALL, SMALL + 1, 1000])
def test_vector_addition(counting, blocks):
    n = blocks * BLOCK
    x, y, out = torch.randn(3, n)
    add_kernel[(blocks,)](x, y, out, n, B=BLOCK)
    (launch,) = counting.launches
    assert (launch.blocks, launch.blocks_run) == (blocks, min(blocks, LARGE_SAMPLE))
    assert launch.tensor_bytes == 12 * n
    counts, warps = launch.counts, 4 * blocks
    assert launch.whole(counts.load_bytes) == 8 * n
    assert launch.whole(counts.load_sectors) == 8 * n // 32
    assert launch.whole(counts.store_bytes) == 4 * n
    assert launch.whole(counts.store_sectors) == 4 * n // 32
    per_warp = {"fp32": 8, "load global": 4, "store global": 2}
    assert {name: launch.whole(counts.warps[name]) for name in per_warp} == {k: v * warps for k, v in per_warp.items()}
    assert not counts.shared_passes


def test_a_sample_knows_the_last_block(counting):
    """It has half of its elements; the sample gives it a weight of 1 / 252 instead of 1 / 1000."""
    n = 999 * BLOCK + BLOCK // 2
    x, y, out = torch.randn(3, n)
    add_kernel[(1000,)](x, y, out, n, B=BLOCK)
    (launch,) = counting.launches
    assert launch.counts.load_bytes == 8 * (251 * BLOCK + BLOCK // 2)
    assert launch.whole(launch.counts.load_bytes) == pytest.approx(8 * n, rel=0.002)


@triton.jit
def strided_kernel(x, out, stride, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + i, tl.load(x + i * stride))


@pytest.mark.parametrize(("stride", "sectors"), [(3, 3 * 4), (9, 32)])
def test_a_strided_copy_moves_a_sector_for_every_element(counting, stride, sectors):
    """32 lanes read 4 bytes each, one of ``stride``: 12 sectors hold those of stride 3, of stride 9 each its own."""
    x, out = torch.randn(2048 * stride), torch.empty(2048)
    strided_kernel[(16,)](x, out, stride, B=128)
    (launch,) = counting.launches
    assert (launch.counts.load_bytes, launch.counts.load_sectors) == (4 * 2048, sectors * 2048 // 32)
    assert (launch.counts.store_bytes, launch.counts.store_sectors) == (4 * 2048, 4 * 2048 // 32)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_matrix_product(counting, dtype):
    M, N, K = 128, 192, 256
    a, b, c = torch.randn(M, K).to(dtype), torch.randn(K, N).to(dtype), torch.empty(M, N)
    matmul_kernel[(2, 3)](a, b, c, M, N, K, *a.stride(), *b.stride(), 64, 64, 32, "ieee", tl.float32)
    (launch,) = counting.launches
    counts = launch.counts
    assert counts.matrix_flops == {"f16" if dtype == torch.float16 else "bf16": 2 * M * N * K}
    if counting.arch != 90:  # there wgmma takes what it finds, and commits and waits besides
        assert counts.warps["matrix"] == (M // 16) * (N // 8) * (K // 16)
    assert counts.load_bytes == 2 * (3 * M * K + 2 * K * N)
    assert counts.load_sectors == counts.load_bytes // 32
    assert counts.store_bytes == 4 * M * N
    assert launch.tensor_bytes == 2 * (M * K + K * N) + 4 * M * N


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("op", ["snake of an odd number of elements", "codes of [B, D, F]"])
def test_elements_side_by_side_share_a_sector(counting, op, dtype):
    """But for the last program's in Snake, whose mask ends anywhere: there each lane's vector is cut into elements."""
    if op.startswith("snake"):
        x, alpha = torch.randn(1, 24, 4101).to(dtype), torch.rand(24) + 0.5
        snake(x, alpha, alpha)
    else:
        fsq_quantize(torch.randn(4, 128, 32).to(dtype), [8] * 128, 1)
    (launch,) = counting.launches
    counts = launch.counts
    assert counts.load_sectors <= 1.2 * counts.load_bytes / 32
    assert counts.store_sectors <= 1.2 * counts.store_bytes / 32
