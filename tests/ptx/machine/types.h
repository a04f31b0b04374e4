// Names of fixed-size types, and bits of one type seen as another.
#pragma once
#include <cstdint>
#include <cstring>

namespace ptx {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using s128 = __int128;
using f32 = float;
using f64 = double;

constexpr int LANES = 32;
constexpr u32 ALL_LANES = ~0u;

template <class To, class From> inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

inline bool has(u32 lanes, int lane) { return lanes >> lane & 1; }
inline int first(u32 lanes) { return __builtin_ctz(lanes); }
inline int count(u32 lanes) { return __builtin_popcount(lanes); }

template <class F> inline void each(u32 lanes, F&& f) {
  for (; lanes; lanes &= lanes - 1) f(first(lanes));
}

}  // namespace ptx
