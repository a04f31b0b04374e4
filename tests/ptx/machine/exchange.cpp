// Exchange between the lanes of a warp: shuffles, votes, matches, reductions.
#include <algorithm>

#include "table.h"

namespace ptx {
namespace {

enum Shuffle : s64 { UP, DOWN, BUTTERFLY, INDEXED };                // the order of SHUFFLES in control.py
enum Vote : s64 { VOTE_ALL, VOTE_ANY, VOTE_UNIFORM, VOTE_BALLOT };  // the order of VOTES there

// Lanes outside of the member mask, and members that are not here, are findings: what a GPU does then is undefined.
void check_members(Warp& w, const Instruction& i, s32 slot, u32 active) {
  const u32* members = w.lanes<u32>(slot);
  each(active, [&](int l) {
    if (!has(members[l], l)) w.machine->find(Kind::inactive_lane, i.index, w.thread(l), 0, -1, w.thread(l));
    if (const u32 missing = members[l] & ~active & w.live)
      w.machine->find(Kind::inactive_lane, i.index, w.thread(l), 0, -1, w.thread(first(missing)));
  });
}

// operands: result, [whether the source was in range], value, b, c, members; immediates: mode, the predicate is there
void shuffle(Warp& w, const Instruction& i, u32 active) {
  const s64 pair = i.immediate[1];
  const s32* source = i.operand + 1 + pair;
  check_members(w, i, source[3], active);
  const u32 *a = w.lanes<u32>(source[0]), *b = w.lanes<u32>(source[1]), *c = w.lanes<u32>(source[2]);
  u32 result[LANES], in_range = 0;
  each(active, [&](int l) {
    bool valid;
    const int from = shuffle_source(static_cast<int>(i.immediate[0]), l, b[l], c[l], valid);
    if (!has(active, from)) w.machine->find(Kind::inactive_lane, i.index, w.thread(l), 0, -1, w.thread(from));
    result[l] = a[from];
    in_range |= static_cast<u32>(valid) << l;
  });
  each(active, [&](int l) { w.lanes<u32>(i.operand[0])[l] = result[l]; });
  if (pair) assign(w.predicate(i.operand[1]), in_range, active);
}

// operands: result, predicate, members; immediates: mode, the predicate is negated
void vote(Warp& w, const Instruction& i, u32 active) {
  check_members(w, i, i.operand[2], active);
  const u32 yes = active & (i.immediate[1] ? ~w.predicate(i.operand[1]) : w.predicate(i.operand[1]));
  bool result = false;
  switch (static_cast<Vote>(i.immediate[0])) {
    case VOTE_BALLOT: return each(active, [&](int l) { w.lanes<u32>(i.operand[0])[l] = yes; });
    case VOTE_ALL: result = yes == active; break;
    case VOTE_ANY: result = yes != 0; break;
    case VOTE_UNIFORM: result = yes == active || yes == 0; break;
  }
  assign(w.predicate(i.operand[0]), result ? ALL_LANES : 0, active);
}

// operands: lanes of equal values, [whether all are equal], value, members; immediates: "all" mode, the predicate is
// there
template <class T> void match(Warp& w, const Instruction& i, u32 active) {
  const s64 pair = i.immediate[1];
  check_members(w, i, i.operand[2 + pair], active);
  const T* a = w.lanes<T>(i.operand[1 + pair]);
  u32 equal[LANES], all = 0;
  each(active, [&](int l) {
    equal[l] = active & mask_of([=](int k) { return a[k] == a[l]; });
    all |= static_cast<u32>(equal[l] == active) << l;
  });
  each(active, [&](int l) { w.lanes<u32>(i.operand[0])[l] = i.immediate[0] ? (has(all, l) ? active : 0) : equal[l]; });
  if (pair) assign(w.predicate(i.operand[1]), all, active);
}

// operands: result, whether this lane is elected, members
void elect(Warp& w, const Instruction& i, u32 active) {
  check_members(w, i, i.operand[2], active);
  const int leader = first(active);
  each(active, [&](int l) { w.lanes<u32>(i.operand[0])[l] = static_cast<u32>(leader); });
  assign(w.predicate(i.operand[1]), 1u << leader, active);
}

template <class T, class Op>
void reduce(Warp& w, const Instruction& i, u32 active) {  // operands: result, value, members
  check_members(w, i, i.operand[2], active);
  const T* a = w.lanes<T>(i.operand[1]);
  T total = a[first(active)];
  each(active & (active - 1), [&](int l) { total = Op::of(total, a[l]); });
  each(active, [&](int l) { w.lanes<T>(i.operand[0])[l] = total; });
}
struct Sum {
  static u32 of(u32 a, u32 b) { return a + b; }
};
struct Least {
  template <class T> static T of(T a, T b) { return std::min(a, b); }
};
struct Greatest {
  template <class T> static T of(T a, T b) { return std::max(a, b); }
};
struct And {
  static u32 of(u32 a, u32 b) { return a & b; }
};
struct Or {
  static u32 of(u32 a, u32 b) { return a | b; }
};
struct Xor {
  static u32 of(u32 a, u32 b) { return a ^ b; }
};

void active_mask(Warp& w, const Instruction& i, u32 active) {
  each(active, [&](int l) { w.lanes<u32>(i.operand[0])[l] = active; });
}

}  // namespace

int shuffle_source(int mode, int lane, u32 b, u32 c, bool& valid) {
  const int distance = static_cast<int>(b & 31), clamp = static_cast<int>(c & 31),
            segment = static_cast<int>(c >> 8 & 31);
  const int lowest = lane & segment, bound = lowest | (clamp & ~segment);
  int from;
  switch (mode) {
    case UP: from = lane - distance; break;
    case DOWN: from = lane + distance; break;
    case BUTTERFLY: from = lane ^ distance; break;
    default: from = lowest | (distance & ~segment); break;
  }
  valid = mode == UP ? from >= bound : from <= bound;
  return valid ? from : lane;
}

void add_exchange(Table& t) {
  t["shfl"] = {shuffle, 4, Flow::shuffle};
  t["vote"] = {vote, 2, Flow::warp};
  t["match.b32"] = {match<u32>, 2, Flow::warp};
  t["match.b64"] = {match<u64>, 2, Flow::warp};
  t["elect"] = {elect, 1, Flow::all};
  t["activemask"] = {active_mask, 0, Flow::all};
  t["redux.add.u32"] = t["redux.add.s32"] = {reduce<u32, Sum>, 2, Flow::warp};
  t["redux.min.u32"] = {reduce<u32, Least>, 2, Flow::warp};
  t["redux.max.u32"] = {reduce<u32, Greatest>, 2, Flow::warp};
  t["redux.min.s32"] = {reduce<s32, Least>, 2, Flow::warp};
  t["redux.max.s32"] = {reduce<s32, Greatest>, 2, Flow::warp};
  t["redux.and.b32"] = {reduce<u32, And>, 2, Flow::warp};
  t["redux.or.b32"] = {reduce<u32, Or>, 2, Flow::warp};
  t["redux.xor.b32"] = {reduce<u32, Xor>, 2, Flow::warp};
}

}  // namespace ptx
