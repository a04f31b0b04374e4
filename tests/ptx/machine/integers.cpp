// Integers and bits.
#include <algorithm>
#include <type_traits>

#include "table.h"

namespace ptx {
namespace {

template <class T> inline T divide(T a, T b) {
  using U = std::make_unsigned_t<T>;
  if (b == 0) return static_cast<T>(~T(0));
  return std::is_signed_v<T> && b == static_cast<T>(-1) ? static_cast<T>(U(0) - static_cast<U>(a))
                                                        : static_cast<T>(a / b);
}
template <class T> inline T remainder(T a, T b) {
  if (b == 0) return a;
  return std::is_signed_v<T> && b == static_cast<T>(-1) ? T(0) : static_cast<T>(a % b);
}
template <class T> inline T shift_right(T a, u32 n) {
  const u32 most = sizeof(T) * 8 - 1;
  return n <= most ? static_cast<T>(a >> n) : static_cast<T>(a < 0 ? -1 : 0);
}
template <class T> inline T shift_left(T a, u32 n) { return n < sizeof(T) * 8 ? static_cast<T>(a << n) : T(0); }
template <class T> inline T high_product(T a, T b) {
  using W = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
  return static_cast<T>(static_cast<W>(a) * b >> (sizeof(T) * 8));
}

template <class T> void add_type(Table& t, const std::string& type) {
  using U = std::make_unsigned_t<T>;
  BINARY("add." + type, U, U, U, a + b)
  BINARY("sub." + type, U, U, U, a - b)
  BINARY("mul.lo." + type, U, U, U, static_cast<u64>(a) * b)
  BINARY("mul.hi." + type, T, T, T, high_product(a, b))
  TERNARY("mad.lo." + type, U, U, U, U, static_cast<u64>(a) * b + c)
  TERNARY("mad.hi." + type, U, T, T, U, static_cast<U>(high_product(a, b)) + c)
  BINARY("div." + type, T, T, T, divide(a, b))
  BINARY("rem." + type, T, T, T, remainder(a, b))
  BINARY("min." + type, T, T, T, std::min(a, b))
  BINARY("max." + type, T, T, T, std::max(a, b))
  BINARY("shr." + type, T, T, u32, shift_right(a, b))
  if constexpr (std::is_signed_v<T>) {
    UNARY("neg." + type, U, U, 0 - a)
    UNARY("abs." + type, U, T, a < 0 ? U(0) - static_cast<U>(a) : static_cast<U>(a))
  }
}

template <class T, class Wide> void add_wide(Table& t, const std::string& type) {
  using U = std::make_unsigned_t<Wide>;
  BINARY("mul.wide." + type, Wide, T, T, static_cast<Wide>(a) * b)
  TERNARY("mad.wide." + type, U, T, T, U, static_cast<U>(static_cast<Wide>(a) * b) + c)
}

template <class T> void add_bits(Table& t, const std::string& type) {
  BINARY("and." + type, T, T, T, a & b)
  BINARY("or." + type, T, T, T, a | b)
  BINARY("xor." + type, T, T, T, a ^ b)
  UNARY("not." + type, T, T, ~a)
  UNARY("cnot." + type, T, T, a == 0)
  BINARY("shl." + type, T, T, u32, shift_left(a, b))
  BINARY("shr." + type, T, T, u32, shift_right(a, b))
}

template <class T> inline T reverse(T x) {
  T result = 0;
  for (unsigned k = 0; k < sizeof(T) * 8; k++) result = static_cast<T>(result << 1 | (x >> k & 1));
  return result;
}
inline u32 highest_bit(u64 x) { return x ? 63u - static_cast<u32>(__builtin_clzll(x)) : ~0u; }

// bfe: `length` bits from `position`; a signed field repeats its top bit, or that of the word where it reaches past it.
template <class T> inline T extract(T value, u32 position, u32 length) {
  using U = std::make_unsigned_t<T>;
  const u32 width = sizeof(T) * 8, from = position & 255, n = length & 255;
  if (n == 0) return 0;
  const u32 top = std::min(from + n - 1, width - 1);
  const U sign = std::is_signed_v<T> && (static_cast<U>(value) >> top & 1) ? ~U(0) : U(0);
  if (from >= width) return static_cast<T>(sign);
  const U field = static_cast<U>(value) >> from;
  const u32 kept = std::min(n, width - from);
  const U mask = kept == width ? ~U(0) : (U(1) << kept) - 1;
  return static_cast<T>((field & mask) | (sign & ~mask));
}
template <class T> inline T insert(T field, T base, u32 position, u32 length) {
  const u32 width = sizeof(T) * 8, to = position & 255, n = std::min(length & 255, width);
  if (n == 0 || to >= width) return base;
  const T mask = static_cast<T>((n == width ? ~T(0) : (T(1) << n) - 1) << to);
  return (base & ~mask) | (static_cast<T>(field << to) & mask);
}
template <class T> void insert_bits(Warp& w, const Instruction& i, u32 active) {
  each(active, [&](int lane) {
    w.lanes<T>(i.operand[0])[lane] = insert(w.lanes<T>(i.operand[1])[lane], w.lanes<T>(i.operand[2])[lane],
                                            w.lanes<u32>(i.operand[3])[lane], w.lanes<u32>(i.operand[4])[lane]);
  });
}
inline u32 permute(u32 a, u32 b, u32 selectors) {
  const u64 bytes = static_cast<u64>(b) << 32 | a;
  u32 result = 0;
  for (int k = 0; k < 4; k++) {
    const u32 selector = selectors >> (4 * k) & 15;
    u32 byte = static_cast<u32>(bytes >> (8 * (selector & 7)) & 255);
    if (selector & 8) byte = byte & 128 ? 255 : 0;  // its sign, repeated
    result |= byte << (8 * k);
  }
  return result;
}
// immediate: the truth table, whose bit 4a + 2b + c is the result of bits a, b and c.
void logic3(Warp& w, const Instruction& i, u32 active) {
  u32 term[8];
  for (int k = 0; k < 8; k++) term[k] = i.immediate[0] >> k & 1 ? ~0u : 0u;
  u32* d = w.lanes<u32>(i.operand[0]);
  const u32 *pa = w.lanes<u32>(i.operand[1]), *pb = w.lanes<u32>(i.operand[2]), *pc = w.lanes<u32>(i.operand[3]);
  for_lanes(active, [=](int l) {
    const u32 a = pa[l], b = pb[l], c = pc[l];
    const u32 low = (~b & ((~c & term[0]) | (c & term[1]))) | (b & ((~c & term[2]) | (c & term[3])));
    const u32 high = (~b & ((~c & term[4]) | (c & term[5]))) | (b & ((~c & term[6]) | (c & term[7])));
    d[l] = (~a & low) | (a & high);
  });
}
// shf: operands low word, high word, distance
template <bool LEFT, bool WRAP> struct Funnel {
  static u32 of(u32 low, u32 high, u32 distance) {
    const u32 n = WRAP ? distance & 31 : std::min(distance, 32u);
    const u64 both = static_cast<u64>(high) << 32 | low;
    return static_cast<u32>(LEFT ? (n == 32 ? low : both << n >> 32) : both >> n);
  }
};
// Extended precision. immediates: operation (0 add, 1 sub, 2 mad.lo, 3 mad.hi), takes carry, sets carry, is signed.
void with_carry(Warp& w, const Instruction& i, u32 active) {
  const s64 operation = i.immediate[0];
  each(active, [&](int lane) {
    const u64 a = w.lanes<u32>(i.operand[1])[lane], b = w.lanes<u32>(i.operand[2])[lane];
    const u64 c = operation >= 2 ? w.lanes<u32>(i.operand[3])[lane] : 0;
    const u64 carry = i.immediate[1] && has(w.carry, lane);
    u64 result;
    if (operation == 0) result = a + b + carry;
    else if (operation == 1) result = (a - b - carry) & 0x1ffffffffull;  // bit 32 is the borrow
    else {
      const u64 product =
          i.immediate[3] ? static_cast<u64>(static_cast<s64>(static_cast<s32>(a)) * static_cast<s32>(b)) : a * b;
      result = (operation == 2 ? product & 0xffffffffu : product >> 32 & 0xffffffffu) + c + carry;
    }
    w.lanes<u32>(i.operand[0])[lane] = static_cast<u32>(result);
    if (i.immediate[2]) assign(w.carry, result >> 32 & 1 ? ALL_LANES : 0, 1u << lane);
  });
}

}  // namespace

void add_integers(Table& t) {
  add_type<u16>(t, "u16");
  add_type<u32>(t, "u32");
  add_type<u64>(t, "u64");
  add_type<s16>(t, "s16");
  add_type<s32>(t, "s32");
  add_type<s64>(t, "s64");
  add_wide<u16, u32>(t, "u16");
  add_wide<u32, u64>(t, "u32");
  add_wide<s16, s32>(t, "s16");
  add_wide<s32, s64>(t, "s32");
  add_bits<u16>(t, "b16");
  add_bits<u32>(t, "b32");
  add_bits<u64>(t, "b64");
  UNARY("popc.b32", u32, u32, __builtin_popcount(a))
  UNARY("popc.b64", u32, u64, __builtin_popcountll(a))
  UNARY("clz.b32", u32, u32, a ? __builtin_clz(a) : 32)
  UNARY("clz.b64", u32, u64, a ? __builtin_clzll(a) : 64)
  UNARY("bfind.u32", u32, u32, highest_bit(a))
  UNARY("bfind.u64", u32, u64, highest_bit(a))
  UNARY("bfind.s32", u32, s32, highest_bit(static_cast<u32>(a < 0 ? ~a : a)))
  UNARY("bfind.s64", u32, s64, highest_bit(static_cast<u64>(a < 0 ? ~a : a)))
  UNARY("brev.b32", u32, u32, reverse(a))
  UNARY("brev.b64", u64, u64, reverse(a))
  TERNARY("bfe.u32", u32, u32, u32, u32, extract(a, b, c))
  TERNARY("bfe.s32", s32, s32, u32, u32, extract(a, b, c))
  TERNARY("bfe.u64", u64, u64, u32, u32, extract(a, b, c))
  TERNARY("bfe.s64", s64, s64, u32, u32, extract(a, b, c))
  TERNARY("prmt.b32", u32, u32, u32, u32, permute(a, b, c))
  t["bfi.b32"] = {insert_bits<u32>, 4, Flow::all};
  t["bfi.b64"] = {insert_bits<u64>, 4, Flow::all};
  t["lop3.b32"] = {logic3, 3, Flow::all};
  t["shf.l.wrap.b32"] = {ternary<u32, u32, u32, u32, Funnel<true, true>>, 3, Flow::all};
  t["shf.l.clamp.b32"] = {ternary<u32, u32, u32, u32, Funnel<true, false>>, 3, Flow::all};
  t["shf.r.wrap.b32"] = {ternary<u32, u32, u32, u32, Funnel<false, true>>, 3, Flow::all};
  t["shf.r.clamp.b32"] = {ternary<u32, u32, u32, u32, Funnel<false, false>>, 3, Flow::all};
  t["carry"] = {with_carry, -1, Flow::all};
}

}  // namespace ptx
