"""What both attentions share: rivals, ``scaled_dot_product_attention`` and FlexAttention with a bias for positions.

The bias depends on the queries, so computing it is part of the call. Where it holds all pairs, so does memory.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import DTYPES, StaticCase
from silk_fast.reference.ops import attention_mask

Window = tuple[int | None, int | None]

KERNELS = frozenset(f"_attention_{name}_kernel" for name in ("fwd", "bwd_dq", "bwd_dkv", "bwd_dpos"))
MATRIX = {dtype: KERNELS if dtype.itemsize == 2 else frozenset() for dtype in DTYPES}


def sdpa(q: Tensor, k: Tensor, v: Tensor, position: Tensor, row: Tensor, window: Window) -> Tensor:
    """Attention with ``position`` spread to all pairs as an additive mask.

    Args:
        q, k, v: ``[B, H, T, D]``.
        position: ``[B, H, T, R]``, score of each query with each row of positions.
        row: int ``[T, T]``, row of each pair.
        window: keys to the left and to the right that a query sees.
    """
    bias = position.gather(-1, row.expand(*q.shape[:2], -1, -1)) / sqrt(q.shape[-1])
    if window != (None, None):
        mask = attention_mask(q.shape[-2], k.shape[-2], window, device=q.device)
        bias = bias.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def flex(q: Tensor, k: Tensor, v: Tensor, position: Tensor, row: Tensor, window: Window) -> Tensor:
    """Attention with ``position`` looked up per pair by compiled FlexAttention, blocks outside the window left out.

    Its gradient to ``position`` adds up atomically; on a CPU it has none.
    """
    scale = 1 / sqrt(q.shape[-1])

    def score(score, batch, head, i_query, i_key):
        return score + position[batch, head, i_query, row[i_query, i_key]] * scale

    return _compiled_flex()(q, k, v, score_mod=score, block_mask=_block_mask(q.shape[-2], window, q.device))


@lru_cache
def _compiled_flex() -> Callable:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, fullgraph=True, dynamic=False)


@lru_cache
def _block_mask(n_frames: int, window: Window, device: torch.device):
    """Which blocks of keys a block of queries sees: the same for every call, so made once."""
    from torch.nn.attention.flex_attention import create_block_mask

    if window == (None, None):
        return None
    left, right = (n_frames - 1 if extent is None else extent for extent in window)

    def visible(batch, head, i_query, i_key):
        return (i_query - i_key <= left) & (i_key - i_query <= right)

    return create_block_mask(visible, None, None, n_frames, n_frames, device=device)


def static_cases(
    op: str, shapes: dict[str, tuple], inputs: Callable, call: Callable, sizes: Callable[..., dict]
) -> list[StaticCase]:
    """Cases to compile: streams forward alone, heads that no codec here has not in bfloat16, which is as float16.

    Args:
        sizes: gives arguments of ``op_cost``, by those of ``inputs``.
    """
    return [
        StaticCase(
            *(op, name, dtype, partial(inputs, *shape), call, frozenset(), MATRIX[dtype], "stream" not in name),
            sizes=sizes(*shape),
        )
        for name, shape in shapes.items()
        for dtype in (DTYPES[:2] if name.startswith("other head") else DTYPES)
    ]


def distances(n_frames: int, low: int, high: int, device: torch.device) -> Tensor:
    """int64 ``[T, T]``: ``i - j`` of query i and key j, clipped to ``low .. high``, less ``low``."""
    i_frame = torch.arange(n_frames, device=device)
    return (i_frame[:, None] - i_frame).clamp(low, high) - low
