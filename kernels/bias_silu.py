"""Bias + SiLU over the last dimension: ``y = silu(x + bias)``, silu(v) = v * sigmoid(v)  (Elfwing et al., 2018).

Memory-bound: 2 accesses per element forward, 3 backward; about 12 float32 operations each.
``[..., C]`` is walked in tiles of rows x channels, so a program loads its part of the bias once and no element
needs a division to find its channel. Accesses are 16 bytes wide where C is a multiple of 8 (4 in float32).

Backward sums the gradient of the bias while it writes that of x: at most PROGRAMS programs take tiles in turn,
each stores one partial sum per channel, and ``torch.sum`` adds these up. Their number depends on the shape
alone, never on the card, so the order of the additions, and the result, is the same everywhere.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, define_op, on_device, wide_dtype
from ._math import silu, silu_slope

TILE = 2048  # elements
PROGRAMS = 512  # of the backward pass; their partial sums take at most 512 * 512 * 4 bytes = 1 MiB


@triton.jit
def _bias_silu_fwd_kernel(
    x_ptr, bias_ptr, y_ptr, n_rows, n_channels, COMPUTE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):
    i_row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    i_channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    m_channel = i_channel < n_channels
    b_bias = tl.load(bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    o_x = i_row[:, None] * n_channels + i_channel
    m_x = (i_row < n_rows)[:, None] & m_channel
    b_y = silu(tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE) + b_bias)
    tl.store(y_ptr + o_x, b_y.to(y_ptr.dtype.element_ty), mask=m_x)


@triton.jit
def _bias_silu_bwd_kernel(
    dy_ptr,
    x_ptr,
    bias_ptr,
    dx_ptr,
    sums_ptr,
    n_rows,
    n_channels,
    COMPUTE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Tiles ``p, p + n, p + 2n ...`` of n programs per channel block; program p stores row p of ``sums``."""
    i_channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    m_channel = i_channel < n_channels
    b_bias = tl.load(bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_sum = tl.zeros((BLOCK_R, BLOCK_C), COMPUTE)
    for i_tile in range(tl.program_id(0), tl.cdiv(n_rows, BLOCK_R), tl.num_programs(0)):
        i_row = tl.cast(i_tile, tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
        o_x = i_row[:, None] * n_channels + i_channel
        m_x = (i_row < n_rows)[:, None] & m_channel
        b_v = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE) + b_bias
        b_dx = tl.load(dy_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE) * silu_slope(b_v)
        tl.store(dx_ptr + o_x, b_dx.to(dx_ptr.dtype.element_ty), mask=m_x)
        b_sum += b_dx
    o_sum = tl.program_id(0) * n_channels + i_channel
    tl.store(sums_ptr + o_sum, tl.sum(b_sum, 0), mask=m_channel)


def _tile(n_channels: int) -> dict[str, int]:
    block_c = min(triton.next_power_of_2(n_channels), 512)
    return {"BLOCK_R": TILE // block_c, "BLOCK_C": block_c}


def _options(x: Tensor) -> dict:
    return {"COMPUTE": compute_dtype(x.dtype), **AS_WRITTEN}


@define_op("bias_silu")
def bias_silu(x: Tensor, bias: Tensor) -> Tensor:
    """Apply SiLU to ``x + bias``, computed in float32 (float64 for float64), returned in the dtype of ``x``.

    Args:
        x: ``[..., C]``, any strides (a copy is made unless contiguous); float32, float16, bfloat16 or float64.
        bias: ``[C]``, of any of these dtypes.

    Returns:
        ``[..., C]``, contiguous; empty if ``x`` is. Differentiable to ``x`` and ``bias``.

    Raises:
        TypeError: ``x`` or ``bias`` is not floating-point.
        ValueError: ``x`` has no dimension; ``bias`` is not ``[C]`` or not on the device of ``x``.
    """
    _check(x, bias)
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        n_channels = x.shape[-1]
        n_rows, tile = x.numel() // n_channels, _tile(n_channels)
        grid = (triton.cdiv(n_rows, tile["BLOCK_R"]), triton.cdiv(n_channels, tile["BLOCK_C"]))
        with on_device("x", x):
            _bias_silu_fwd_kernel[grid](x, bias.contiguous(), y, n_rows, n_channels, **_options(x), **tile)
    return y


def _check(x: Tensor, bias: Tensor) -> None:
    if not x.ndim:
        raise ValueError("x must be [..., C], got no dimension")
    check_dtype("x", x)
    check_operand("bias", bias, x.shape[-1:], x)


@define_op("bias_silu_backward")
def _bias_silu_backward(dy: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    dx = torch.empty_like(x)
    if not x.numel():
        return dx, torch.zeros_like(bias)
    n_channels = x.shape[-1]
    n_rows, tile = x.numel() // n_channels, _tile(n_channels)
    n_blocks = triton.cdiv(n_channels, tile["BLOCK_C"])
    n_programs = min(triton.cdiv(n_rows, tile["BLOCK_R"]), max(1, PROGRAMS // n_blocks))
    sums = torch.empty(n_programs, n_channels, dtype=wide_dtype(x.dtype), device=x.device)
    with on_device("x", x):
        _bias_silu_bwd_kernel[n_programs, n_blocks](
            dy.contiguous(), x, bias.contiguous(), dx, sums, n_rows, n_channels, **_options(x), **tile
        )
    return dx, sums.sum(0).to(bias.dtype)


@bias_silu.register_fake
def _(x: Tensor, bias: Tensor) -> Tensor:
    _check(x, bias)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_bias_silu_backward.register_fake
def _(dy: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(bias)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, dy: Tensor):
    return _bias_silu_backward(dy, *ctx.saved_tensors)


bias_silu.register_autograd(_backward, setup_context=_setup_context)
