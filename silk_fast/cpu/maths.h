/* Mathematics of the loops, in float32: docs/cpu.md. NaN gives NaN. */
#ifndef SILK_MATHS_H
#define SILK_MATHS_H

#include "loops.h"

#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: a float32 this large has no fraction bits, so adding it rounds */
#define ROUND_MAGIC_BITS 0x4B400000
#define ROUND_MAGIC_64 6755399441055744.0

/* x * y + z, with one rounding where that is one instruction. */
INLINE float fma32(float x, float y, float z, int fused) { return fused ? __builtin_fmaf(x, y, z) : x * y + z; }

INLINE float at_most(float x, float limit) { return x > limit ? limit : x; }
INLINE float at_least(float x, float limit) { return x < limit ? limit : x; }

/* The nearest integer of |x| < 2^22, half to even; `shifted` is x + ROUND_MAGIC. */
INLINE float nearest(float shifted) { return shifted - ROUND_MAGIC; }
INLINE int32_t nearest_integer(float shifted) { return (int32_t)float_to_bits(shifted) - ROUND_MAGIC_BITS; }

/* 2^i for i in -126 .. 127. */
INLINE float power_of_2(int32_t i) { return bits_to_float((uint32_t)(i + 127) << 23); }

/* e^r - 1 of the remainder r of x by log 2, of which `shifted` has the multiple; relative error 4e-9. */
INLINE float exp_of_remainder(float x, float shifted, int fused) {
  float n = nearest(shifted);
  float r = fma32(n, 2.1219444005469057e-04f, fma32(n, -355.0f / 512, x, fused), fused);
  float p = 1.3814180856570601e-03f;
  p = fma32(p, r, 8.368919603526592e-03f, fused);
  p = fma32(p, r, 4.166840761899948e-02f, fused);
  p = fma32(p, r, 1.666651964187622e-01f, fused);
  p = fma32(p, r, 4.999999403953552e-01f, fused);
  return fma32(p, r * r, r, fused);
}

/* e^x. 0 below -104, infinity above 88.73. */
INLINE float exp32(float x, int fused) {
  x = at_least(at_most(x, 89.0f), -105.0f);
  float shifted = fma32(x, 1.44269504f, ROUND_MAGIC, fused);
  float p = 1.0f + exp_of_remainder(x, shifted, fused);
  int32_t i = nearest_integer(shifted), half = i >> 1; /* in two steps: 2^i itself may be no float32 */
  return p * power_of_2(half) * power_of_2(i - half);
}

/* x, or e^x - 1 where it is negative: as exact beside 0 as elsewhere. */
INLINE float elu(float x, int fused) {
  float v = at_least(at_most(x, 0.0f), -30.0f);
  float shifted = fma32(v, 1.44269504f, ROUND_MAGIC, fused), power = power_of_2(nearest_integer(shifted));
  float below = fma32(exp_of_remainder(v, shifted, fused), power, power - 1.0f, fused);
  return x > 0.0f ? x : below;
}

INLINE float sigmoid(float x, int fused) { return 1.0f / (1.0f + exp32(-x, fused)); }
INLINE float silu(float x, int fused) { return x / (1.0f + exp32(-x, fused)); }

/* log(x) of a normal x > 0; error 1e-7, relative where it is large. NaN for NaN. */
INLINE float log32(float x, int fused) {
  uint32_t bits = float_to_bits(x) - 0x3F3504F3; /* of sqrt(1/2), so that the rest is in [sqrt(1/2), sqrt(2)) */
  float n = (float)((int32_t)bits >> 23), rest = bits_to_float((bits & 0x7FFFFF) + 0x3F3504F3);
  float s = (rest - 1.0f) / (rest + 1.0f), g = s * s; /* log(rest) = 2 atanh(s) */
  float p = fma32(g, 0.222222222f, 0.285714286f, fused);
  p = fma32(g, p, 0.4f, fused);
  p = fma32(g, p, 0.666666667f, fused);
  float small = fma32(s * g, p, 2.0f * s, fused);
  small = fma32(n, -2.1219444005469057e-04f, fma32(n, 355.0f / 512, small, fused), fused);
  return x == x ? small : x;
}

/* alpha / pi, whole and as the sum of two float32. */
typedef struct {
  double whole;
  float high, low;
} turns;

INLINE turns per_pi(float alpha) {
  turns t = {alpha * 0.31830988618379067, 0, 0};
  t.high = (float)t.whole;
  t.low = (float)(t.whole - t.high);
  return t;
}

/* sin(pi f) / f of f in [-0.51, 0.51], of which g is the square; relative error 7e-9. */
INLINE float sine_per_half_turns(float g, int fused) {
  float p = fma32(g, 0.0773756865131f, -0.59815701961f, fused);
  p = fma32(g, p, 2.55005759513f, fused);
  p = fma32(g, p, -5.16770913777f, fused);
  return fma32(g, p, 3.14159263308f, fused);
}

/* sin(v * alpha)^2, reduced without an error that grows with the argument; NaN for infinity. */
INLINE float sine_squared(float v, turns t, int fused) {
  float f; /* half turns less the nearest integer */
  if (fused) {
    float minus_nearest = ROUND_MAGIC - __builtin_fmaf(v, t.high, ROUND_MAGIC);
    f = __builtin_fmaf(v, t.low, __builtin_fmaf(v, t.high, minus_nearest));
  } else {
    double product = v * t.whole;
    f = (float)(product - ((product + ROUND_MAGIC_64) - ROUND_MAGIC_64));
  }
  float g = at_most(f * f, 0.2601f); /* beyond, v is so large that its half turns are not known */
  float p = sine_per_half_turns(g, fused);
  return g * (p * p);
}

/* Sine and cosine of x in radians; error 8e-8 for |x| < 1e5, at most 1 in magnitude beyond, NaN for infinity. */
INLINE void sincos32(float x, float *sine, float *cosine, int fused) {
  float shifted = fma32(x, 0.636619772f, ROUND_MAGIC, fused);
  float n = nearest(shifted);
  /* pi / 2 in parts short enough that multiples below 2^16 of all but the last are exact */
  float r = fma32(n, -1.2675907950567314e-06f, (x - n * (201.0f / 128)) - n * (253.0f / 524288), fused);
  r = r > 1.0f || r < -1.0f ? 0.0f : r; /* so large that it is not known to a quarter turn */
  float g = r * r;
  float s = fma32(g, -0.00019517267f, 0.008332178f, fused);
  s = fma32(r * g, fma32(g, s, -0.16666655f, fused), r, fused);
  float c = fma32(g, 2.4438415e-05f, -0.0013887367f, fused);
  c = fma32(g, fma32(g, c, 0.041666646f, fused), -0.5f, fused);
  c = fma32(g, c, 1.0f, fused);
  int32_t quarter = nearest_integer(shifted);
  float swapped_s = quarter & 1 ? c : s, swapped_c = quarter & 1 ? s : c;
  *sine = bits_to_float(float_to_bits(swapped_s) ^ (uint32_t)(quarter & 2) << 30);
  *cosine = bits_to_float(float_to_bits(swapped_c) ^ (uint32_t)((quarter + 1) & 2) << 30);
}

/* Sums of a row are LANES partial sums, then these pairwise: one order, whatever the instructions. */
#define LANES 16

INLINE float total(const float *sums) {
  float half[LANES / 2];
  for (int i = 0; i < LANES / 2; i++) half[i] = sums[i] + sums[i + LANES / 2];
  for (int n = LANES / 4; n; n /= 2)
    for (int i = 0; i < n; i++) half[i] += half[i + n];
  return half[0];
}

/* Mean of a row, and 1 / sqrt(variance + eps). */
typedef struct {
  float mean, rate;
} moments;

INLINE moments moments_of(const void *row, int64_t start, int64_t n, float eps, int half, int fused) {
  float sums[LANES] = {0}, squares[LANES] = {0};
  int64_t whole = n / LANES * LANES;
  for (int64_t i = 0; i < whole; i += LANES)
    for (int k = 0; k < LANES; k++) sums[k] += load(row, start + i + k, half);
  for (int64_t i = whole; i < n; i++) sums[i - whole] += load(row, start + i, half);
  float mean = total(sums) / (float)n;
  for (int64_t i = 0; i < whole; i += LANES)
    for (int k = 0; k < LANES; k++) {
      float centred = load(row, start + i + k, half) - mean;
      squares[k] = fma32(centred, centred, squares[k], fused);
    }
  for (int64_t i = whole; i < n; i++) {
    float centred = load(row, start + i, half) - mean;
    squares[i - whole] = fma32(centred, centred, squares[i - whole], fused);
  }
  moments m = {mean, 1.0f / __builtin_sqrtf(total(squares) / (float)n + eps)};
  return m;
}

#endif
