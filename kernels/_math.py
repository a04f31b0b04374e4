"""Device mathematics that several kernels share: rounding, sine and cosine, powers, ELU, SiLU, the cast that saturates.

Everything is float32, or float64 for float64. As kernels are compiled without contraction (``AS_WRITTEN``), a
multiplication and an addition share a rounding where :func:`fma` says so, and nowhere else.

Sines are reduced and then polynomials, the same operations on every machine and in the interpreter, without the slow
path of ``tl.sin`` and more exact than the hardware's ``sin.approx``: docs/kernels.md derives them. :func:`half_turns`
reduces a product ``alpha * v`` exactly, whatever its size, and :func:`sin_pi`, :func:`cos_pi` follow; :func:`sincos`
takes an angle, of which it knows no more than float32 says.
"""

import math

import triton
import triton.language as tl

from ._launch import INTERPRETED

IN_INTERPRETER = tl.constexpr(INTERPRETED)
PI = tl.constexpr(math.pi)
INV_PI_HIGH = tl.constexpr(float.fromhex("0x1.45f306p-2"))  # 1 / pi as the sum of two floats
INV_PI_LOW = tl.constexpr(float.fromhex("0x1.b93910p-27"))
LOG2_E = tl.constexpr(math.log2(math.e))
ROUND_MAGIC = tl.constexpr(1.5 * 2.0**23)  # a float32 this large has no fraction bits: adding it rounds, half to even
QUARTERS = tl.constexpr(2 / math.pi)


@triton.jit
def fma(b_x, b_y, b_z):
    """``x * y + z`` of tensors with one rounding. The interpreter's own has two; here only of float64.

    In float32 it goes through float64 there, which decides one case in about 2^29, next to a tie, the other way.
    """
    if IN_INTERPRETER and b_z.dtype == tl.float32:
        return (b_x.to(tl.float64) * b_y.to(tl.float64) + b_z.to(tl.float64)).to(tl.float32)
    else:
        return tl.fma(b_x, b_y, b_z)


@triton.jit
def polynomial(b_x, COEFFICIENTS: tl.constexpr):
    """Polynomial in x with ``COEFFICIENTS`` from the highest power to the constant: one :func:`fma` for each power."""
    b_y = tl.full([], COEFFICIENTS[0], b_x.dtype)
    for i in tl.static_range(1, len(COEFFICIENTS)):
        b_y = fma(b_y, b_x, tl.full([], COEFFICIENTS[i], b_x.dtype))
    return b_y


@triton.jit
def less_multiples(b_x, b_n, PARTS: tl.constexpr):
    """``x - n * sum(PARTS)``, one part after the other."""
    for i in tl.static_range(len(PARTS)):
        b_x = fma(b_n, tl.full([], -PARTS[i], b_x.dtype), b_x)
    return b_x


@triton.jit
def nearest(b_x, FACTOR: tl.constexpr = 1.0):
    """Nearest integer of ``x * FACTOR``, float32 below 2^22: as float32, and as int32 of which the low 22 bits hold.

    Half goes to even.
    """
    magic = tl.full([], ROUND_MAGIC, tl.float32)
    b_sum = fma(b_x, tl.full([], FACTOR, tl.float32), magic)
    return b_sum - magic, b_sum.to(tl.int32, bitcast=True)


@triton.jit
def half_turns(b_v, b_high, b_low):
    """``v * (high + low)`` less the nearest integer, in [-0.51, 0.51] however large; NaN for NaN and infinity."""
    if b_v.dtype == tl.float64:
        b_turns = b_v * b_high
        return b_turns - tl.floor(b_turns + 0.5)
    else:
        magic = tl.full([], ROUND_MAGIC, tl.float32)
        b_minus_nearest = magic - fma(b_v, b_high, magic)
        return tl.clamp(fma(b_v, b_low, fma(b_v, b_high, b_minus_nearest)), -0.51, 0.51, tl.PropagateNan.ALL)


@triton.jit
def per_pi(b_alpha):
    """``alpha / pi`` as high and low part."""
    if b_alpha.dtype == tl.float64:
        return b_alpha / PI, tl.zeros_like(b_alpha)
    else:
        b_high = b_alpha * INV_PI_HIGH
        inv_pi_high, inv_pi_low = tl.full([], INV_PI_HIGH, tl.float32), tl.full([], INV_PI_LOW, tl.float32)
        return b_high, fma(b_alpha, inv_pi_low, fma(b_alpha, inv_pi_high, -b_high))


@triton.jit
def sin_pi(b_f):
    """sin(pi * f) for f in [-0.51, 0.51]; float32: relative error of the polynomial 7e-9."""
    if b_f.dtype == tl.float64:
        return tl.sin(b_f * PI)
    else:
        b_s = polynomial(b_f * b_f, (0.0773756865131, -0.59815701961, 2.55005759513, -5.16770913777, 3.14159263308))
        return b_f * b_s


@triton.jit
def cos_pi(b_f):
    """cos(pi * f) for f in [-0.51, 0.51]; float32: error of the polynomial 3e-10."""
    if b_f.dtype == tl.float64:
        return tl.cos(b_f * PI)
    else:
        return polynomial(
            b_f * b_f, (-0.0243412750475, 0.234905755641, -1.33520575004, 4.05870866187, -4.9348021235, 0.999999999722)
        )


@triton.jit
def sincos_of_quarters(b_r, i_quarter):
    """Sine and cosine of ``r + i_quarter * pi / 2``, r in [-pi/4, pi/4], float32; error of the polynomials 4e-9."""
    b_r2 = b_r * b_r
    b_s = fma(b_r * b_r2, polynomial(b_r2, (-0.00019517267, 0.008332178, -0.16666655)), b_r)
    b_c = polynomial(b_r2, (2.4438415e-05, -0.0013887367, 0.041666646, -0.5, 1.0))
    m_swapped = (i_quarter & 1) != 0
    b_sin, b_cos = tl.where(m_swapped, b_c, b_s), tl.where(m_swapped, b_s, b_c)
    return tl.where((i_quarter & 2) != 0, -b_sin, b_sin), tl.where(((i_quarter + 1) & 2) != 0, -b_cos, b_cos)


@triton.jit
def sincos(b_x):
    """Sine and cosine of x in radians; error 8e-8 for |x| < 1e5, at most 1 in magnitude beyond, NaN for infinity."""
    if b_x.dtype == tl.float64:
        return tl.sin(b_x), tl.cos(b_x)
    else:
        b_quarter, i_quarter = nearest(b_x, QUARTERS)
        # pi / 2 in parts short enough that multiples below 2^16 of all but the last are exact
        b_r = less_multiples(b_x, b_quarter, (201 / 128, 253 / 524288, 1.2675907950567314e-06))
        b_r = tl.where(tl.abs(b_r) > 1.0, 0.0, b_r)  # so large that it is not known to a quarter turn
        return sincos_of_quarters(b_r, i_quarter)


@triton.jit
def by_powers_of_2(b_x):
    """``r`` in [-0.35, 0.35] and the power of two of ``e^x = e^r * power``, for float32 between -87 and 88."""
    b_n, i_n = nearest(b_x, LOG2_E)
    # log 2 in parts short enough that multiples below 2^13 of the first are exact
    b_r = less_multiples(b_x, b_n, (355 / 512, -2.1219444005469057e-04))
    return b_r, ((i_n << 23) + 0x3F800000).to(tl.float32, bitcast=True)


@triton.jit
def elu(b_v):
    """``v``, or ``e^v - 1`` where it is negative: relative error 1e-7, beside 0 as well; NaN for NaN."""
    b_x = tl.clamp(b_v, -40.0, 0.0, tl.PropagateNan.ALL)  # e^-40 is lost beside 1
    if b_x.dtype == tl.float64:
        b_e = tl.exp(b_x)  # what its rounding adds to x, its logarithm has too (Kahan)
        b_below = tl.where(b_e == 1.0, b_x, (b_e - 1.0) * (b_x / tl.log(tl.where(b_e == 1.0, 2.0, b_e))))
    else:
        b_r, b_power = by_powers_of_2(b_x)
        b_p = polynomial(b_r, (0.00138141809, 0.0083689196, 0.0416684076, 0.166665196, 0.49999994))
        b_below = fma(fma(b_p, b_r * b_r, b_r), b_power, b_power - 1.0)
    return tl.where(b_x < 0.0, b_below, b_v)


@triton.jit
def sigmoid(b_v):
    """``1 / (1 + exp(-v))`` in four instructions; 0 where it is below 2^-126, of which ``tl.sigmoid`` takes care."""
    if b_v.dtype == tl.float64 or IN_INTERPRETER:
        return tl.sigmoid(b_v)
    else:
        b_x = 1.0 + tl.exp2(b_v * -LOG2_E)
        return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f, f", [b_x], tl.float32, is_pure=True, pack=1)


@triton.jit
def silu(b_v):
    """``v * sigmoid(v)`` (Elfwing et al., 2018)."""
    return b_v * sigmoid(b_v)


@triton.jit
def silu_slope(b_v):
    """Derivative of :func:`silu`."""
    b_s = sigmoid(b_v)
    return fma(b_v * b_s, 1.0 - b_s, b_s)


@triton.jit
def saturate(b_x, dtype: tl.constexpr, CAST_FIRST: tl.constexpr = False):
    """Cast to ``dtype``; what is beyond the range of float16 becomes its largest number, not infinity.

    Both orders give the same numbers: clamped after the cast, two of them share an instruction.
    """
    if dtype == tl.float16:
        if CAST_FIRST:
            largest = tl.full([], 65504.0, tl.float16)
            b_x = tl.maximum(b_x.to(tl.float16), -largest, propagate_nan=tl.PropagateNan.ALL)
            b_x = tl.minimum(b_x, largest, propagate_nan=tl.PropagateNan.ALL)
        else:
            b_x = tl.clamp(b_x, -65504.0, 65504.0, propagate_nan=tl.PropagateNan.ALL)
    return b_x.to(dtype)
