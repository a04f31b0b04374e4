"""Snake: ``y = residual + v + sin(alpha * v)^2 / (beta + 1e-9)`` of ``v = x + bias``; bias, residual are optional.

Source: Ziyin et al., 2020; beta as in BigVGAN (Lee et al., 2023).

Memory-bound: 2 accesses per element forward (3 with a residual), 3 backward; 14 float32 operations forward, 26
backward. The tensor is walked as one flat axis (``_flat.py``): a program no longer than a row derives the constants of
two channels once.

The error of y in float32 is at most 1e-6 times the largest of 1, ``|v|`` and ``1 / beta``. Backward recomputes the
sine. Each program stores its sums per row and ``torch.sum`` adds these up, always in the same order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._flat import SHORT, channels, flat_tile, load_flat, store_flat, two_channels
from ._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, contiguous, define_op, on_device, wide_dtype
from ._math import cos_pi, fma, half_turns, per_pi, sin_pi

EPSILON = tl.constexpr(1e-9)


@triton.jit
def snake_constants(b_alpha, b_beta):
    """Of a channel: ``alpha / pi`` as high and low part, and ``1 / (beta + 1e-9)``."""
    b_high, b_low = per_pi(b_alpha)
    return b_high, b_low, 1.0 / (b_beta + EPSILON)


@triton.jit
def snake_value(b_v, b_high, b_low, b_scale):
    """``v + sin(alpha * v)^2 * scale`` with the constants of :func:`snake_constants`."""
    b_s = sin_pi(half_turns(b_v, b_high, b_low))
    return fma(b_s * b_s, b_scale, b_v)


@triton.jit
def _load_constants(alpha_ptr, beta_ptr, bias_ptr, i_channel, COMPUTE: tl.constexpr):
    """High, low, scale, slope ``2 * alpha * scale``, and bias of channels."""
    b_alpha = tl.load(alpha_ptr + i_channel).to(COMPUTE)
    b_high, b_low, b_scale = snake_constants(b_alpha, tl.load(beta_ptr + i_channel).to(COMPUTE))
    b_bias = tl.zeros_like(b_alpha) if bias_ptr is None else tl.load(bias_ptr + i_channel).to(COMPUTE)
    return b_high, b_low, b_scale, 2.0 * b_alpha * b_scale, b_bias


@triton.jit
def _snake_fwd_kernel(
    x_ptr,
    alpha_ptr,
    beta_ptr,
    bias_ptr,
    residual_ptr,
    y_ptr,
    n_channels,
    n_time,
    n_elements,
    TWO_ROWS: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i_start = tl.program_id(0).to(tl.int64) * BLOCK
    i_row = i_start // n_time
    n_first = (i_row + 1) * n_time - i_start  # elements until the next row starts
    o_block = tl.arange(0, BLOCK)
    if TWO_ROWS:
        i_channel, i_next = two_channels(i_row, n_channels)
        h0, l0, s0, _, v0 = _load_constants(alpha_ptr, beta_ptr, bias_ptr, i_channel, COMPUTE)
        h1, l1, s1, _, v1 = _load_constants(alpha_ptr, beta_ptr, bias_ptr, i_next, COMPUTE)
        m_next = o_block >= n_first
        b_high, b_low = tl.where(m_next, h1, h0), tl.where(m_next, l1, l0)
        b_scale, b_bias = tl.where(m_next, s1, s0), tl.where(m_next, v1, v0)
    else:
        i_channel = channels(i_row, n_first, o_block, n_time, n_channels)
        b_high, b_low, b_scale, _, b_bias = _load_constants(alpha_ptr, beta_ptr, bias_ptr, i_channel, COMPUTE)
    b_v = load_flat(x_ptr, i_start, o_block, n_elements).to(COMPUTE)
    if bias_ptr is not None:
        b_v += b_bias
    b_y = snake_value(b_v, b_high, b_low, b_scale)
    if residual_ptr is not None:
        b_y += load_flat(residual_ptr, i_start, o_block, n_elements).to(COMPUTE)
    store_flat(y_ptr, b_y, i_start, o_block, n_elements)


@triton.jit
def _gradients(b_dy, b_v, b_high, b_low, b_slope):
    """dL/dv, and what the gradients of alpha and beta sum: ``dy * v * sin * cos`` and ``dy * sin^2``."""
    b_f = half_turns(b_v, b_high, b_low)
    b_s = sin_pi(b_f)
    b_dy_sin = b_dy * b_s
    b_dy_sin_cos = b_dy_sin * cos_pi(b_f)
    return fma(b_dy_sin_cos, b_slope, b_dy), b_dy_sin_cos * b_v, b_dy_sin * b_s


@triton.jit
def _store_sums(sums_ptr, stride_sum, b_scale, b_a, b_b, b_dv, HAS_BIAS: tl.constexpr, mask=None):
    """Sums along the last axis: gradients of alpha, beta and bias, ``stride_sum`` apart."""
    axis: tl.constexpr = len(b_a.shape) - 1
    tl.store(sums_ptr, tl.sum(b_a, axis) * (2.0 * b_scale), mask=mask)
    tl.store(sums_ptr + stride_sum, tl.sum(b_b, axis) * -(b_scale * b_scale), mask=mask)
    if HAS_BIAS:
        tl.store(sums_ptr + 2 * stride_sum, tl.sum(b_dv, axis), mask=mask)


@triton.jit
def _snake_bwd_kernel(
    dy_ptr,
    x_ptr,
    alpha_ptr,
    beta_ptr,
    bias_ptr,
    dx_ptr,
    sums_ptr,
    n_channels,
    n_time,
    n_elements,
    n_parts,
    stride_sum,
    COMPUTE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Flat, for T >= BLOCK. The programs that meet row r write ``sums[:, r, :n_parts]``, in order."""
    i_start = tl.program_id(0).to(tl.int64) * BLOCK
    i_row = i_start // n_time
    n_first = (i_row + 1) * n_time - i_start
    o_block = tl.arange(0, BLOCK)
    i_channel, i_next = two_channels(i_row, n_channels)
    h0, l0, scale0, slope0, v0 = _load_constants(alpha_ptr, beta_ptr, bias_ptr, i_channel, COMPUTE)
    h1, l1, scale1, slope1, v1 = _load_constants(alpha_ptr, beta_ptr, bias_ptr, i_next, COMPUTE)
    m_next = o_block >= n_first
    b_high, b_low, b_slope = tl.where(m_next, h1, h0), tl.where(m_next, l1, l0), tl.where(m_next, slope1, slope0)
    b_dy = load_flat(dy_ptr, i_start, o_block, n_elements).to(COMPUTE)
    b_v = load_flat(x_ptr, i_start, o_block, n_elements).to(COMPUTE)
    if bias_ptr is not None:
        b_v += tl.where(m_next, v1, v0)
    b_dv, b_a, b_b = _gradients(b_dy, b_v, b_high, b_low, b_slope)
    store_flat(dx_ptr, b_dv, i_start, o_block, n_elements)

    sums_ptr += i_row * n_parts
    o_part = tl.program_id(0) - i_row * n_time // BLOCK
    b_a0, b_b0, b_v0 = tl.where(m_next, 0.0, b_a), tl.where(m_next, 0.0, b_b), tl.where(m_next, 0.0, b_dv)
    _store_sums(sums_ptr + o_part, stride_sum, scale0, b_a0, b_b0, b_v0, bias_ptr is not None)
    if n_first < BLOCK and i_start + n_first < n_elements:
        b_a1, b_b1, b_v1 = tl.where(m_next, b_a, 0.0), tl.where(m_next, b_b, 0.0), tl.where(m_next, b_dv, 0.0)
        _store_sums(sums_ptr + n_parts, stride_sum, scale1, b_a1, b_b1, b_v1, bias_ptr is not None)


@triton.jit
def _snake_short_bwd_kernel(
    dy_ptr,
    x_ptr,
    alpha_ptr,
    beta_ptr,
    bias_ptr,
    dx_ptr,
    sums_ptr,
    n_channels,
    n_time,
    n_rows,
    COMPUTE: tl.constexpr,
    ROWS: tl.constexpr,
    TIME: tl.constexpr,
):
    """Whole rows, for T <= TIME; one slot per row."""
    i_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    m_row = i_row < n_rows
    o_time = tl.arange(0, TIME)
    o_x = i_row[:, None] * n_time + o_time
    m_x = m_row[:, None] & (o_time < n_time)
    b_high, b_low, b_scale, b_slope, b_bias = _load_constants(
        alpha_ptr, beta_ptr, bias_ptr, i_row % n_channels, COMPUTE
    )
    b_dy = tl.load(dy_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
    b_v = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
    if bias_ptr is not None:
        b_v += b_bias[:, None]
    b_dv, b_a, b_b = _gradients(b_dy, b_v, b_high[:, None], b_low[:, None], b_slope[:, None])
    tl.store(dx_ptr + o_x, b_dv.to(dx_ptr.dtype.element_ty), mask=m_x)
    _store_sums(sums_ptr + i_row, n_rows, b_scale, b_a, b_b, b_dv, bias_ptr is not None, m_row)


def _check(x: Tensor, alpha: Tensor, beta: Tensor, bias: Tensor | None, residual: Tensor | None) -> None:
    if x.ndim != 3:
        raise ValueError(f"x must be [B, C, T], got {list(x.shape)}")
    check_dtype("x", x)
    for name, vector in (("alpha", alpha), ("beta", beta), ("bias", bias)):
        if vector is not None:
            check_operand(name, vector, x.shape[1:2], x)
    if residual is not None:
        check_operand("residual", residual, x.shape, x, dtypes=None)


@define_op("snake")
def _snake(
    x: Tensor, alpha: Tensor, beta: Tensor, bias: Tensor | None = None, residual: Tensor | None = None
) -> Tensor:
    _check(x, alpha, beta, bias, residual)
    x = x.contiguous()
    y = torch.empty_like(x)
    n_channels, n_time = x.shape[1:]
    tile = flat_tile(n_time, x.dtype)
    if n_elements := x.numel():
        with on_device("x", x):
            _snake_fwd_kernel[(triton.cdiv(n_elements, tile["BLOCK"]),)](
                x,
                alpha.contiguous(),
                beta.contiguous(),
                contiguous(bias),
                contiguous(residual),
                y,
                n_channels,
                n_time,
                n_elements,
                TWO_ROWS=n_time >= tile["BLOCK"],
                COMPUTE=compute_dtype(x.dtype),
                **AS_WRITTEN,
                **tile,
            )
    return y


@define_op("snake_backward")
def _snake_backward(
    dy: Tensor, x: Tensor, alpha: Tensor, beta: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return dx, and the gradients of alpha, beta and (if there is one) bias as rows of a ``[2 or 3, C]`` tensor."""
    operands = (dy.contiguous(), x.contiguous(), alpha.contiguous(), beta.contiguous(), contiguous(bias))
    dx = torch.empty_like(operands[1])
    n_batch, n_channels, n_time = x.shape
    n_rows, n_elements = n_batch * n_channels, x.numel()
    tile = flat_tile(n_time, x.dtype)
    n_parts = 1 if n_time < SHORT else triton.cdiv(n_time, tile["BLOCK"]) + 1
    n_sums = 2 if bias is None else 3
    sums = torch.zeros(n_sums, n_batch, n_channels, n_parts, dtype=wide_dtype(x.dtype), device=x.device)
    options = {"COMPUTE": compute_dtype(x.dtype), **AS_WRITTEN}
    with on_device("x", x):
        if n_elements and n_time < SHORT:
            time = triton.next_power_of_2(n_time)
            rows = SHORT * 2 // time
            _snake_short_bwd_kernel[(triton.cdiv(n_rows, rows),)](
                *operands, dx, sums, n_channels, n_time, n_rows, ROWS=rows, TIME=time, num_warps=4, **options
            )
        elif n_elements:
            _snake_bwd_kernel[(triton.cdiv(n_elements, tile["BLOCK"]),)](
                *operands, dx, sums, n_channels, n_time, n_elements, n_parts, n_rows * n_parts, **tile, **options
            )
    return dx, sums.sum((1, 3))


@_snake.register_fake
def _(x, alpha, beta, bias=None, residual=None):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_snake_backward.register_fake
def _(dy, x, alpha, beta, bias=None):
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    return dx, x.new_empty(2 if bias is None else 3, x.shape[1], dtype=wide_dtype(x.dtype))


def _setup_context(ctx, inputs, output):
    *saved, residual = inputs
    ctx.save_for_backward(*saved)
    ctx.has_residual = residual is not None


def _backward(ctx, dy: Tensor):
    x, *parameters = ctx.saved_tensors
    dx, sums = _snake_backward(dy, x, *parameters)
    gradients = [None if p is None else s.to(p.dtype) for p, s in zip(parameters, (*sums, None), strict=False)]
    return dx, *gradients, dy if ctx.has_residual else None


_snake.register_autograd(_backward, setup_context=_setup_context)


def snake(x: Tensor, alpha: Tensor, beta: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    """Apply Snake ``x + sin(alpha * x)^2 / (beta + 1e-9)``, optionally to ``x + bias`` and added to ``residual``.

    ``residual + v + sin(alpha * v)^2 / (beta + 1e-9)`` with ``v = x + bias``, computed in float32 (float64 for
    float64), rounded once, to the dtype of ``x``. Differentiable to every argument; deterministic.

    Args:
        x: ``[B, C, T]``, float32, float16, bfloat16 or float64; copied first if not contiguous.
        alpha: ``[C]``, frequency in radians per unit of x, > 0; of any floating dtype, as are beta and bias.
        beta: ``[C]``, inverse magnitude, > 0. DAC uses ``beta = alpha``.
        bias: ``[C]``, that of the convolution before, or None.
        residual: ``[B, C, T]`` in the dtype of ``x``, or None.

    Returns:
        ``[B, C, T]``, contiguous, in the dtype of ``x``.

    Raises:
        ValueError: a shape or device does not match.
        TypeError: an argument is not floating-point, or residual has another dtype than x.

    Source: Ziyin et al., 2020; beta as in BigVGAN (Lee et al., 2023).
    """
    return _snake(x, alpha, beta, bias, residual)
