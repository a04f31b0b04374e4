// setp, selp and predicates.
#include "numbers.h"
#include "table.h"

namespace ptx {
namespace {

template <class A, class Op> void set_predicate(Warp& w, const Instruction& i, u32 active) {
  // immediates: combination with a third predicate (0 none, 1 and, 2 or, 3 xor), it is negated, there are two results
  const s64 combination = i.immediate[0], pair = i.immediate[2];
  const A *a = w.lanes<A>(i.operand[1 + pair]), *b = w.lanes<A>(i.operand[2 + pair]);
  u32 yes = mask_of([=](int l) { return Op::of(a[l], b[l]); }), no = ~yes;
  if (combination) {
    const u32 third = w.predicate(i.operand[3 + pair]) ^ (i.immediate[1] ? ~0u : 0u);
    auto combine = [&](u32 x) { return combination == 1 ? x & third : combination == 2 ? x | third : x ^ third; };
    yes = combine(yes);
    no = combine(no);
  }
  assign(w.predicate(i.operand[0]), yes, active);
  if (pair) assign(w.predicate(i.operand[1]), no, active);
}

#define COMPARE(name, A, ...)                                                \
  {                                                                          \
    struct Op {                                                              \
      static inline bool of(A a, A b) { return __VA_ARGS__; }                \
    };                                                                       \
    t["setp." name "." + type] = Entry{set_predicate<A, Op>, -1, Flow::all}; \
  }

template <class T> void add_integer(Table& t, const std::string& type) {
  COMPARE("eq", T, a == b)
  COMPARE("ne", T, a != b)
  COMPARE("lt", T, a < b)
  COMPARE("le", T, a <= b)
  COMPARE("gt", T, a > b)
  COMPARE("ge", T, a >= b)
  COMPARE("lo", T, a < b)
  COMPARE("ls", T, a <= b)
  COMPARE("hi", T, a > b)
  COMPARE("hs", T, a >= b)
}

struct Plain {
  template <class T> static T of(T x) { return x; }
};
struct Flushed {
  static f32 of(f32 x) { return flush(x); }
};
template <class K> struct Widened {
  static f32 of(u16 x) { return K::wide(x); }
};

// `View` is what a register of type A is compared as. The u-forms are true where an operand is NaN.
template <class A, class View> void add_floating(Table& t, const std::string& type) {
  COMPARE("eq", A, View::of(a) == View::of(b))
  COMPARE("lt", A, View::of(a) < View::of(b))
  COMPARE("le", A, View::of(a) <= View::of(b))
  COMPARE("gt", A, View::of(a) > View::of(b))
  COMPARE("ge", A, View::of(a) >= View::of(b))
  COMPARE("ne", A, View::of(a) < View::of(b) || View::of(a) > View::of(b))
  COMPARE("equ", A, !(View::of(a) < View::of(b) || View::of(a) > View::of(b)))
  COMPARE("neu", A, View::of(a) != View::of(b))
  COMPARE("ltu", A, !(View::of(a) >= View::of(b)))
  COMPARE("leu", A, !(View::of(a) > View::of(b)))
  COMPARE("gtu", A, !(View::of(a) <= View::of(b)))
  COMPARE("geu", A, !(View::of(a) < View::of(b)))
  COMPARE("num", A, View::of(a) == View::of(a) && View::of(b) == View::of(b))
  COMPARE("nan", A, View::of(a) != View::of(a) || View::of(b) != View::of(b))
}

template <class T> void select(Warp& w, const Instruction& i, u32 active) {
  T* d = w.lanes<T>(i.operand[0]);
  const T *a = w.lanes<T>(i.operand[1]), *b = w.lanes<T>(i.operand[2]);
  const u32 chosen = w.predicate(i.operand[3]);
  for_lanes(active, [=](int l) { d[l] = has(chosen, l) ? a[l] : b[l]; });
}

template <class Op> void combine_predicates(Warp& w, const Instruction& i, u32 active) {
  assign(w.predicate(i.operand[0]), Op::of(w.predicate(i.operand[1]), w.predicate(i.operand[2])), active);
}
struct And {
  static u32 of(u32 a, u32 b) { return a & b; }
};
struct Or {
  static u32 of(u32 a, u32 b) { return a | b; }
};
struct Xor {
  static u32 of(u32 a, u32 b) { return a ^ b; }
};

void move_predicate(Warp& w, const Instruction& i, u32 active) {
  assign(w.predicate(i.operand[0]), w.predicate(i.operand[1]), active);
}
void negate_predicate(Warp& w, const Instruction& i, u32 active) {
  assign(w.predicate(i.operand[0]), ~w.predicate(i.operand[1]), active);
}
void set_constant_predicate(Warp& w, const Instruction& i, u32 active) {
  assign(w.predicate(i.operand[0]), i.immediate[0] ? ALL_LANES : 0, active);
}

}  // namespace

void add_comparisons(Table& t) {
  add_integer<u16>(t, "u16");
  add_integer<u32>(t, "u32");
  add_integer<u64>(t, "u64");
  add_integer<s16>(t, "s16");
  add_integer<s32>(t, "s32");
  add_integer<s64>(t, "s64");
  add_integer<u16>(t, "b16");
  add_integer<u32>(t, "b32");
  add_integer<u64>(t, "b64");
  add_floating<f32, Plain>(t, "f32");
  add_floating<f32, Flushed>(t, "ftz.f32");
  add_floating<f64, Plain>(t, "f64");
  add_floating<u16, Widened<HalfFormat>>(t, "f16");
  add_floating<u16, Widened<BfloatFormat>>(t, "bf16");
  t["selp.16"] = {select<u16>, 3, Flow::select};
  t["selp.32"] = {select<u32>, 3, Flow::select};
  t["selp.64"] = {select<u64>, 3, Flow::select};
  t["and.pred"] = {combine_predicates<And>, 2, Flow::conjunction};
  t["or.pred"] = {combine_predicates<Or>, 2, Flow::disjunction};
  t["xor.pred"] = {combine_predicates<Xor>, 2, Flow::all};
  t["mov.pred"] = {move_predicate, 1, Flow::all};
  t["not.pred"] = {negate_predicate, 1, Flow::all};
  t["set.pred"] = {set_constant_predicate, 0, Flow::all};
}

}  // namespace ptx
