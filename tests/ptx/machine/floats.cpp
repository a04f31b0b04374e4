// Single and double precision, rounded to nearest, and the approximate instructions.
#include "numbers.h"
#include "table.h"

namespace ptx {
namespace {

template <bool FTZ> inline f32 in(f32 x) { return FTZ ? flush(x) : x; }
template <bool FTZ, bool SAT> inline f32 out(f32 x) {
  const f32 y = canonical(FTZ ? flush(x) : x);
  return SAT ? saturate(y) : y;
}

// One operation of a, b and c for each of "", ".ftz", ".sat" and ".ftz.sat", or for the first two.
#define F32_UNARY_(name, FTZ, ...)                      \
  {                                                     \
    struct Op {                                         \
      static inline f32 of(f32 x) {                     \
        const f32 a = in<FTZ>(x);                       \
        return out<FTZ, false>(__VA_ARGS__);            \
      }                                                 \
    };                                                  \
    t[name] = Entry{unary<f32, f32, Op>, 1, Flow::all}; \
  }
#define F32_BINARY_(name, FTZ, SAT, ...)                      \
  {                                                           \
    struct Op {                                               \
      static inline f32 of(f32 x, f32 y) {                    \
        const f32 a = in<FTZ>(x), b = in<FTZ>(y);             \
        return out<FTZ, SAT>(__VA_ARGS__);                    \
      }                                                       \
    };                                                        \
    t[name] = Entry{binary<f32, f32, f32, Op>, 2, Flow::all}; \
  }
#define F32_TERNARY_(name, FTZ, SAT, ...)                           \
  {                                                                 \
    struct Op {                                                     \
      static inline f32 of(f32 x, f32 y, f32 z) {                   \
        const f32 a = in<FTZ>(x), b = in<FTZ>(y), c = in<FTZ>(z);   \
        return out<FTZ, SAT>(__VA_ARGS__);                          \
      }                                                             \
    };                                                              \
    t[name] = Entry{ternary<f32, f32, f32, f32, Op>, 3, Flow::all}; \
  }
#define F32_UNARY(name, ...) F32_UNARY_(name ".f32", false, __VA_ARGS__) F32_UNARY_(name ".ftz.f32", true, __VA_ARGS__)
#define F32_BINARY(name, ...) \
  F32_BINARY_(name ".f32", false, false, __VA_ARGS__) F32_BINARY_(name ".ftz.f32", true, false, __VA_ARGS__)
#define F32_SATURATING(ARITY, name, ...)                                                                           \
  F32_##ARITY##_(name ".f32", false, false, __VA_ARGS__) F32_##ARITY##_(name ".ftz.f32", true, false, __VA_ARGS__) \
      F32_##ARITY##_(name ".sat.f32", false, true, __VA_ARGS__)                                                    \
          F32_##ARITY##_(name ".ftz.sat.f32", true, true, __VA_ARGS__)

// Division that may err by 2 units; by a power of two it is exact.
inline f32 quotient(f32 a, f32 b) { return bits<u32>(b) & 0x7fffff ? perturb(a / b, a + b, 2) : a / b; }
// Double precision of which only the upper 32 bits are computed.
inline f64 upper_word(f64 x) { return bits<f64>(bits<u64>(x) & 0xffffffff00000000ull); }

void add_single(Table& t) {
  F32_SATURATING(BINARY, "add.rn", a + b)
  F32_SATURATING(BINARY, "sub.rn", a - b)
  F32_SATURATING(BINARY, "mul.rn", a * b)
  F32_SATURATING(TERNARY, "fma.rn", std::fma(a, b, c))
  F32_BINARY("div.rn", a / b)
  F32_BINARY("div.full", quotient(a, b))
  F32_BINARY("div.approx", quotient(a, b))
  F32_UNARY("rcp.rn", 1.0f / a)
  F32_UNARY("sqrt.rn", std::sqrt(a))
  F32_BINARY("min", minimum(a, b))
  F32_BINARY("max", maximum(a, b))
  F32_BINARY("min.NaN", minimum_nan(a, b))
  F32_BINARY("max.NaN", maximum_nan(a, b))
  F32_UNARY("rcp.approx", perturb(1.0f / a, a, 1))
  F32_UNARY("sqrt.approx", perturb(std::sqrt(a), a, 1))
  F32_UNARY("rsqrt.approx", perturb(static_cast<f32>(1.0 / std::sqrt(static_cast<f64>(a))), a, 1))
  F32_UNARY("ex2.approx", perturb(std::exp2(a), a, 1))
  F32_UNARY("lg2.approx", perturb(std::log2(a), a, 1))
  F32_UNARY("sin.approx", static_cast<f32>(std::sin(static_cast<f64>(a))))
  F32_UNARY("cos.approx", static_cast<f32>(std::cos(static_cast<f64>(a))))
  F32_UNARY_("tanh.approx.f32", false, static_cast<f32>(std::tanh(static_cast<f64>(a))))
  // With .xorsign the flag comes before .abs, and .ftz before .NaN.
  BINARY("min.xorsign.abs.f32", f32, f32, f32, with_product_sign(minimum(std::fabs(a), std::fabs(b)), a, b))
  BINARY("max.xorsign.abs.f32", f32, f32, f32, with_product_sign(maximum(std::fabs(a), std::fabs(b)), a, b))
  BINARY("min.NaN.xorsign.abs.f32", f32, f32, f32, with_product_sign(minimum_nan(std::fabs(a), std::fabs(b)), a, b))
  BINARY("max.NaN.xorsign.abs.f32", f32, f32, f32, with_product_sign(maximum_nan(std::fabs(a), std::fabs(b)), a, b))
  F32_BINARY_("min.ftz.NaN.f32", true, false, minimum_nan(a, b))
  F32_BINARY_("max.ftz.NaN.f32", true, false, maximum_nan(a, b))
  UNARY("neg.f32", u32, u32, a ^ 0x80000000u)
  UNARY("abs.f32", u32, u32, a & 0x7fffffffu)
  UNARY("neg.ftz.f32", f32, f32, -flush(a))
  UNARY("abs.ftz.f32", f32, f32, std::fabs(flush(a)))
  BINARY("copysign.f32", u32, u32, u32, (a & 0x80000000u) | (b & 0x7fffffffu))
}

void add_double(Table& t) {
  BINARY("add.rn.f64", f64, f64, f64, a + b)
  BINARY("sub.rn.f64", f64, f64, f64, a - b)
  BINARY("mul.rn.f64", f64, f64, f64, a * b)
  BINARY("div.rn.f64", f64, f64, f64, a / b)
  TERNARY("fma.rn.f64", f64, f64, f64, f64, std::fma(a, b, c))
  UNARY("sqrt.rn.f64", f64, f64, std::sqrt(a))
  UNARY("rcp.rn.f64", f64, f64, 1.0 / a)
  UNARY("rcp.approx.ftz.f64", f64, f64, upper_word(1.0 / a))
  UNARY("rsqrt.approx.ftz.f64", f64, f64, upper_word(1.0 / std::sqrt(a)))
  UNARY("rsqrt.approx.f64", f64, f64, 1.0 / std::sqrt(a))
  BINARY("min.f64", f64, f64, f64, minimum(a, b))
  BINARY("max.f64", f64, f64, f64, maximum(a, b))
  UNARY("neg.f64", u64, u64, a ^ 1ull << 63)
  UNARY("abs.f64", u64, u64, a & ~(1ull << 63))
  BINARY("copysign.f64", u64, u64, u64, (a & 1ull << 63) | (b & ~(1ull << 63)))
}

// Pairs of singles in one 64-bit register.
template <class Op, bool FTZ> struct Pair {
  template <class... Words> static inline u64 of(Words... words) {
    const u32 low = bits<u32>(out<FTZ, false>(Op::of(in<FTZ>(bits<f32>(static_cast<u32>(words)))...)));
    const u32 high = bits<u32>(out<FTZ, false>(Op::of(in<FTZ>(bits<f32>(static_cast<u32>(words >> 32)))...)));
    return static_cast<u64>(high) << 32 | low;
  }
};
struct Add {
  static inline f32 of(f32 a, f32 b) { return a + b; }
};
struct Subtract {
  static inline f32 of(f32 a, f32 b) { return a - b; }
};
struct Multiply {
  static inline f32 of(f32 a, f32 b) { return a * b; }
};
struct MultiplyAdd {
  static inline f32 of(f32 a, f32 b, f32 c) { return std::fma(a, b, c); }
};

template <bool FTZ> void add_pairs(Table& t, const std::string& flags) {
  t["add.rn" + flags] = {binary<u64, u64, u64, Pair<Add, FTZ>>, 2, Flow::halves};
  t["sub.rn" + flags] = {binary<u64, u64, u64, Pair<Subtract, FTZ>>, 2, Flow::halves};
  t["mul.rn" + flags] = {binary<u64, u64, u64, Pair<Multiply, FTZ>>, 2, Flow::halves};
  t["fma.rn" + flags] = {ternary<u64, u64, u64, u64, Pair<MultiplyAdd, FTZ>>, 3, Flow::halves};
}

}  // namespace

void add_floats(Table& t) {
  add_single(t);
  add_double(t);
  add_pairs<false>(t, ".f32x2");
  add_pairs<true>(t, ".ftz.f32x2");
}

}  // namespace ptx
