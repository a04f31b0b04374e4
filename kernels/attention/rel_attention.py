"""Relative-position attention of Transformer-XL (Dai et al., 2019; in speech, the Conformer, Gulati et al., 2020).

``score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos_{i - j}) / sqrt(D)``, softmax over the keys in the window, times v.
"""

import torch
from torch import Tensor

from .._launch import check_operand, define_op
from .launch import attention_backward, attention_forward, check_heads, empty_heads, empty_lse


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    u: Tensor,
    v_bias: Tensor,
    left: int,
    right: int,
    lengths: Tensor | None,
    starts: Tensor | None,
) -> None:
    check_heads(q, k, v, lengths, starts)
    if left < 0 or right < 0:
        raise ValueError(f"window must hold extents >= 0 or None, got ({left}, {right})")
    n_heads, head_dim, n_rows = q.shape[1], q.shape[3], left + right + 1
    if pos.shape != (n_heads, n_rows, head_dim):
        raise ValueError(f"pos must be [{n_heads}, left + right + 1 = {n_rows}, {head_dim}], got {list(pos.shape)}")
    check_operand("pos", pos, pos.shape, q, "q", dtypes=None)
    check_operand("u", u, (n_heads, head_dim), q, "q")
    check_operand("v_bias", v_bias, (n_heads, head_dim), q, "q")


@define_op("rel_attention")
def _rel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    u: Tensor,
    v_bias: Tensor,
    left: int,
    right: int,
    lengths: Tensor | None,
    starts: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp."""
    _check(q, k, v, pos, u, v_bias, left, right, lengths, starts)
    return attention_forward(q, k, v, pos, (u, v_bias), left, right, False, lengths, starts)


@define_op("rel_attention_backward")
def _rel_attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    u: Tensor,
    v_bias: Tensor,
    left: int,
    right: int,
    lengths: Tensor | None,
    starts: Tensor | None,
    out: Tensor,
    lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v, pos, u and v_bias."""
    dq, dk, dv, dpos, du, dv_bias = attention_backward(
        dout, q, k, v, pos, (u, v_bias), left, right, False, lengths, starts, out, lse
    )
    return dq, dk, dv, dpos.to(pos.dtype), du.to(u.dtype), dv_bias.to(v_bias.dtype)


@_rel_attention.register_fake
def _(q, k, v, pos, u, v_bias, left, right, lengths, starts):
    return empty_heads(q), empty_lse(q)


@_rel_attention_backward.register_fake
def _(dout, q, k, v, pos, u, v_bias, left, right, lengths, starts, out, lse):
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (pos, u, v_bias)]
    return empty_heads(q), empty_heads(k), empty_heads(v), *grads


def _setup_context(ctx, inputs, output):
    *tensors, ctx.left, ctx.right, lengths, starts = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, lengths, starts, *output)


def _backward(ctx, dout, _):
    *tensors, lengths, starts, out, lse = ctx.saved_tensors
    grads = _rel_attention_backward(dout, *tensors, ctx.left, ctx.right, lengths, starts, out, lse)
    return *grads, None, None, None, None


_rel_attention.register_autograd(_backward, setup_context=_setup_context)


def rel_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pos: Tensor,
    u: Tensor,
    v_bias: Tensor,
    window: tuple[int | None, int | None] = (None, None),
    lengths: Tensor | None = None,
    starts: Tensor | None = None,
) -> Tensor:
    """Attend with relative positions as Transformer-XL (Dai et al., 2019) and the Conformer (Gulati et al., 2020) do.

    ``score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos_{i - j}) / sqrt(D)``

    Differentiable to every floating-point tensor. Neither the scores nor shifted positions are
    stored; the memory beside inputs and output is one number per query.

    Args:
        q: ``[B, H, Tq, D]``, D in 1 .. 128; float16, bfloat16 or float32 (float64 serves gradient checks). The last
            query stands at the last key, so Tq <= Tk.
        k, v: ``[B, H, Tk, D]``, the dtype of ``q``. Any strides; a dense last dimension spares a copy.
        pos: ``[H, R, D]``, projected position of each distance ``i - j``: row r holds distance
            ``r - right``, so ``R = left + right + 1``. An extent of None in ``window`` counts as ``Tk - 1``. The
            dtype of ``q``.
        u, v_bias: ``[H, D]``, content and position biases; any floating-point dtype.
        window: keys to the left and to the right that a query sees; None for all.
        lengths: int ``[B]``, keys per sample; None for all. Read by the kernel only, never on the host.
        starts: int ``[B]``, first key per sample; None for 0.

    Returns:
        ``[B, H, Tq, D]``, laid out so that ``transpose(1, 2).flatten(2)`` copies nothing; zeros for a query that
        sees no key.

    Raises:
        ValueError: a shape or device does not fit, ``pos`` does not have one row per distance, or an extent is
            negative.
        TypeError: a dtype does not fit.
    """
    left, right = (k.shape[-2] - 1 if extent is None else extent for extent in window)
    return _rel_attention(q, k, v, pos, u, v_bias, left, right, lengths, starts)[0]
