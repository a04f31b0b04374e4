// cvt. One general conversion between all types, and the most frequent ones as loops that compilers vectorise.
#include <algorithm>

#include "numbers.h"
#include "table.h"

namespace ptx {
namespace {

// The order is that of TYPES in conversion.py.
enum class Type { u8, u16, u32, u64, s8, s16, s32, s64, f16, bf16, f32, f64 };
enum Flags { FTZ = 1, SATURATE = 2, RELU = 4, TO_INTEGER = 8 };  // TO_INTEGER: rounded to a whole number

bool is_floating(Type t) { return t >= Type::f16; }
bool is_signed(Type t) { return t >= Type::s8 && t <= Type::s64; }
int bits_of(Type t) {
  static const int n[] = {8, 16, 32, 64, 8, 16, 32, 64, 16, 16, 32, 64};
  return n[static_cast<int>(t)];
}

s128 integer_of(u64 word, Type type) {
  const int unused = 64 - bits_of(type);
  return is_signed(type) ? s128(static_cast<s64>(word << unused) >> unused) : s128(word << unused >> unused);
}
s128 lowest(Type type) { return is_signed(type) ? -(s128(1) << (bits_of(type) - 1)) : 0; }
s128 highest(Type type) { return (s128(1) << (bits_of(type) - (is_signed(type) ? 1 : 0))) - 1; }

f64 floating_of(u64 word, Type type) {
  switch (type) {
    case Type::f16: return from_half(static_cast<u16>(word));
    case Type::bf16: return from_bfloat(static_cast<u16>(word));
    case Type::f32: return bits<f32>(static_cast<u32>(word));
    default: return bits<f64>(word);
  }
}
u64 word_of(f64 x, Type type) {  // of a number that the type holds
  switch (type) {
    case Type::f16: return to_half(static_cast<f32>(x));
    case Type::bf16: return to_bfloat(static_cast<f32>(x));
    case Type::f32: return bits<u32>(canonical(static_cast<f32>(x)));
    default: return bits<u64>(x);
  }
}
f64 rounded(f64 x, Type type, Rounding mode) {
  switch (type) {
    case Type::f16: return round_to(x, HALF, mode);
    case Type::bf16: return round_to(x, BFLOAT, mode);
    case Type::f32: return round_to(x, SINGLE, mode);
    default: return x;
  }
}

// Out of range: the nearest integer. NaN: 0 where both types have at most 32 bits, otherwise the lone top bit.
u64 to_integer(f64 x, Type from, Type to, Rounding mode) {
  if (x != x) return from == Type::f64 || bits_of(to) == 64 ? 1ull << (bits_of(to) - 1) : 0;
  const f64 whole = round_to_integer(x, mode);
  if (whole >= static_cast<f64>(highest(to))) return static_cast<u64>(highest(to));
  if (whole <= static_cast<f64>(lowest(to))) return static_cast<u64>(lowest(to));
  return static_cast<u64>(static_cast<s128>(whole));
}
u64 integer_to_integer(s128 value, Type to, int flags) {
  if (flags & SATURATE) value = std::clamp(value, lowest(to), highest(to));
  return static_cast<u64>(integer_of(static_cast<u64>(value), to));
}
u64 integer_to_floating(s128 value, Type to, Rounding mode) {
  // 53 bits of it exactly; what is below them decides the rounding of the last
  const f64 near = static_cast<f64>(value);
  const f64 error = static_cast<f64>(value - static_cast<s128>(near));
  if (to != Type::f64) return word_of(rounded(round_to_odd(near, error), to, mode), to);
  f64 result = near;
  if (mode == Rounding::up && error > 0) result = std::nextafter(near, INFINITY);
  if (mode == Rounding::down && error < 0) result = std::nextafter(near, -INFINITY);
  if (mode == Rounding::zero && error != 0 && (error < 0) == (near > 0)) result = std::nextafter(near, 0.0);
  return bits<u64>(result);
}
u64 floating_to_floating(f64 x, Type to, Rounding mode, int flags) {
  if (flags & TO_INTEGER) x = round_to_integer(x, mode);
  x = rounded(x, to, mode);
  if ((flags & FTZ) && to == Type::f32) x = flush(static_cast<f32>(x));
  if (flags & SATURATE) x = x > 0 ? std::min(x, 1.0) : 0.0;
  if ((flags & RELU) && !(x != x)) x = std::max(x, 0.0) + 0.0;
  return word_of(x, to);
}

// immediates: type of the result, type of the source, rounding, flags, bytes of the two registers
void convert(Warp& w, const Instruction& i, u32 active) {
  const Type to = static_cast<Type>(i.immediate[0]), from = static_cast<Type>(i.immediate[1]);
  const Rounding mode = static_cast<Rounding>(i.immediate[2]);
  const int flags = static_cast<int>(i.immediate[3]);
  each(active, [&](int lane) {
    const u64 word = read_word(w, i.operand[1], static_cast<int>(i.immediate[5]), lane);
    u64 result;
    if (is_floating(from)) {
      f64 x = floating_of(word, from);
      if ((flags & FTZ) && from == Type::f32) x = flush(static_cast<f32>(x));
      result = is_floating(to) ? floating_to_floating(x, to, mode, flags) : to_integer(x, from, to, mode);
    } else {
      const s128 value = integer_of(word, from);
      result = is_floating(to) ? integer_to_floating(value, to, mode) : integer_to_integer(value, to, flags);
    }
    write_word(w, i.operand[0], static_cast<int>(i.immediate[4]), lane, result);
  });
}

// Two singles to a packed pair, the first to the upper half. immediate: relu
template <class Op> void convert_pair(Warp& w, const Instruction& i, u32 active) {
  u32* d = w.lanes<u32>(i.operand[0]);
  const f32 *a = w.lanes<f32>(i.operand[1]), *b = w.lanes<f32>(i.operand[2]);
  if (i.immediate[0]) {
    each(active, [=](int l) { d[l] = static_cast<u32>(Op::of(rectify(a[l]))) << 16 | Op::of(rectify(b[l])); });
  } else {
    for_lanes(active, [=](int l) { d[l] = static_cast<u32>(Op::of(a[l])) << 16 | Op::of(b[l]); });
  }
}
struct NearestHalf {
  static inline u16 of(f32 x) { return to_half(x); }
};
struct NearestBfloat {
  static inline u16 of(f32 x) { return to_bfloat(x); }
};
struct TruncatedHalf {
  static u16 of(f32 x) { return to_half(static_cast<f32>(round_to(x, HALF, Rounding::zero))); }
};
struct TruncatedBfloat {
  static u16 of(f32 x) { return to_bfloat(static_cast<f32>(round_to(x, BFLOAT, Rounding::zero))); }
};
// To 10 fraction bits: `bias` is what is added before the rest is cut off.
inline u32 to_tf32(f32 x, u32 bias) {
  const u32 word = bits<u32>(x), special = 0x7f800000u;
  const u32 result = (word & special) == special ? word : (word + bias) & ~0x1fffu;
  return x != x ? 0x7fffffffu : result;
}

}  // namespace

void add_conversions(Table& t) {
  t["cvt"] = {convert, 1, Flow::all};
  t["cvt.rn.f16x2.f32"] = {convert_pair<NearestHalf>, 2, Flow::all};
  t["cvt.rn.bf16x2.f32"] = {convert_pair<NearestBfloat>, 2, Flow::all};
  t["cvt.rz.f16x2.f32"] = {convert_pair<TruncatedHalf>, 2, Flow::all};
  t["cvt.rz.bf16x2.f32"] = {convert_pair<TruncatedBfloat>, 2, Flow::all};
  UNARY("cvt.rna.tf32.f32", u32, f32, to_tf32(a, 0x1000))
  UNARY("cvt.rn.tf32.f32", u32, f32, to_tf32(a, 0xfff + (bits<u32>(a) >> 13 & 1)))
  UNARY("cvt.rz.tf32.f32", u32, f32, to_tf32(a, 0))
  UNARY("cvt.f32.f16", f32, u16, canonical(from_half(a)))
  UNARY("cvt.f32.bf16", f32, u16, canonical(from_bfloat(a)))
  UNARY("cvt.rn.f16.f32", u16, f32, to_half(a))
  UNARY("cvt.rn.bf16.f32", u16, f32, to_bfloat(a))
  UNARY("cvt.rn.f32.s32", f32, s32, static_cast<f32>(a))
  UNARY("cvt.rn.f32.u32", f32, u32, static_cast<f32>(a))
  UNARY("cvt.f64.f32", f64, f32, static_cast<f64>(a))
  UNARY("cvt.rn.f32.f64", f32, f64, canonical(static_cast<f32>(a)))
  UNARY("cvt.s64.s32", s64, s32, static_cast<s64>(a))
  UNARY("cvt.u64.u32", u64, u32, static_cast<u64>(a))
  UNARY("cvt.u32.u64", u32, u64, static_cast<u32>(a))
  UNARY("cvt.u32.u16", u32, u16, static_cast<u32>(a))
  UNARY("cvt.u16.u32", u16, u32, static_cast<u16>(a))
}

}  // namespace ptx
