"""Static cases of `rel_attention`: Silk (8 heads of 16, window 63, 0) and Wav2Vec2Conformer (heads of 64, all keys)."""

from functools import partial

import torch
from silk_fast.kernels.rel_attention import rel_attention

from bench.cases import DTYPES, StaticCase

KERNELS = (
    "_attention_fwd_kernel",
    "_attention_bwd_dq_kernel",
    "_attention_bwd_dkv_kernel",
    "_attention_bwd_dpos_kernel",
)
SHAPES = {  # name: samples, heads, queries, keys, D, window, with lengths
    "silk [16, 8, 75, 16]": (16, 8, 75, 75, 16, (63, 0), True),
    "silk stream [1, 8, 1 of 64, 16]": (1, 8, 1, 64, 16, (63, 0), False),
    "wav2vec2-conformer [4, 16, 500, 64]": (4, 16, 500, 500, 64, (None, None), True),
    "wide head [1, 8, 500, 128]": (1, 8, 500, 500, 128, (None, None), False),
}
FORWARD_ONLY = ("silk stream [1, 8, 1 of 64, 16]",)


def _inputs(n_batch, n_heads, n_queries, n_keys, head_dim, window, with_lengths, dtype, stream):
    def heads(n_rows):
        return torch.zeros(n_batch, n_rows, n_heads, head_dim, dtype=dtype).transpose(1, 2)

    left, right = (n_keys - 1 if extent is None else extent for extent in window)
    pos = torch.zeros(left + right + 1, n_heads, head_dim, dtype=dtype).transpose(0, 1)
    biases = torch.zeros(2, n_heads, head_dim, dtype=dtype).unbind()
    counts = torch.full((n_batch,), n_keys)
    tensors = [heads(n_queries), heads(n_keys), heads(n_keys), pos, *biases]
    return tensors, window, counts if with_lengths else None, counts * 0 if stream else None


def _run(name: str, dtype: torch.dtype) -> None:
    forward_only = name in FORWARD_ONLY
    tensors, *options = _inputs(*SHAPES[name], dtype, forward_only)
    tensors = [x.requires_grad_(not forward_only) for x in tensors]
    out = rel_attention(*tensors, *options)
    if not forward_only:
        torch.autograd.grad(out, tensors, torch.zeros_like(out))


def static_cases() -> list[StaticCase]:
    return [
        StaticCase(
            op="rel_attention",
            shape=name,
            dtype=dtype,
            run=partial(_run, name, dtype),
            tensor_cores=frozenset(KERNELS) if dtype.itemsize == 2 else frozenset(),
        )
        for name in SHAPES
        for dtype in DTYPES
    ]
