"""Residual sum and LayerNorm: ``sum = x + scale * residual``, ``normed = (sum - mean) * rstd * weight + bias``.

Mean and variance are over the last dimension (Ba et al., 2016), ``rstd = 1 / sqrt(variance + eps)``.

Memory-bound: 4 accesses per element forward (eager: 7), 5 backward: one less where the sum has no gradient of its
own, one less where ``scale`` is 1 and the dtypes agree, for then ``residual`` shares the gradient of ``x``.
A program holds whole rows in registers, one if C > 512, else several, so each element is read once; the variance
is that of the differences from the mean, in float32. The sum is rounded to its dtype before it is normalised, so
``normed`` is the LayerNorm of the very sum that is returned, and backward has all it needs in that sum: it
recomputes mean and rstd, two reductions in registers, instead of keeping them.

The gradients of weight and bias are summed as the rows pass: at most PROGRAMS programs take tiles of rows in
turn, each stores two partial sums per channel, and ``torch.sum`` adds these up. Their number depends on the
shape alone, never on the card, so the order of the additions, and the result, is the same everywhere.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, contiguous, define_op, on_device, wide_dtype
from ._math import fma

PROGRAMS = 256  # of the backward pass; their partial sums take at most 2 * 256 * C * 4 bytes
MAX_CHANNELS = 16384  # a row must fit into the registers of one program


@triton.jit
def _rows(i_tile, n_rows, N_CHANNELS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Offsets and mask of the elements of a tile of rows."""
    i_row = tl.cast(i_tile, tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    i_channel = tl.arange(0, BLOCK_C)[None, :]
    return i_row * N_CHANNELS + i_channel, (i_row < n_rows) & (i_channel < N_CHANNELS)


@triton.jit
def _normalise(b_sum, m_channel, N_CHANNELS: tl.constexpr, EPS: tl.constexpr):
    """Rows with mean 0 and variance 1, and the factor that made the variance 1."""
    b_centred = tl.where(m_channel, b_sum - (tl.sum(b_sum, 1) / N_CHANNELS)[:, None], 0.0)
    b_rstd = 1.0 / tl.sqrt(tl.sum(b_centred * b_centred, 1) / N_CHANNELS + EPS)
    return b_centred * b_rstd[:, None], b_rstd[:, None]


@triton.jit
def _add_layer_norm_fwd_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    sum_ptr,
    normed_ptr,
    n_rows,
    N_CHANNELS: tl.constexpr,
    SCALE: tl.constexpr,
    EPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    o_x, m_x = _rows(tl.program_id(0), n_rows, N_CHANNELS, BLOCK_R, BLOCK_C)
    i_channel = tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    b_x = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
    b_residual = tl.load(residual_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
    b_sum = fma(b_residual, tl.full([], SCALE, COMPUTE), b_x)
    b_rounded = b_sum.to(sum_ptr.dtype.element_ty)
    tl.store(sum_ptr + o_x, b_rounded, mask=m_x)
    b_hat, _ = _normalise(b_rounded.to(COMPUTE), m_channel[None, :], N_CHANNELS, EPS)
    b_weight = tl.load(weight_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_bias = tl.load(bias_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_normed = fma(b_hat, b_weight[None, :], b_bias[None, :])
    tl.store(normed_ptr + o_x, b_normed.to(normed_ptr.dtype.element_ty), mask=m_x)


@triton.jit
def _add_layer_norm_bwd_kernel(
    dsum_ptr,
    dnormed_ptr,
    sum_ptr,
    weight_ptr,
    dx_ptr,
    dresidual_ptr,
    partial_ptr,
    n_rows,
    N_CHANNELS: tl.constexpr,
    SCALE: tl.constexpr,
    EPS: tl.constexpr,
    COMPUTE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Tiles ``p, p + n, p + 2n ...`` of n programs; program p stores ``partial[:, p]``: of weight, of bias."""
    i_channel = tl.arange(0, BLOCK_C)
    m_channel = i_channel < N_CHANNELS
    b_weight = tl.load(weight_ptr + i_channel, mask=m_channel, other=0.0).to(COMPUTE)
    b_dweight = tl.zeros((BLOCK_R, BLOCK_C), COMPUTE)
    b_dbias = tl.zeros((BLOCK_R, BLOCK_C), COMPUTE)
    for i_tile in range(tl.program_id(0), tl.cdiv(n_rows, BLOCK_R), tl.num_programs(0)):
        o_x, m_x = _rows(i_tile, n_rows, N_CHANNELS, BLOCK_R, BLOCK_C)
        b_sum = tl.load(sum_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
        b_hat, b_rstd = _normalise(b_sum, m_channel[None, :], N_CHANNELS, EPS)
        b_dy = tl.load(dnormed_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE)
        b_dweight = fma(b_dy, b_hat, b_dweight)
        b_dbias += b_dy
        b_dhat = b_dy * b_weight[None, :]
        b_mean = (tl.sum(b_dhat, 1) / N_CHANNELS)[:, None]
        b_along = (tl.sum(b_dhat * b_hat, 1) / N_CHANNELS)[:, None]  # part of the gradient that changes the variance
        b_dx = fma(-b_hat, b_along, fma(b_dy, b_weight[None, :], -b_mean))
        if dsum_ptr is None:
            b_dx *= b_rstd
        else:
            b_dx = fma(b_rstd, b_dx, tl.load(dsum_ptr + o_x, mask=m_x, other=0.0).to(COMPUTE))
        tl.store(dx_ptr + o_x, b_dx.to(dx_ptr.dtype.element_ty), mask=m_x)
        if dresidual_ptr is not None:
            tl.store(dresidual_ptr + o_x, (SCALE * b_dx).to(dresidual_ptr.dtype.element_ty), mask=m_x)
    o_partial = tl.program_id(0) * N_CHANNELS + i_channel
    tl.store(partial_ptr + o_partial, tl.sum(b_dweight, 0), mask=m_channel)
    o_partial += tl.num_programs(0) * N_CHANNELS
    tl.store(partial_ptr + o_partial, tl.sum(b_dbias, 0), mask=m_channel)


def _options(x: Tensor, scale: float, eps: float, elements: int) -> dict:
    """Choose constants of a launch with tiles of about ``elements``, or of one row if that is longer."""
    block_c = triton.next_power_of_2(x.shape[-1])
    block_r = max(1, elements // block_c)
    return {
        "N_CHANNELS": x.shape[-1],
        "SCALE": scale,
        "EPS": eps,
        "COMPUTE": compute_dtype(x.dtype),
        "BLOCK_R": block_r,
        "BLOCK_C": block_c,
        "num_warps": min(max(block_r * block_c // 512, 4), 16),
        **AS_WRITTEN,
    }


@define_op("add_layer_norm")
def add_layer_norm(
    x: Tensor, residual: Tensor, scale: float, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Add ``x + scale * residual`` and normalise the sum (LayerNorm), computed in float32 (float64 for float64).

    Args:
        x, residual: ``[..., C]``, any strides (a copy is made unless contiguous); float32, float16, bfloat16 or
            float64, and not necessarily alike: under autocast a float32 signal meets a half-precision residual.
        scale: factor on ``residual``. The kernel is compiled for its value, as for that of ``eps``.
        weight, bias: ``[C]``, affine of the norm, of any of these dtypes.
        eps: added to the variance.

    Returns:
        (sum, normalised sum), each ``[..., C]``, contiguous, in the dtype of ``x + residual``; empty if ``x`` is.
        Differentiable to ``x``, ``residual``, ``weight`` and ``bias``.

    Raises:
        TypeError: a tensor is not floating-point.
        ValueError: ``x`` has no dimension or C > 16384; another tensor's shape does not fit or it is elsewhere.
    """
    _check(x, residual, weight, bias)
    x, dtype = x.contiguous(), torch.promote_types(x.dtype, residual.dtype)
    total, normed = torch.empty_like(x, dtype=dtype), torch.empty_like(x, dtype=dtype)
    if x.numel():
        n_rows, options = x.numel() // x.shape[-1], _options(total, scale, eps, 1024)
        with on_device("x", x):
            _add_layer_norm_fwd_kernel[triton.cdiv(n_rows, options["BLOCK_R"]),](
                x, residual.contiguous(), weight.contiguous(), bias.contiguous(), total, normed, n_rows, **options
            )
    return total, normed


def _check(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> None:
    if not x.ndim or x.shape[-1] > MAX_CHANNELS:
        raise ValueError(f"x must be [..., C] with C at most {MAX_CHANNELS}, got {list(x.shape)}")
    check_dtype("x", x)
    check_operand("residual", residual, x.shape, x)
    check_operand("weight", weight, x.shape[-1:], x)
    check_operand("bias", bias, x.shape[-1:], x)


def _shares_gradient(scale: float, x_dtype: torch.dtype, residual_dtype: torch.dtype) -> bool:
    """Tell whether the gradient of residual is that of x, bit for bit."""
    return scale == 1 and x_dtype == residual_dtype


@define_op("add_layer_norm_backward")
def _add_layer_norm_backward(
    dsum: Tensor | None,
    dnormed: Tensor,
    total: Tensor,
    scale: float,
    weight: Tensor,
    eps: float,
    x_dtype: torch.dtype,
    residual_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, of residual (empty if it shares that of x), and of weight and bias, ``[2, C]``.

    ``dsum`` None stands for zeros.
    """
    shared = _shares_gradient(scale, x_dtype, residual_dtype)
    dx = torch.empty_like(total, dtype=x_dtype)
    dresidual = torch.empty((0,) if shared else total.shape, dtype=residual_dtype, device=total.device)
    n_channels = total.shape[-1]
    if not total.numel():
        return dx, dresidual, torch.zeros(2, n_channels, dtype=wide_dtype(total.dtype), device=total.device)
    n_rows, options = total.numel() // n_channels, _options(total, scale, eps, 2048)
    n_programs = min(triton.cdiv(n_rows, options["BLOCK_R"]), PROGRAMS)
    partial = torch.empty(2, n_programs, n_channels, dtype=wide_dtype(total.dtype), device=total.device)
    with on_device("x", total):
        _add_layer_norm_bwd_kernel[n_programs,](
            contiguous(dsum),
            dnormed.contiguous(),
            total,
            weight.contiguous(),
            dx,
            None if shared else dresidual,
            partial,
            n_rows,
            **options,
        )
    return dx, dresidual, partial.sum(1)


@add_layer_norm.register_fake
def _(x, residual, scale, weight, bias, eps=1e-5):
    _check(x, residual, weight, bias)
    dtype = torch.promote_types(x.dtype, residual.dtype)
    return tuple(torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format) for _ in range(2))


@_add_layer_norm_backward.register_fake
def _(dsum, dnormed, total, scale, weight, eps, x_dtype, residual_dtype):
    shape = (0,) if _shares_gradient(scale, x_dtype, residual_dtype) else total.shape
    sums = total.new_empty(2, total.shape[-1], dtype=wide_dtype(total.dtype))
    return torch.empty_like(total, dtype=x_dtype), total.new_empty(shape, dtype=residual_dtype), sums


def _setup_context(ctx, inputs, output):
    x, residual, ctx.scale, weight, bias, ctx.eps = inputs
    ctx.save_for_backward(output[0], weight)
    ctx.dtypes, ctx.bias_dtype = (x.dtype, residual.dtype), bias.dtype
    ctx.set_materialize_grads(False)


def _backward(ctx, dsum: Tensor | None, dnormed: Tensor | None):
    total, weight = ctx.saved_tensors
    if dnormed is None:
        dnormed = torch.zeros_like(total)
    dx, dresidual, sums = _add_layer_norm_backward(dsum, dnormed, total, ctx.scale, weight, ctx.eps, *ctx.dtypes)
    dresidual = dx if _shares_gradient(ctx.scale, *ctx.dtypes) else dresidual
    return dx, dresidual, None, sums[0].to(weight.dtype), sums[1].to(ctx.bias_dtype), None


add_layer_norm.register_autograd(_backward, setup_context=_setup_context)
