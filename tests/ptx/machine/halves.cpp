// Half precision and bfloat16, one number or two packed in a register. Every result is rounded once: sums and products
// are exact in double, or rounded to odd there.
#include "numbers.h"
#include "table.h"

namespace ptx {
namespace {

template <class K> struct Add {
  static u16 of(u16 a, u16 b) { return K::narrow(add_to_odd(K::wide(a), K::wide(b))); }
};
template <class K> struct Subtract {
  static u16 of(u16 a, u16 b) { return K::narrow(add_to_odd(K::wide(a), -K::wide(b))); }
};
template <class K> struct Multiply {
  static u16 of(u16 a, u16 b) { return K::narrow(static_cast<f64>(K::wide(a)) * K::wide(b)); }
};
template <class K> struct MultiplyAdd {
  static u16 of(u16 a, u16 b, u16 c) {
    return K::narrow(add_to_odd(static_cast<f64>(K::wide(a)) * K::wide(b), K::wide(c)));
  }
};
template <class K> struct RectifiedMultiplyAdd {
  static u16 of(u16 a, u16 b, u16 c) { return K::narrow(rectify(K::wide(MultiplyAdd<K>::of(a, b, c)))); }
};
template <class K> struct Minimum {
  static u16 of(u16 a, u16 b) { return K::narrow(minimum(K::wide(a), K::wide(b))); }
};
template <class K> struct Maximum {
  static u16 of(u16 a, u16 b) { return K::narrow(maximum(K::wide(a), K::wide(b))); }
};
template <class K> struct MinimumNaN {
  static u16 of(u16 a, u16 b) { return K::narrow(minimum_nan(K::wide(a), K::wide(b))); }
};
template <class K> struct MaximumNaN {
  static u16 of(u16 a, u16 b) { return K::narrow(maximum_nan(K::wide(a), K::wide(b))); }
};
template <class K> struct Negate {
  static u16 of(u16 a) { return a ^ 0x8000; }
};
template <class K> struct Absolute {
  static u16 of(u16 a) { return a & 0x7fff; }
};
template <class K> struct Exp2 {
  static u16 of(u16 a) { return K::narrow(std::exp2(static_cast<f64>(K::wide(a)))); }
};
template <class K> struct Tanh {
  static u16 of(u16 a) { return K::narrow(std::tanh(static_cast<f64>(K::wide(a)))); }
};

template <class Op> struct Packed {
  template <class... Words> static u32 of(Words... words) {
    const u16 high = Op::of(static_cast<u16>(words >> 16)...), low = Op::of(static_cast<u16>(words)...);
    return static_cast<u32>(high) << 16 | low;
  }
};

template <class Op> void add_unary(Table& t, const std::string& name) {
  t[name] = {unary<u16, u16, Op>, 1, Flow::all};
  t[name + "x2"] = {unary<u32, u32, Packed<Op>>, 1, Flow::halves};
}
template <class Op> void add_binary(Table& t, const std::string& name) {
  t[name] = {binary<u16, u16, u16, Op>, 2, Flow::all};
  t[name + "x2"] = {binary<u32, u32, u32, Packed<Op>>, 2, Flow::halves};
}
template <class Op> void add_ternary(Table& t, const std::string& name) {
  t[name] = {ternary<u16, u16, u16, u16, Op>, 3, Flow::all};
  t[name + "x2"] = {ternary<u32, u32, u32, u32, Packed<Op>>, 3, Flow::halves};
}

template <class K> void add_format(Table& t, const std::string& type) {
  add_binary<Add<K>>(t, "add.rn." + type);
  add_binary<Subtract<K>>(t, "sub.rn." + type);
  add_binary<Multiply<K>>(t, "mul.rn." + type);
  add_ternary<MultiplyAdd<K>>(t, "fma.rn." + type);
  add_ternary<RectifiedMultiplyAdd<K>>(t, "fma.rn.relu." + type);
  add_binary<Minimum<K>>(t, "min." + type);
  add_binary<Maximum<K>>(t, "max." + type);
  add_binary<MinimumNaN<K>>(t, "min.NaN." + type);
  add_binary<MaximumNaN<K>>(t, "max.NaN." + type);
  add_unary<Negate<K>>(t, "neg." + type);
  add_unary<Absolute<K>>(t, "abs." + type);
  add_unary<Tanh<K>>(t, "tanh.approx." + type);
}

}  // namespace

void add_halves(Table& t) {
  add_format<HalfFormat>(t, "f16");
  add_format<BfloatFormat>(t, "bf16");
  add_unary<Exp2<HalfFormat>>(t, "ex2.approx.f16");
  add_unary<Exp2<BfloatFormat>>(t, "ex2.approx.ftz.bf16");
}

}  // namespace ptx
