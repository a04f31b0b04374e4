"""Inverse STFT of ``exp(min(m, log 100)) * exp(i p)``  (Vocos, Siuzdak, 2023), in three alignments.

Three launches: polar form to packed spectrum (here), inverse DFT (cuFFT), windowed overlap-add
(``overlap_add.py``). All are memory-bound.

Packing. A real inverse DFT of length n is a complex one of half the length, h = n / 2, of
``Z_k = (X_k + conj X_{h-k}) + i e^{2 pi i k / n} (X_k - conj X_{h-k})``; the even and odd samples are the real
and imaginary parts of the result. Done here, it avoids the copy of the spectrum that torch makes before
every complex-to-real transform, and rows of h numbers keep 16-byte alignment, which h + 1 do not. Z_k and
Z_{h-k} come from the same two bins, so each bin is read, and its sine computed, once.

Why no product with the DFT matrix, window and overlap folded in: a Silk frame (n 1280, hop 320) is then
3.3 MFLOP, in float32 for an error below 1e-5, against 27 KB here (10 + 10 + 7). Predicted at peak rates:

    RTX 3090 (35.6 TFLOP/s, 936 GB/s)   1 x 400 ms 7 us (its matrix) / 3 launches   8 x 10 s 0.55 / 0.17 ms
    H200     (67 TFLOP/s, 4.8 TB/s)     1 x 400 ms 2 us              / 3 launches   8 x 10 s 0.29 / 0.03 ms

and 8 times as much for 64 x 10 s.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._common import compute_dtype, on_device
from .overlap_add import overlap_add

BLOCK_N = 32  # frames per program: 128 bytes where time is contiguous, as in a transposed convolution output
BLOCK_K = 32  # bins, and as many mirrored
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ALIGNMENTS = ("center", "same", "causal")

LOG_LIMIT = tl.constexpr(math.log(100.0))
TWO_PI = tl.constexpr(2 * math.pi)
QUARTERS = tl.constexpr(2 / math.pi)
# pi / 2 in three parts of 8, 8 and 24 bits: products with a whole number below 2^16 lose nothing.
QUARTER_1, QUARTER_2 = tl.constexpr(201 / 128), tl.constexpr(253 / 524288)
QUARTER_3 = tl.constexpr(1.2675907950567314e-06)


@triton.jit
def sincos(x, COMPUTE: tl.constexpr):
    """Sine and cosine; error below 1e-7 for |x| < 1e5, at most 1 in magnitude beyond, NaN for infinity.

    Cody-Waite reduction to [-pi/4, pi/4], then minimax polynomials; no slow path and no local memory.
    """
    if COMPUTE == tl.float64:
        return tl.sin(x), tl.cos(x)
    else:
        i_quarter = tl.floor(x * QUARTERS + 0.5)
        r = ((x - i_quarter * QUARTER_1) - i_quarter * QUARTER_2) - i_quarter * QUARTER_3
        r = tl.where(tl.abs(r) > 1.0, 0.0, r)  # |x| so large that its spacing exceeds a turn
        r2 = r * r
        s = r + r * r2 * (-0.16666655 + r2 * (0.008332178 - r2 * 0.00019517267))
        c = 1.0 - 0.5 * r2 + r2 * r2 * (0.041666646 + r2 * (-0.0013887367 + r2 * 2.4438415e-05))
        i_quarter -= 4.0 * tl.floor(0.25 * i_quarter)
        swapped = (i_quarter == 1.0) | (i_quarter == 3.0)
        sine, cosine = tl.where(swapped, c, s), tl.where(swapped, s, c)
        return (
            tl.where(i_quarter >= 2.0, -sine, sine),
            tl.where((i_quarter == 1.0) | (i_quarter == 2.0), -cosine, cosine),
        )


@triton.jit
def _tile(n_frames, n_blocks_n, n_blocks_k, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """Batch, frames ``[BLOCK_N, 1]`` and first bin of a program."""
    i_program = tl.program_id(0)
    i_row = i_program // n_blocks_k
    i_batch = (i_row // n_blocks_n).to(tl.int64)
    i_frame = ((i_row % n_blocks_n) * BLOCK_N).to(tl.int64) + tl.arange(0, BLOCK_N)[:, None]
    return i_batch, i_frame, (i_program % n_blocks_k) * BLOCK_K


@triton.jit
def _load_polar(m_ptr, p_ptr, o_m, o_p, mask, n_fft, COMPUTE: tl.constexpr):
    """Log-magnitude, limited magnitude / n_fft, sine and cosine of the phase."""
    b_m = tl.load(m_ptr + o_m, mask=mask, other=0.0).to(COMPUTE)
    b_sin, b_cos = sincos(tl.load(p_ptr + o_p, mask=mask, other=0.0).to(COMPUTE), COMPUTE)
    b_magnitude = tl.exp(tl.where(b_m > LOG_LIMIT, LOG_LIMIT, b_m))  # keeps NaN, which a minimum may not
    return b_m, b_magnitude * (tl.full((), 1.0, COMPUTE) / n_fft), b_sin, b_cos


@triton.jit
def _twiddle(i_bin, n_fft, COMPUTE: tl.constexpr):
    """Sine and cosine of ``2 pi k / n_fft``."""
    return sincos(i_bin.to(COMPUTE) / n_fft * TWO_PI, COMPUTE)


@triton.jit
def _polar_spectrum_fwd_kernel(
    m_ptr, p_ptr, z_ptr, stride_m_b, stride_m_n, stride_m_k, stride_p_b, stride_p_n, stride_p_k,
    n_frames, half, n_blocks_n, n_blocks_k, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    i_batch, i_frame, i_first = _tile(n_frames, n_blocks_n, n_blocks_k, BLOCK_N, BLOCK_K)
    i_bin = i_first + tl.arange(0, BLOCK_K)[None, :]
    mask = (i_frame < n_frames) & (i_bin < half)
    o_m = i_batch * stride_m_b + i_frame * stride_m_n
    o_p = i_batch * stride_p_b + i_frame * stride_p_n
    o_low, o_high = i_bin.to(tl.int64), (half - i_bin).to(tl.int64)
    _, b_low, b_sin, b_cos = _load_polar(
        m_ptr, p_ptr, o_m + o_low * stride_m_k, o_p + o_low * stride_p_k, mask, 2 * half, COMPUTE
    )
    b_low_re, b_low_im = b_low * b_cos, tl.where(i_bin == 0, 0.0, b_low * b_sin)
    _, b_high, b_sin, b_cos = _load_polar(
        m_ptr, p_ptr, o_m + o_high * stride_m_k, o_p + o_high * stride_p_k, mask, 2 * half, COMPUTE
    )
    b_high_re, b_high_im = b_high * b_cos, tl.where(i_bin == 0, 0.0, b_high * b_sin)

    b_sin, b_cos = _twiddle(i_bin, 2 * half, COMPUTE)
    b_even_re, b_even_im = b_low_re + b_high_re, b_low_im - b_high_im
    b_odd_re, b_odd_im = b_low_re - b_high_re, b_low_im + b_high_im
    b_turned_re, b_turned_im = -b_sin * b_odd_re - b_cos * b_odd_im, b_cos * b_odd_re - b_sin * b_odd_im

    o_pair = tl.arange(0, 2 * BLOCK_K)[None, :]  # real and imaginary parts in turn
    o_z = (i_batch * n_frames + i_frame) * 2 * half
    m_low = (i_frame < n_frames) & (2 * i_first + o_pair < 2 * half)
    b_z = tl.interleave(b_even_re + b_turned_re, b_even_im + b_turned_im)
    tl.store(z_ptr + o_z + (2 * i_first + o_pair), b_z, mask=m_low)
    i_mirror = half - i_first - o_pair // 2
    m_high = (i_frame < n_frames) & (i_mirror >= n_blocks_k * BLOCK_K) & (i_mirror < half)
    b_z = tl.interleave(b_even_re - b_turned_re, b_turned_im - b_even_im)
    tl.store(z_ptr + o_z + (2 * i_mirror + o_pair % 2), b_z, mask=m_high)
