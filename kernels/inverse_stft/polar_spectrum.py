"""Polar form to the packed spectrum of an inverse real DFT: ``X = exp(min(m, log 100)) * exp(i p)``, then Z below.

A real inverse DFT of length n is a complex one of half the length, h = n / 2, of
``Z_k = (X_k + conj X_{h-k}) + i w^k (X_k - conj X_{h-k})``, ``w = e^{2 pi i / n}``, 0 <= k < h: the even and odd
samples are the real and imaginary parts of its result (Cooley, Lewis and Welch, 1970). Against writing X for
``torch.fft.irfft`` this saves the copy that torch makes of the input of every complex-to-real transform, and
rows of h numbers keep 16-byte alignment, which rows of h + 1 do not.

Memory-bound: 2 reads and 2 writes per bin, forward; 4 reads and 2 writes backward, which recomputes.
A program takes bins k and h - k, from which both Z_k and Z_{h-k} follow: each bin is read, and its sine
computed, once. Its tile is frames x bins; each load and store is coalesced along whichever of the two is
contiguous there, which for the transposed output of a convolution means a transposition on chip.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._launch import AS_WRITTEN, check_dtype, check_operand, compute_dtype, define_op, on_device, wide_dtype
from .._math import LOG2_E, by_powers_of_2, fma, nearest, sincos, sincos_of_quarters

BLOCK_N = 32  # frames per program: 128 bytes where time is contiguous, as in a transposed convolution output
BLOCK_K = 32  # bins, and as many mirrored

LOG_LIMIT = tl.constexpr(math.log(100.0))
HALF_PI = tl.constexpr(math.pi / 2)


@triton.jit
def exp_limited(b_x):
    """``exp(min(x, log 100))``, NaN for NaN. Reduced first: ``tl.exp`` rounds ``x * log2(e)`` and errs by 4e-7."""
    b_x = tl.where(b_x > LOG_LIMIT, LOG_LIMIT, b_x)
    if b_x.dtype == tl.float64:
        return tl.exp(b_x)
    else:
        b_x = tl.where(b_x < -87.0, -87.0, b_x)  # 1e-38
        b_r, b_power = by_powers_of_2(b_x)
        return tl.exp2(b_r * LOG2_E) * b_power


@triton.jit
def _twiddle(i_bin, half, COMPUTE: tl.constexpr):
    """Sine and cosine of ``pi * i_bin / half``; in float32 the reduction is exact."""
    step = tl.full([], HALF_PI, COMPUTE) / half
    if step.dtype == tl.float64:
        return sincos(2 * i_bin * step)
    else:
        b_quarter, i_quarter = nearest(2 * i_bin.to(tl.float32) / half)
        return sincos_of_quarters((2 * i_bin - half * b_quarter) * step, i_quarter)


@triton.jit
def _tile(n_frames, n_low, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Batch, frames ``[BLOCK_N, 1]``, bins ``[1, BLOCK_K]`` and first bin of a program."""
    n_blocks_n, n_blocks_k = tl.cdiv(n_frames, BLOCK_N), tl.cdiv(n_low, BLOCK_K)
    i_row = tl.program_id(0) // n_blocks_k
    i_first = (tl.program_id(0) % n_blocks_k) * BLOCK_K
    i_frame = (i_row % n_blocks_n) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    return (i_row // n_blocks_n).to(tl.int64), i_frame.to(tl.int64), i_first + tl.arange(0, BLOCK_K)[None, :], i_first


@triton.jit
def _packed_offsets(i_first, half, BLOCK_K: tl.constexpr):
    """Where real and imaginary parts, in turn, of bins k and h - k lie in a row of Z ``[1, 2 * BLOCK_K]``."""
    o_part = tl.arange(0, 2 * BLOCK_K)[None, :]
    return 2 * i_first + o_part, 2 * (half - i_first - o_part // 2) + o_part % 2


@triton.jit
def _load_polar(m_ptr, p_ptr, stride_m_k, stride_p_k, i_bin, mask, n_fft, COMPUTE: tl.constexpr):
    """Log-magnitude, limited magnitude / n_fft, sine and cosine of the phase, of the bins of a tile."""
    b_m = tl.load(m_ptr + i_bin.to(tl.int64) * stride_m_k, mask=mask, other=0.0).to(COMPUTE)
    b_p = tl.load(p_ptr + i_bin.to(tl.int64) * stride_p_k, mask=mask, other=0.0).to(COMPUTE)
    b_sin, b_cos = sincos(b_p)
    return b_m, exp_limited(b_m) * (tl.full([], 1.0, COMPUTE) / n_fft), b_sin, b_cos


@triton.jit
def _polar_spectrum_fwd_kernel(
    m_ptr,
    p_ptr,
    z_ptr,
    stride_m_b,
    stride_m_n,
    stride_m_k,
    stride_p_b,
    stride_p_n,
    stride_p_k,
    n_frames,
    half,
    n_low,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    i_batch, i_frame, i_bin, i_first = _tile(n_frames, n_low, BLOCK_N, BLOCK_K)
    m_tile = (i_frame < n_frames) & (i_bin < half)
    m_ptr += i_batch * stride_m_b + i_frame * stride_m_n
    p_ptr += i_batch * stride_p_b + i_frame * stride_p_n
    _, b_mag, b_sin, b_cos = _load_polar(m_ptr, p_ptr, stride_m_k, stride_p_k, i_bin, m_tile, 2 * half, COMPUTE)
    b_low_re, b_low_im = b_mag * b_cos, tl.where(i_bin == 0, 0.0, b_mag * b_sin)
    _, b_mag, b_sin, b_cos = _load_polar(m_ptr, p_ptr, stride_m_k, stride_p_k, half - i_bin, m_tile, 2 * half, COMPUTE)
    b_high_re, b_high_im = b_mag * b_cos, tl.where(i_bin == 0, 0.0, b_mag * b_sin)

    # Z_k = even + turned, Z_{h-k} = conj(even - turned), turned = i w odd, w = e^{2 pi i k / n}
    b_sin, b_cos = _twiddle(i_bin, half, COMPUTE)
    b_even_re, b_even_im = b_low_re + b_high_re, b_low_im - b_high_im
    b_odd_re, b_odd_im = b_low_re - b_high_re, b_low_im + b_high_im
    b_turned_re, b_turned_im = -fma(b_sin, b_odd_re, b_cos * b_odd_im), fma(b_cos, b_odd_re, -b_sin * b_odd_im)

    o_low, o_high = _packed_offsets(i_first, half, BLOCK_K)
    z_ptr += (i_batch * n_frames + i_frame) * 2 * half
    b_z = tl.interleave(b_even_re + b_turned_re, b_even_im + b_turned_im)
    tl.store(z_ptr + o_low, b_z, mask=(i_frame < n_frames) & (o_low < 2 * half))
    b_z = tl.interleave(b_even_re - b_turned_re, b_turned_im - b_even_im)
    tl.store(z_ptr + o_high, b_z, mask=(i_frame < n_frames) & (o_high >= 2 * n_low) & (o_high < 2 * half))


@triton.jit
def _polar_gradient(
    dx_re,
    dx_im,
    m_ptr,
    p_ptr,
    dm_ptr,
    dp_ptr,
    stride_m_k,
    stride_p_k,
    stride_dm_k,
    stride_dp_k,
    i_bin,
    m_load,
    m_store,
    n_fft,
    COMPUTE: tl.constexpr,
):
    """Gradients to log-magnitude and phase from that to the spectrum."""
    b_m, b_mag, b_sin, b_cos = _load_polar(m_ptr, p_ptr, stride_m_k, stride_p_k, i_bin, m_load, n_fft, COMPUTE)
    b_dm = tl.where(b_m <= LOG_LIMIT, b_mag * fma(dx_re, b_cos, dx_im * b_sin), 0.0)
    b_dp = b_mag * fma(dx_im, b_cos, -dx_re * b_sin)
    tl.store(dm_ptr + i_bin.to(tl.int64) * stride_dm_k, b_dm.to(dm_ptr.dtype.element_ty), mask=m_store)
    tl.store(dp_ptr + i_bin.to(tl.int64) * stride_dp_k, b_dp.to(dp_ptr.dtype.element_ty), mask=m_store)


@triton.jit
def _polar_spectrum_bwd_kernel(
    dz_ptr,
    m_ptr,
    p_ptr,
    dm_ptr,
    dp_ptr,
    stride_m_b,
    stride_m_n,
    stride_m_k,
    stride_p_b,
    stride_p_n,
    stride_p_k,
    stride_dm_b,
    stride_dm_n,
    stride_dm_k,
    stride_dp_b,
    stride_dp_n,
    stride_dp_k,
    n_frames,
    half,
    n_low,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    COMPUTE: tl.constexpr,
):
    i_batch, i_frame, i_bin, i_first = _tile(n_frames, n_low, BLOCK_N, BLOCK_K)
    m_tile = (i_frame < n_frames) & (i_bin < half)
    o_low, o_high = _packed_offsets(i_first, half, BLOCK_K)
    dz_ptr += (i_batch * n_frames + i_frame) * 2 * half
    b_low = tl.load(dz_ptr + o_low, mask=(i_frame < n_frames) & (o_low < 2 * half), other=0.0)
    b_high = tl.load(dz_ptr + o_high, mask=(i_frame < n_frames) & (o_high >= 0) & (o_high < 2 * half), other=0.0)
    b_low_re, b_low_im = tl.split(tl.reshape(b_low, (BLOCK_N, BLOCK_K, 2)))
    b_high_re, b_high_im = tl.split(tl.reshape(b_high, (BLOCK_N, BLOCK_K, 2)))

    # The adjoint: dX_k = deven + dodd, dX_{h-k} = conj(deven - dodd), dodd = -i conj(w) dturned
    b_sin, b_cos = _twiddle(i_bin, half, COMPUTE)
    b_even_re, b_even_im = b_low_re + b_high_re, b_low_im - b_high_im
    b_turned_re, b_turned_im = b_low_re - b_high_re, b_low_im + b_high_im
    b_odd_re = fma(b_cos, b_turned_im, -b_sin * b_turned_re)
    b_odd_im = -fma(b_cos, b_turned_re, b_sin * b_turned_im)
    b_even_im, b_odd_im = tl.where(i_bin == 0, 0.0, b_even_im), tl.where(i_bin == 0, 0.0, b_odd_im)

    m_ptr += i_batch * stride_m_b + i_frame * stride_m_n
    p_ptr += i_batch * stride_p_b + i_frame * stride_p_n
    dm_ptr += i_batch * stride_dm_b + i_frame * stride_dm_n
    dp_ptr += i_batch * stride_dp_b + i_frame * stride_dp_n
    _polar_gradient(
        b_even_re + b_odd_re,
        b_even_im + b_odd_im,
        m_ptr,
        p_ptr,
        dm_ptr,
        dp_ptr,
        stride_m_k,
        stride_p_k,
        stride_dm_k,
        stride_dp_k,
        i_bin,
        m_tile,
        m_tile,
        2 * half,
        COMPUTE,
    )
    _polar_gradient(
        b_even_re - b_odd_re,
        b_odd_im - b_even_im,
        m_ptr,
        p_ptr,
        dm_ptr,
        dp_ptr,
        stride_m_k,
        stride_p_k,
        stride_dm_k,
        stride_dp_k,
        half - i_bin,
        m_tile,
        m_tile & (half - i_bin >= n_low),
        2 * half,
        COMPUTE,
    )


def _launch(kernel, m: Tensor, p: Tensor, z: Tensor, *gradients: Tensor) -> None:
    """Run ``kernel`` over every pair of bins; those below ``n_low`` are stored as k, the others as h - k."""
    n_batch, n_frames, half, _ = z.shape
    n_low = min(triton.cdiv(half // 2 + 1, BLOCK_K) * BLOCK_K, half)
    grid = (n_batch * triton.cdiv(n_frames, BLOCK_N) * triton.cdiv(n_low, BLOCK_K),)
    tensors = (z, m, p, *gradients) if gradients else (m, p, z)
    strides = [stride for tensor in (m, p, *gradients) for stride in tensor.stride()]
    with on_device("log_magnitude", m):
        kernel[grid](
            *tensors,
            *strides,
            n_frames,
            half,
            n_low,
            BLOCK_N=BLOCK_N,
            BLOCK_K=BLOCK_K,
            COMPUTE=compute_dtype(m.dtype),
            **AS_WRITTEN,
        )


@define_op("polar_spectrum")
def polar_spectrum(log_magnitude: Tensor, phase: Tensor) -> Tensor:
    """Compute the packed spectrum Z (top of this file), divided by n_fft, of ``exp(min(m, log 100)) * exp(i p)``.

    The imaginary parts of DC and Nyquist are ignored. Differentiable; the limit passes the gradient at equality.

    Args:
        log_magnitude, phase: ``[B, N, h + 1]``, natural logarithm and radians, any strides; float32, float16
            or bfloat16, computed in float32 (float64 in float64).

    Returns:
        float32 (float64) ``[B, N, h, 2]``, real and imaginary parts, contiguous.

    Raises:
        ValueError: the shapes or devices differ, or are not as above.
        TypeError: the dtypes differ, or are not as above.
    """
    _check(log_magnitude, phase)
    n_batch, n_frames, n_bins = log_magnitude.shape
    shape, dtype = (n_batch, n_frames, n_bins - 1, 2), wide_dtype(log_magnitude.dtype)
    z = torch.empty(shape, dtype=dtype, device=log_magnitude.device)
    _launch(_polar_spectrum_fwd_kernel, log_magnitude, phase, z)
    return z


def _check(log_magnitude: Tensor, phase: Tensor) -> None:
    check_dtype("log_magnitude", log_magnitude)
    shape = log_magnitude.shape
    if len(shape) != 3 or shape[2] < 2 or not log_magnitude.numel():
        raise ValueError(f"log_magnitude must be [B, N, n_fft / 2 + 1] and not empty, got {list(shape)}")
    check_operand("phase", phase, shape, log_magnitude, "log_magnitude", dtypes=None)


@define_op("polar_spectrum_backward")
def _polar_spectrum_backward(dz: Tensor, log_magnitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    dm, dp = torch.empty_like(log_magnitude), torch.empty_like(phase)
    _launch(_polar_spectrum_bwd_kernel, log_magnitude, phase, dz.contiguous(), dm, dp)
    return dm, dp


@polar_spectrum.register_fake
def _(log_magnitude: Tensor, phase: Tensor) -> Tensor:
    n_batch, n_frames, n_bins = log_magnitude.shape
    return log_magnitude.new_empty((n_batch, n_frames, n_bins - 1, 2), dtype=wide_dtype(log_magnitude.dtype))


@_polar_spectrum_backward.register_fake
def _(dz: Tensor, log_magnitude: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(log_magnitude), torch.empty_like(phase)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, dz: Tensor):
    return _polar_spectrum_backward(dz, *ctx.saved_tensors)


polar_spectrum.register_autograd(_backward, setup_context=_setup_context)
