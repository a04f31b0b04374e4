// mov, and its forms that pack and unpack registers.
#include "table.h"

namespace ptx {
namespace {

template <class T> struct Copied {
  static T of(T a) { return a; }
};

template <class Part, class Whole> void pack(Warp& w, const Instruction& i, u32 active) {
  constexpr int n = sizeof(Whole) / sizeof(Part);
  Whole* d = w.lanes<Whole>(i.operand[0]);
  const Part* part[n];
  for (int k = 0; k < n; k++) part[k] = w.lanes<Part>(i.operand[1 + k]);
  for_lanes(active, [=](int l) {
    Whole x = 0;
    for (int k = 0; k < n; k++) x |= static_cast<Whole>(part[k][l]) << (8 * sizeof(Part) * k);
    d[l] = x;
  });
}
template <class Part, class Whole> void unpack(Warp& w, const Instruction& i, u32 active) {
  constexpr int n = sizeof(Whole) / sizeof(Part);
  const Whole* a = w.lanes<Whole>(i.operand[n]);
  Part* part[n];
  for (int k = 0; k < n; k++) part[k] = w.lanes<Part>(i.operand[k]);
  Whole copy[LANES];  // a part may lie in the slot of the whole
  std::memcpy(copy, a, sizeof copy);
  for_lanes(active, [=](int l) {
    for (int k = 0; k < n; k++) part[k][l] = static_cast<Part>(copy[l] >> (8 * sizeof(Part) * k));
  });
}
void nothing(Warp&, const Instruction&, u32) {}

}  // namespace

void add_moves(Table& t) {
  t["mov.16"] = {unary<u16, u16, Copied<u16>>, 1, Flow::all};
  t["mov.32"] = {unary<u32, u32, Copied<u32>>, 1, Flow::halves};
  t["mov.64"] = {unary<u64, u64, Copied<u64>>, 1, Flow::halves};
  t["pack.16.32"] = {pack<u16, u32>, 2, Flow::pack};
  t["pack.32.64"] = {pack<u32, u64>, 2, Flow::pack};
  t["pack.16.64"] = {pack<u16, u64>, 4, Flow::all};
  t["unpack.16.32"] = {unpack<u16, u32>, 1, Flow::unpack};
  t["unpack.32.64"] = {unpack<u32, u64>, 1, Flow::unpack};
  t["unpack.16.64"] = {unpack<u16, u64>, 1, Flow::all};
  t["nop"] = {nothing, -1, Flow::all};
}

}  // namespace ptx
