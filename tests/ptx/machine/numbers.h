// Floating-point numbers as PTX sees them: flushing, canonical NaN, minimum and maximum, narrow formats, rounding.
#pragma once
#include <cmath>
#include <limits>

#include "types.h"

namespace ptx {

// Whether approximate instructions err by as much as the PTX ISA allows, and matrix instructions cut what they add, as
// tensor cores were measured to do (Fasi, Higham, Mikaitis, Pranesh, 2021); otherwise both round correctly.
inline bool hardware_errors = false;

inline f32 flush(f32 x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
inline f32 canonical(f32 x) { return x != x ? bits<f32>(0x7fffffffu) : x; }
inline f64 canonical(f64 x) { return x; }                                       // payloads of double precision are kept
inline f32 saturate(f32 x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // of NaN: +0
inline f32 rectify(f32 x) { return x != x ? canonical(x) : x > 0.0f ? x : 0.0f; }

// -0 < +0; of a number and a NaN the number.
template <class T> inline T minimum(T a, T b) {
  if (a != a) return b != b ? canonical(a) : b;
  if (b != b) return a;
  return a == b ? (std::signbit(a) ? a : b) : a < b ? a : b;
}
template <class T> inline T maximum(T a, T b) {
  if (a != a) return b != b ? canonical(a) : b;
  if (b != b) return a;
  return a == b ? (std::signbit(a) ? b : a) : a > b ? a : b;
}
template <class T> inline T minimum_nan(T a, T b) {
  return a != a || b != b ? canonical(std::numeric_limits<T>::quiet_NaN()) : minimum(a, b);
}
template <class T> inline T maximum_nan(T a, T b) {
  return a != a || b != b ? canonical(std::numeric_limits<T>::quiet_NaN()) : maximum(a, b);
}
// .xorsign.abs: of the magnitudes, with the product of the signs.
inline f32 with_product_sign(f32 value, f32 a, f32 b) {
  return value != value ? value : bits<f32>(bits<u32>(value) | ((bits<u32>(a) ^ bits<u32>(b)) & 0x80000000u));
}

// ---------------------------------------------------------------- rounding to a narrower format
// The order is that of ROUNDINGS in conversion.py.
enum class Rounding { nearest, zero, down, up };

inline f64 round_to_integer(f64 x, Rounding mode) {
  switch (mode) {
    case Rounding::nearest: return std::nearbyint(x);
    case Rounding::zero: return std::trunc(x);
    case Rounding::down: return std::floor(x);
    default: return std::ceil(x);
  }
}

struct Format {
  int fraction, lowest, highest;  // fraction bits; exponents of the smallest and of the largest normal number
};
constexpr Format HALF{10, -14, 15}, BFLOAT{7, -126, 127}, SINGLE{23, -126, 127};

// The number of `format` that `x` rounds to.
inline f64 round_to(f64 x, const Format& format, Rounding mode = Rounding::nearest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = static_cast<int>(bits<u64>(x) >> 52 & 0x7ff) - 1023;
  const int last = (exponent > format.lowest ? exponent : format.lowest) - format.fraction;
  const f64 unit = bits<f64>(static_cast<u64>(last + 1023) << 52);
  const f64 result = std::copysign(round_to_integer(x / unit, mode) * unit, x);
  const f64 largest = (2.0 - std::ldexp(1.0, -format.fraction)) * std::ldexp(1.0, format.highest);
  if (std::fabs(result) <= largest) return result;
  const bool stays = mode == Rounding::zero || (mode == Rounding::down && x > 0) || (mode == Rounding::up && x < 0);
  return std::copysign(stays ? largest : std::numeric_limits<f64>::infinity(), x);
}

// The sum of `high` and a smaller `low`, rounded to odd: a later rounding to fewer bits is then a single rounding.
inline f64 round_to_odd(f64 high, f64 low) {
  if (low == 0 || !std::isfinite(high)) return high;
  u64 x = bits<u64>(high);
  if (!(x & 1)) x = ((low > 0) == (high > 0) ? x : x - 1) | 1;
  return bits<f64>(x);
}
inline f64 add_to_odd(f64 a, f64 b) {
  const f64 sum = a + b, part = sum - a, error = (a - (sum - part)) + (b - part);
  return round_to_odd(sum, std::isfinite(sum) ? error : 0);
}

// ---------------------------------------------------------------- half precision
inline f32 from_half(u16 x) {
  const u32 magnitude = static_cast<u32>(x & 0x7fff) << 13;
  u32 value = bits<u32>(bits<f32>(magnitude) * 0x1p112f);
  value |= magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return bits<f32>(value | static_cast<u32>(x & 0x8000) << 16);
}
inline u16 to_half(f32 x) {
  const u32 all = bits<u32>(x), magnitude = all & 0x7fffffffu;
  const u32 normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13;
  const u32 subnormal = bits<u32>(bits<f32>(magnitude) + 0.5f) - bits<u32>(0.5f);
  const u32 finite = magnitude < 0x38800000u ? subnormal : normal;
  const u32 result = (magnitude >= 0x477ff000u ? 0x7c00u : finite) | (all >> 16 & 0x8000u);
  return static_cast<u16>(magnitude > 0x7f800000u ? 0x7fffu : result);
}
inline f32 from_bfloat(u16 x) { return bits<f32>(static_cast<u32>(x) << 16); }
inline u16 to_bfloat(f32 x) {
  const u32 all = bits<u32>(x), result = (all + 0x7fffu + (all >> 16 & 1)) >> 16;
  return static_cast<u16>((all & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : result);
}
inline f32 truncated_tf32(u32 x) { return bits<f32>(x & ~0x1fffu); }  // matrix instructions ignore the low bits

struct HalfFormat {
  static f32 wide(u16 x) { return from_half(x); }
  static u16 narrow(f64 x) { return to_half(static_cast<f32>(round_to(x, HALF))); }
};
struct BfloatFormat {
  static f32 wide(u16 x) { return from_bfloat(x); }
  static u16 narrow(f64 x) { return to_bfloat(static_cast<f32>(round_to(x, BFLOAT))); }
};

// ---------------------------------------------------------------- errors of approximate instructions
// `y` moved by up to `units` in the last place, by a hash of the argument, so that it repeats. Powers of two stay.
inline f32 perturb(f32 y, f32 argument, int units) {
  if (!hardware_errors || !std::isfinite(y) || std::fabs(y) < 0x1p-125f || !(bits<u32>(y) & 0x7fffff)) return y;
  u32 hash = bits<u32>(argument);
  hash = (hash ^ hash >> 16) * 0x7feb352du;
  hash = (hash ^ hash >> 15) * 0x846ca68bu;
  hash ^= hash >> 16;
  return bits<f32>(bits<u32>(y) + hash % (2 * units + 1) - units);
}

}  // namespace ptx
