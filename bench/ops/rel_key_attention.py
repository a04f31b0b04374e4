"""Static cases of `rel_key_attention`: Wav2Vec2-BERT (16 heads of 64, left 64, right 8), as in X-Codec 2."""

from functools import partial

import torch
from silk_fast.kernels.rel_key_attention import rel_key_attention

from bench.cases import DTYPES, StaticCase

KERNELS = (
    "_attention_fwd_kernel",
    "_attention_bwd_dq_kernel",
    "_attention_bwd_dkv_kernel",
    "_attention_bwd_dpos_kernel",
)
SHAPE = (4, 500, 16, 64)  # samples, frames, heads, D


def _run(dtype: torch.dtype) -> None:
    tensors = [torch.zeros(SHAPE, dtype=dtype).transpose(1, 2) for _ in range(3)] + [torch.zeros(73, 64, dtype=dtype)]
    tensors = [x.requires_grad_() for x in tensors]
    out = rel_key_attention(*tensors, 64, 8, torch.full(SHAPE[:1], SHAPE[1]))
    torch.autograd.grad(out, tensors, torch.zeros_like(out))


def static_cases() -> list[StaticCase]:
    return [
        StaticCase(
            op="rel_key_attention",
            shape="wav2vec2-bert [4, 16, 500, 64]",
            dtype=dtype,
            run=partial(_run, dtype),
            tensor_cores=frozenset(KERNELS) if dtype.itemsize == 2 else frozenset(),
        )
        for dtype in DTYPES
    ]
