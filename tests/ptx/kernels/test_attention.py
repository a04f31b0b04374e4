"""Flash attention against torch in float64: products, running maxima, and a pipeline of two operands."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def attention_kernel(q, k, v, out, n, scale, B: tl.constexpr, D: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    head = tl.program_id(1) * n * D
    d = tl.arange(0, D)
    b_q = tl.load(q + head + i[:, None] * D + d, mask=(i < n)[:, None], other=0.0)
    greatest = tl.full((B,), -float("inf"), tl.float32)
    total = tl.zeros((B,), tl.float32)
    acc = tl.zeros((B, D), tl.float32)
    for start in range(0, n, B):
        j = start + tl.arange(0, B)
        b_k = tl.load(k + head + j * D + d[:, None], mask=j < n, other=0.0)
        score = tl.dot(b_q, b_k, input_precision="ieee") * scale
        score = tl.where((j < n) & (j <= i[:, None]), score, -float("inf"))
        new = tl.maximum(greatest, tl.max(score, 1))
        p = tl.exp(score - new[:, None])
        decay = tl.exp(greatest - new)
        total = total * decay + tl.sum(p, 1)
        b_v = tl.load(v + head + j[:, None] * D + d, mask=(j < n)[:, None], other=0.0)
        acc = acc * decay[:, None] + tl.dot(p.to(b_v.dtype), b_v, input_precision="ieee")
        greatest = new
    y = acc / total[:, None]
    tl.store(out + head + i[:, None] * D + d, y.to(out.dtype.element_ty), mask=(i < n)[:, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("block", "dim", "num_warps", "num_stages"), [(16, 16, 1, 1), (64, 64, 4, 3), (64, 32, 8, 2)])
def test_causal_attention(machine, dtype, block, dim, num_warps, num_stages):
    n = 150
    q, k, v = torch.randn(3, 2, n, dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.empty_like(q)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    attention_kernel[(triton.cdiv(n, block), 2)](q, k, v, out, n, dim**-0.5, B=block, D=dim, **options)
    exact = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
    assert (out.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps + 2e-6
