"""ELU: ``y = v`` or, where it is negative, ``e^v - 1``, of ``v = residual + (x + bias)``; bias, residual are optional.

Source: Clevert et al., 2016, with alpha = 1.

Memory-bound: 2 accesses per element forward (3 with a residual), 3 backward; 16 float32 operations forward, 3 backward.
The tensor is walked as one flat axis (``_flat.py``); without a bias it is one row.

Backward takes the slope from y, ``1 + min(y, 0)``: v would be two tensors to read where there is a residual, and to
keep, while the convolution after it keeps y anyway. In half precision the slope is as exact as y is, to 2^-12 in
float16 and 2^-9 in bfloat16. Each program stores its sums per row and ``torch.sum`` adds these up, always in the same
order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._flat import SHORT, channels, flat_tile, load_flat, store_flat, two_channels
from ._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, contiguous, define_op, on_device, wide_dtype
from ._math import elu as elu_value


@triton.jit
def _elu_fwd_kernel(
    x_ptr,
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
    o_block = tl.arange(0, BLOCK)
    b_v = load_flat(x_ptr, i_start, o_block, n_elements).to(COMPUTE)
    if bias_ptr is not None:
        i_row = i_start // n_time
        n_first = (i_row + 1) * n_time - i_start  # elements until the next row starts
        if TWO_ROWS:
            i_channel, i_next = two_channels(i_row, n_channels)
            b_bias = tl.where(o_block >= n_first, tl.load(bias_ptr + i_next), tl.load(bias_ptr + i_channel))
        else:
            b_bias = tl.load(bias_ptr + channels(i_row, n_first, o_block, n_time, n_channels))
        b_v += b_bias.to(COMPUTE)
    if residual_ptr is not None:
        b_v += load_flat(residual_ptr, i_start, o_block, n_elements).to(COMPUTE)
    store_flat(y_ptr, elu_value(b_v), i_start, o_block, n_elements)


@triton.jit
def _gradient(b_dy, b_y):
    """dL/dv; NaN for NaN."""
    return b_dy * (1.0 + tl.minimum(b_y, 0.0, propagate_nan=tl.PropagateNan.ALL))


@triton.jit
def _elu_bwd_kernel(
    dy_ptr, y_ptr, dx_ptr, sums_ptr, n_time, n_elements, n_parts, COMPUTE: tl.constexpr, BLOCK: tl.constexpr
):
    """Flat. With sums, for T >= BLOCK, the programs that meet row r write ``sums[r, :n_parts]``, in order."""
    i_start = tl.program_id(0).to(tl.int64) * BLOCK
    o_block = tl.arange(0, BLOCK)
    b_dy = load_flat(dy_ptr, i_start, o_block, n_elements).to(COMPUTE)
    b_dx = _gradient(b_dy, load_flat(y_ptr, i_start, o_block, n_elements).to(COMPUTE))
    store_flat(dx_ptr, b_dx, i_start, o_block, n_elements)
    if sums_ptr is not None:
        i_row = i_start // n_time
        n_first = (i_row + 1) * n_time - i_start
        m_next = o_block >= n_first
        sums_ptr += i_row * n_parts
        tl.store(sums_ptr + tl.program_id(0) - i_row * n_time // BLOCK, tl.sum(tl.where(m_next, 0.0, b_dx), 0))
        if n_first < BLOCK and i_start + n_first < n_elements:
            tl.store(sums_ptr + n_parts, tl.sum(tl.where(m_next, b_dx, 0.0), 0))


@triton.jit
def _elu_short_bwd_kernel(
    dy_ptr, y_ptr, dx_ptr, sums_ptr, n_time, n_rows, COMPUTE: tl.constexpr, ROWS: tl.constexpr, TIME: tl.constexpr
):
    """Whole rows, for T <= TIME; one sum per row."""
    i_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    m_row = i_row < n_rows
    o_time = tl.arange(0, TIME)
    o_x = i_row[:, None] * n_time + o_time
    m_x = m_row[:, None] & (o_time < n_time)
    b_dy = tl.load(dy_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
    b_dx = _gradient(b_dy, tl.load(y_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE))
    tl.store(dx_ptr + o_x, b_dx.to(dx_ptr.dtype.element_ty), mask=m_x)
    tl.store(sums_ptr + i_row, tl.sum(b_dx, 1), mask=m_row)


def _check(x: Tensor, bias: Tensor | None, residual: Tensor | None) -> None:
    if x.ndim != 3:
        raise ValueError(f"x must be [B, C, T], got {list(x.shape)}")
    check_dtype("x", x)
    if bias is not None:
        check_operand("bias", bias, x.shape[1:2], x)
    if residual is not None:
        check_operand("residual", residual, x.shape, x, dtypes=None)


@define_op("elu")
def _elu(x: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    _check(x, bias, residual)
    x = x.contiguous()
    y = torch.empty_like(x)
    n_elements, n_channels = x.numel(), x.shape[1]
    n_time = n_elements if bias is None else x.shape[2]
    tile = flat_tile(n_time, x.dtype)
    if n_elements:
        with on_device("x", x):
            _elu_fwd_kernel[(triton.cdiv(n_elements, tile["BLOCK"]),)](
                *(x, contiguous(bias), contiguous(residual), y, n_channels, n_time, n_elements),
                TWO_ROWS=n_time >= tile["BLOCK"],
                COMPUTE=compute_dtype(x.dtype),
                **AS_WRITTEN,
                **tile,
            )
    return y


@define_op("elu_backward")
def _elu_backward(dy: Tensor, y: Tensor, with_bias: bool) -> tuple[Tensor, Tensor]:
    """Return dx, which is also the gradient of a residual, and that of a bias, ``[C]``, if there is one; else empty."""
    dy, y = dy.contiguous(), y.contiguous()
    dx = torch.empty_like(y)
    n_batch, n_channels, n_time = y.shape
    n_rows, n_elements = n_batch * n_channels, y.numel()
    is_short = with_bias and n_time < SHORT
    n_time = n_time if with_bias else n_elements
    tile = flat_tile(n_time, y.dtype)
    n_parts = 1 if is_short else triton.cdiv(n_time, tile["BLOCK"]) + 1
    sums = torch.zeros(n_batch, n_channels * with_bias, n_parts, dtype=wide_dtype(y.dtype), device=y.device)
    options = {"COMPUTE": compute_dtype(y.dtype), **AS_WRITTEN}
    with on_device("y", y):
        if n_elements and is_short:
            time = triton.next_power_of_2(n_time)
            rows = SHORT * 2 // time
            _elu_short_bwd_kernel[(triton.cdiv(n_rows, rows),)](
                dy, y, dx, sums, n_time, n_rows, ROWS=rows, TIME=time, num_warps=4, **options
            )
        elif n_elements:
            _elu_bwd_kernel[(triton.cdiv(n_elements, tile["BLOCK"]),)](
                dy, y, dx, sums if with_bias else None, n_time, n_elements, n_parts, **tile, **options
            )
    return dx, sums.sum((0, 2))


@_elu.register_fake
def _(x, bias=None, residual=None):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_elu_backward.register_fake
def _(dy, y, with_bias):
    dx = torch.empty_like(y, memory_format=torch.contiguous_format)
    return dx, y.new_empty(y.shape[1] * with_bias, dtype=wide_dtype(y.dtype))


def _setup_context(ctx, inputs, output):
    _, bias, residual = inputs
    ctx.save_for_backward(output)
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.has_residual = residual is not None


def _backward(ctx, dy: Tensor):
    (y,) = ctx.saved_tensors
    dx, sums = _elu_backward(dy, y, ctx.bias_dtype is not None)
    return dx, None if ctx.bias_dtype is None else sums.to(ctx.bias_dtype), dx if ctx.has_residual else None


_elu.register_autograd(_backward, setup_context=_setup_context)


def elu(x: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Tensor:
    """Apply ELU, ``v`` or ``e^v - 1`` where it is negative, to ``x``, optionally with ``bias`` and ``residual`` added.

    ``v = residual + (x + bias)``, computed in float32 (float64 for float64), rounded once, to the dtype of ``x``; as
    exact beside 0 as elsewhere. Differentiable to every argument; deterministic.

    Args:
        x: ``[B, C, T]``, float32, float16, bfloat16 or float64; copied first if not contiguous.
        bias: ``[C]``, that of the convolution before, of any floating dtype, or None.
        residual: ``[B, C, T]`` in the dtype of ``x``, or None.

    Returns:
        ``[B, C, T]``, contiguous, in the dtype of ``x``.

    Raises:
        ValueError: a shape or device does not match.
        TypeError: an argument is not floating-point, or residual has another dtype than x.

    Source: Clevert et al., 2016, with alpha = 1.
    """
    return _elu(x, bias, residual)
