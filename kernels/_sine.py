"""Sine and cosine of a product, on the device, in float32 (float64 for float64).

The argument is counted in half turns: ``f = v * alpha / pi - nearest integer``. With ``alpha / pi`` as the sum of
two floats and fused multiply-adds, each of one rounding, the exact product is reduced, so the error of f (6e-8) does
not grow with the argument up to 4e6 half turns; rounding ``alpha * v`` first costs 5e-4 at 1e4. Minimax polynomials
follow: the same operations run on every machine and in the interpreter, with no slow path as in ``tl.sin``.
"""

import math

import triton
import triton.language as tl

from ._common import INTERPRETED

EMULATE_FMA = tl.constexpr(INTERPRETED)
PI = tl.constexpr(math.pi)
INV_PI_HIGH = tl.constexpr(float.fromhex("0x1.45f306p-2"))  # 1 / pi as the sum of two floats
INV_PI_LOW = tl.constexpr(float.fromhex("0x1.b93910p-27"))
ROUND_MAGIC = tl.constexpr(1.5 * 2.0**23)  # a float this large has no fraction bits: adding it rounds to an integer


@triton.jit
def fma(b_x, b_y, b_z):
    """``x * y + z`` in float32 with one rounding; the interpreter's own fma rounds twice."""
    if EMULATE_FMA:
        return (b_x.to(tl.float64) * b_y.to(tl.float64) + b_z.to(tl.float64)).to(tl.float32)
    else:
        return tl.fma(b_x, b_y, b_z)


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
def sin_pi(b_f):
    """sin(pi * f) for f in [-0.51, 0.51]; float32: relative error of the polynomial 7e-9."""
    if b_f.dtype == tl.float64:
        return tl.sin(b_f * PI)
    else:
        b_g = b_f * b_f
        b_s = 2.55005759513 + b_g * (-0.59815701961 + b_g * 0.0773756865131)
        return b_f * (3.14159263308 + b_g * (-5.16770913777 + b_g * b_s))


@triton.jit
def cos_pi(b_f):
    """cos(pi * f) for f in [-0.51, 0.51]; float32: error of the polynomial 3e-10."""
    if b_f.dtype == tl.float64:
        return tl.cos(b_f * PI)
    else:
        b_g = b_f * b_f
        b_c = -1.33520575004 + b_g * (0.234905755641 + b_g * -0.0243412750475)
        return 0.999999999722 + b_g * (-4.9348021235 + b_g * (4.05870866187 + b_g * b_c))


@triton.jit
def per_pi(b_alpha):
    """``alpha / pi`` as high and low part."""
    if b_alpha.dtype == tl.float64:
        return b_alpha / PI, tl.zeros_like(b_alpha)
    else:
        b_high = b_alpha * INV_PI_HIGH
        inv_pi = tl.full([], INV_PI_HIGH, tl.float32)
        return b_high, b_alpha * INV_PI_LOW + fma(b_alpha, inv_pi, -b_high)
