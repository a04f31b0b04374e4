// Arithmetic rounded toward zero, down or up: the host's own, in the rounding mode asked for. This file alone is
// compiled with -frounding-math. Operands come from memory and results go there between two calls that no compiler
// sees into, so that nothing moves out of the mode.
#include <cfenv>

#include "numbers.h"
#include "table.h"

namespace ptx {
namespace {

class RoundingMode {
 public:
  explicit RoundingMode(int mode) : before_(std::fegetround()) { std::fesetround(mode); }
  ~RoundingMode() { std::fesetround(before_); }

 private:
  int before_;
};

template <class T, class Op, int MODE, bool FTZ, bool SAT> void apply(Warp& w, const Instruction& i, u32 active) {
  auto in = [](T x) { return FTZ ? static_cast<T>(flush(static_cast<f32>(x))) : x; };
  const RoundingMode scope(MODE);
  const int n = i.n_operands - 1;
  each(active, [&](int lane) {
    const T a = in(w.lanes<T>(i.operand[1])[lane]);
    const T b = n > 1 ? in(w.lanes<T>(i.operand[2])[lane]) : T(0),
            c = n > 2 ? in(w.lanes<T>(i.operand[3])[lane]) : T(0);
    T result = canonical(Op::of(a, b, c));
    if (FTZ) result = in(result);
    if (SAT) result = static_cast<T>(saturate(static_cast<f32>(result)));
    w.lanes<T>(i.operand[0])[lane] = result;
  });
}

struct Add {
  template <class T> static T of(T a, T b, T) { return a + b; }
};
struct Subtract {
  template <class T> static T of(T a, T b, T) { return a - b; }
};
struct Multiply {
  template <class T> static T of(T a, T b, T) { return a * b; }
};
struct Divide {
  template <class T> static T of(T a, T b, T) { return a / b; }
};
struct MultiplyAdd {
  template <class T> static T of(T a, T b, T c) { return std::fma(a, b, c); }
};
struct SquareRoot {
  template <class T> static T of(T a, T, T) { return std::sqrt(a); }
};
struct Reciprocal {
  template <class T> static T of(T a, T, T) { return T(1) / a; }
};

template <class Op, int MODE> void add_operation(Table& t, const std::string& name, int sources, bool saturates) {
  t[name + ".f32"] = {apply<f32, Op, MODE, false, false>, sources, Flow::all};
  t[name + ".ftz.f32"] = {apply<f32, Op, MODE, true, false>, sources, Flow::all};
  if (saturates) {
    t[name + ".sat.f32"] = {apply<f32, Op, MODE, false, true>, sources, Flow::all};
    t[name + ".ftz.sat.f32"] = {apply<f32, Op, MODE, true, true>, sources, Flow::all};
  }
  t[name + ".f64"] = {apply<f64, Op, MODE, false, false>, sources, Flow::all};
}

template <int MODE> void add_mode(Table& t, const std::string& mode) {
  add_operation<Add, MODE>(t, "add" + mode, 2, true);
  add_operation<Subtract, MODE>(t, "sub" + mode, 2, true);
  add_operation<Multiply, MODE>(t, "mul" + mode, 2, true);
  add_operation<MultiplyAdd, MODE>(t, "fma" + mode, 3, true);
  add_operation<Divide, MODE>(t, "div" + mode, 2, false);
  add_operation<SquareRoot, MODE>(t, "sqrt" + mode, 1, false);
  add_operation<Reciprocal, MODE>(t, "rcp" + mode, 1, false);
}

}  // namespace

void add_directed(Table& t) {
  add_mode<FE_TOWARDZERO>(t, ".rz");
  add_mode<FE_DOWNWARD>(t, ".rm");
  add_mode<FE_UPWARD>(t, ".rp");
}

}  // namespace ptx
