// What mma and wgmma share: elements of their operands as doubles, and the sum of products.
#pragma once
#include <algorithm>

#include "numbers.h"

namespace ptx {

enum class Element : s64 { f16, bf16, tf32, f64, s8, u8 };  // the order of ELEMENTS in matrix.py

// How many elements a 32-bit register holds.
inline int per_register(Element e) { return e == Element::f16 || e == Element::bf16 ? 2 : e >= Element::s8 ? 4 : 1; }

inline f64 element_of(Element e, u32 word, int k) {
  switch (e) {
    case Element::f16: return from_half(static_cast<u16>(word >> (16 * k)));
    case Element::bf16: return from_bfloat(static_cast<u16>(word >> (16 * k)));
    case Element::s8: return static_cast<s8>(word >> (8 * k));
    case Element::u8: return static_cast<u8>(word >> (8 * k));
    default: return truncated_tf32(word);
  }
}

// A sum of integers: clamped, or modulo 2^32.
inline s32 integer_sum(f64 x, bool saturates) {
  return static_cast<s32>(
      static_cast<u32>(static_cast<s64>(saturates ? std::min(std::max(x, -0x1p31), 0x1p31 - 1) : x)));
}

// c += a . b for one row of `n` columns; `b` has rows of `stride`. The products are exact in double, their sum is
// nearly so, and the caller rounds once. With `cuts` the sum of c and every 8 products is cut toward zero, as hardware
// does.
inline void add_products(const f64* a, const f64* b, int stride, int n, int depth, f64* c, bool cuts) {
  if (cuts) {
    for (int j = 0; j < n; j++)
      for (int k = 0; k < depth; k += 8) {
        for (int q = k; q < std::min(depth, k + 8); q++) c[j] += a[q] * b[q * stride + j];
        c[j] = round_to(c[j], SINGLE, Rounding::zero);
      }
    return;
  }
  f64 sum[256] = {0};
  for (int k = 0; k < depth; k++) {
    const f64 x = a[k];
    const f64* row = b + k * stride;
    for (int j = 0; j < n; j++) sum[j] += x * row[j];
  }
  for (int j = 0; j < n; j++) c[j] += sum[j];
}

}  // namespace ptx
