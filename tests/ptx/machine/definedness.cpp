// The check of undefined values, which follows them as valgrind does: they may be moved and computed with, but not be
// stored to global memory, be part of an address, or decide a branch. Every register has two masks of lanes, for its
// low and its high half, of which only packed pairs use both.
#include <algorithm>

#include "table.h"

namespace ptx {
namespace {

struct Defined {
  Warp& w;
  const Instruction& i;
  u32 active;

  u32* halves(s32 slot) const { return w.defined + slot / 4; }
  u32 of(int operand) const {
    const u32* half = halves(i.operand[operand]);
    return half[0] & half[1];
  }
  u32 of_all(int from, int to) const {
    u32 lanes = ALL_LANES;
    for (int k = from; k < to; k++) lanes &= of(k);
    return lanes;
  }
  void set(int result, u32 low, u32 high) const {
    u32* half = halves(i.operand[result]);
    assign(half[0], low, active);
    assign(half[1], high, active);
  }
  void set_results(u32 lanes) const {
    for (int k = 0; k < i.n_results; k++) set(k, lanes, lanes);
  }
  void demand(int from, int to) const {
    for (int k = from; k < to; k++)
      if (const u32 bad = active & ~of(k)) w.machine->find(Kind::undefined_value, i.index, w.thread(first(bad)));
  }

  void packed_pairs() const {
    u32 low = ALL_LANES, high = ALL_LANES;
    for (int k = i.n_results; k < i.n_operands; k++) {
      low &= halves(i.operand[k])[0];
      high &= halves(i.operand[k])[1];
    }
    i.run(w, i, active);
    for (int k = 0; k < i.n_results; k++) set(k, low, high);
  }
  void pack() const {
    const u32 low = of(1), high = of(2);
    i.run(w, i, active);
    set(0, low, high);
  }
  void unpack() const {
    const u32 low = halves(i.operand[2])[0], high = halves(i.operand[2])[1];
    i.run(w, i, active);
    set(0, low, low);
    set(1, high, high);
  }
  void select() const {
    const u32 chosen = w.predicate(i.operand[3]), lanes = of(3) & ((chosen & of(1)) | (~chosen & of(2)));
    i.run(w, i, active);
    set_results(lanes);
  }
  // A false predicate decides a conjunction, a true one a disjunction, whatever the other is.
  void connective(u32 deciding) const {
    const u32 a = w.predicate(i.operand[1]) ^ deciding, b = w.predicate(i.operand[2]) ^ deciding;
    const u32 lanes = (of(1) & of(2)) | (of(1) & ~a) | (of(2) & ~b);
    i.run(w, i, active);
    set_results(lanes);
  }
  void load() const {
    demand(i.n_results, i.n_operands);
    i.run(w, i, active);
    set_results(~w.read_undefined);
  }
  void store() const {
    demand(0, 1);
    const u32 values = of_all(1, i.n_operands);
    if (i.immediate[0] == 0) demand(1, i.n_operands);  // to global memory
    else w.stores_undefined = ~values;
    i.run(w, i, active);
  }
  void shuffle() const {
    const s64 pair = i.immediate[1];
    const u32 *b = w.lanes<u32>(i.operand[2 + pair]), *c = w.lanes<u32>(i.operand[3 + pair]);
    const u32 value = of(1 + static_cast<int>(pair)), control = of_all(2 + static_cast<int>(pair), i.n_operands);
    u32 lanes = 0, pulled;
    each(active, [&](int l) {
      bool valid;
      pulled = static_cast<u32>(shuffle_source(static_cast<int>(i.immediate[0]), l, b[l], c[l], valid));
      lanes |= (value >> pulled & 1) << l;
    });
    i.run(w, i, active);
    set(0, lanes & control, lanes & control);
    if (pair) set(1, control, control);
  }
  void whole_warp() const {
    const bool good = !(active & ~of_all(i.n_results, i.n_operands));
    i.run(w, i, active);
    set_results(good ? ALL_LANES : 0);
  }
  void load_matrix() const {
    demand(i.n_results, i.n_operands);
    i.run(w, i, active);
    for (int k = 0; k < i.n_results; k++) {
      const u32 rows = w.read_undefined >> (8 * k) & 255;
      u32 bad = i.immediate[1] && rows ? ALL_LANES : 0;
      each(rows, [&](int row) { bad |= 15u << (4 * row); });
      set(k, ~bad, ~bad);
    }
  }
  void store_matrix() const {
    demand(0, 1);
    for (int k = 1; k < i.n_operands; k++)
      each(active & ~of(k), [&](int l) {
        w.stores_undefined |= i.immediate[1] ? 255u << (8 * (k - 1)) : 1u << (8 * (k - 1) + (l >> 2));
      });
    i.run(w, i, active);
  }

  // wgmma writes its accumulators until it is waited for; until then they may only be accumulated into again.
  // operands: accumulators, A (4 registers or a descriptor), descriptor of B, [scale-d]
  void warpgroup() const {
    const int scale = i.immediate[4] < 0 ? 1 : 0;
    demand(i.n_results, i.n_operands);
    const bool accumulates = scale ? has(w.predicate(i.operand[i.n_operands - 1]), 0) : i.immediate[4] != 0;
    bool good = true;
    if (accumulates)
      for (int k = 0; k < i.n_results; k++) {
        const Accumulator* pending = accumulator(i.operand[k]);
        good &= (pending ? pending->defined[0] & pending->defined[1] : of(k)) == ALL_LANES;
      }
    i.run(w, i, active);
    const u32 lanes = good && !w.read_undefined ? ALL_LANES : 0;
    for (int k = 0; k < i.n_results; k++) {
      if (Accumulator* known = accumulator(i.operand[k])) *known = {i.operand[k], w.matrix_group, {lanes, lanes}};
      else w.accumulators.push_back({i.operand[k], w.matrix_group, {lanes, lanes}});
    }
    set_results(0);
  }
  Accumulator* accumulator(s32 slot) const {
    for (Accumulator& a : w.accumulators)
      if (a.slot == slot) return &a;
    return nullptr;
  }
  void warpgroup_wait() const {
    i.run(w, i, active);
    auto finishes = [&](const Accumulator& a) { return a.group < w.matrix_done; };
    for (const Accumulator& a : w.accumulators)
      if (finishes(a)) std::copy(a.defined, a.defined + 2, halves(a.slot));
    w.accumulators.erase(std::remove_if(w.accumulators.begin(), w.accumulators.end(), finishes), w.accumulators.end());
  }
};

}  // namespace

void run_checked(Warp& w, const Instruction& i, u32 active) {
  const Defined d{w, i, active};
  w.read_undefined = w.stores_undefined = 0;
  switch (i.flow) {
    case Flow::all: {
      const u32 lanes = d.of_all(i.n_results, i.n_operands);
      i.run(w, i, active);
      d.set_results(lanes);
      break;
    }
    case Flow::halves: d.packed_pairs(); break;
    case Flow::pack: d.pack(); break;
    case Flow::unpack: d.unpack(); break;
    case Flow::select: d.select(); break;
    case Flow::conjunction: d.connective(0); break;
    case Flow::disjunction: d.connective(ALL_LANES); break;
    case Flow::load: d.load(); break;
    case Flow::store: d.store(); break;
    case Flow::copy:
      d.demand(0, i.n_operands);
      i.run(w, i, active);
      break;
    case Flow::atomic:
      d.demand(i.n_results, i.n_operands);
      i.run(w, i, active);
      d.set_results(ALL_LANES);
      break;
    case Flow::shuffle: d.shuffle(); break;
    case Flow::warp: d.whole_warp(); break;
    case Flow::load_matrix: d.load_matrix(); break;
    case Flow::store_matrix: d.store_matrix(); break;
    case Flow::warpgroup: d.warpgroup(); break;
    case Flow::warpgroup_wait: d.warpgroup_wait(); break;
  }
  w.read_undefined = w.stores_undefined = 0;
}

}  // namespace ptx
