"""Attention with clipped relative keys (Shaw et al., 2018; in speech, Wav2Vec2-BERT with left 64 and right 8).

``score_ij = (q_i . k_j + q_i . E[clip(j - i, -left, right) + left]) / sqrt(D)``, softmax over the keys, times v.
"""

import torch
from torch import Tensor

from .._launch import check_operand, define_op
from .launch import attention_backward, attention_forward, check_heads, empty_heads, empty_lse


def _check(
    q: Tensor, k: Tensor, v: Tensor, distance_embedding: Tensor, left: int, right: int, lengths: Tensor | None
) -> None:
    check_heads(q, k, v, lengths)
    if q.shape[2] != k.shape[2]:
        raise ValueError(f"k must have as many rows as q, {q.shape[2]}, got {k.shape[2]}")
    if left < 0 or right < 0:
        raise ValueError(f"left and right must be >= 0, got {left} and {right}")
    n_rows, head_dim, shape = left + right + 1, q.shape[3], distance_embedding.shape
    if shape != (n_rows, head_dim):
        raise ValueError(f"distance_embedding must be [left + right + 1 = {n_rows}, {head_dim}], got {list(shape)}")
    check_operand("distance_embedding", distance_embedding, shape, q, "q", dtypes=None)


@define_op("rel_key_attention")
def _rel_key_attention(
    q: Tensor, k: Tensor, v: Tensor, distance_embedding: Tensor, left: int, right: int, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp."""
    _check(q, k, v, distance_embedding, left, right, lengths)
    return attention_forward(q, k, v, distance_embedding, (None, None), left, right, True, lengths, None)


@define_op("rel_key_attention_backward")
def _rel_key_attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    distance_embedding: Tensor,
    left: int,
    right: int,
    lengths: Tensor | None,
    out: Tensor,
    lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and distance_embedding."""
    dq, dk, dv, per_head, first_row, last_row = attention_backward(
        dout, q, k, v, distance_embedding, (None, None), left, right, True, lengths, None, out, lse
    )
    total = per_head.sum(0)
    total[0] += first_row.sum(0)
    total[-1] += last_row.sum(0)
    return dq, dk, dv, total.to(distance_embedding.dtype)


@_rel_key_attention.register_fake
def _(q, k, v, distance_embedding, left, right, lengths):
    return empty_heads(q), empty_lse(q)


@_rel_key_attention_backward.register_fake
def _(dout, q, k, v, distance_embedding, left, right, lengths, out, lse):
    table = torch.empty_like(distance_embedding, memory_format=torch.contiguous_format)
    return empty_heads(q), empty_heads(k), empty_heads(v), table


def _setup_context(ctx, inputs, output):
    *tensors, ctx.left, ctx.right, lengths = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, lengths, *output)


def _backward(ctx, dout, _):
    *tensors, lengths, out, lse = ctx.saved_tensors
    grads = _rel_key_attention_backward(dout, *tensors, ctx.left, ctx.right, lengths, out, lse)
    return *grads, None, None, None


_rel_key_attention.register_autograd(_backward, setup_context=_setup_context)


def rel_key_attention(
    q: Tensor, k: Tensor, v: Tensor, distance_embedding: Tensor, left: int, right: int, lengths: Tensor | None = None
) -> Tensor:
    """Attend with clipped relative keys (Shaw et al., 2018), as Wav2Vec2-BERT does.

    ``score_ij = (q_i . k_j + q_i . E[clip(j - i, -left, right) + left]) / sqrt(D)``

    Differentiable to every floating-point tensor. The scores are not stored; the memory beside
    inputs and output is one number per query.

    Args:
        q, k, v: ``[B, H, T, D]``, D in 1 .. 128; float16, bfloat16 or float32 (float64 serves gradient checks). Any
            strides; a dense last dimension spares a copy.
        distance_embedding: ``[left + right + 1, D]``, shared by the heads; the dtype of ``q``.
        left, right: distances beyond which keys share an embedding.
        lengths: int ``[B]``, keys per sample; None for all. Read by the kernel only, never on the host.

    Returns:
        ``[B, H, T, D]``, laid out so that ``transpose(1, 2).flatten(2)`` copies nothing; zeros for a query that sees
        no key.

    Raises:
        ValueError: a shape or device does not fit, or ``left`` or ``right`` is negative.
        TypeError: a dtype does not fit.
    """
    return _rel_key_attention(q, k, v, distance_embedding, left, right, lengths)[0]
