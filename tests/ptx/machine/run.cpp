// How a block runs: warps in turn, each until it waits. Lanes of a warp have a pc each; those at the lowest go first,
// so that the ones that parted meet again where their ways do; but at an instruction of the whole warp they let the
// others go first, for these may come from further down.
#include <algorithm>

#include "machine.h"

namespace ptx {

void Machine::find(Kind kind, s32 at, int thread, u64 address, s32 other, int other_thread, s32 other_block) {
  if (is_fatal(kind)) stopped = true;
  const auto [place, is_new] = findings.try_emplace({static_cast<s32>(kind), at, other});
  if (is_new)
    place->second = Finding{static_cast<s32>(kind), at, other, thread, other_thread, block, other_block, 0, address};
  place->second.count++;
}

void Warp::leave(u32 lanes) {
  for (const Copy& c : copies) {
    if (!has(lanes, c.lane)) continue;
    if (c.group < copy_group[c.lane]) machine->find(Kind::unfinished_copy, c.at, thread(c.lane));
    if (machine->checking(CHECK_RACE | CHECK_INIT))
      for (u32 k = 0; k < c.total; k++) machine->shared_shadow[c.destination + k].pending = 0;
  }
  copies.erase(std::remove_if(copies.begin(), copies.end(), [&](const Copy& c) { return has(lanes, c.lane); }),
               copies.end());
  live &= ~lanes;
}

// One instruction of the lanes that are `together`; whether they go on together at `at`. `split`: others wait
// elsewhere.
bool Warp::step(u32& at, u32 together, bool split) {
  Machine& m = *machine;
  const Instruction& i = m.program.code[at];
  u32 active = together;
  if (i.guard >= 0) {
    active &= i.negated ? ~predicate(i.guard) : predicate(i.guard);
    if (m.checking(CHECK_INIT))
      if (const u32 bad = together & ~defined[i.guard / 4]) m.find(Kind::undefined_value, i.index, thread(first(bad)));
  }
  m.counters.threads[at] += static_cast<u64>(count(active));
  m.counters.warps[at] += 1;
  switch (i.control) {
    case Control::next:
      if (active) {
        if (m.checking(CHECK_INIT)) run_checked(*this, i, active);
        else i.run(*this, i, active);
      }
      at++;
      if (!yields) return true;
      hold(together, at);
      return false;
    case Control::warp_barrier:
      epoch++;
      at++;
      return true;
    case Control::branch: {
      if (--m.budget == 0) m.find(Kind::budget, i.index, thread(0));
      const u32 stays = together & ~active;
      if (!split && !m.stopped && (!active || !stays)) {
        at = active ? static_cast<u32>(i.immediate[0]) : at + 1;
        return true;
      }
      hold(active, static_cast<u32>(i.immediate[0]));
      hold(stays, at + 1);
      return false;
    }
    case Control::barrier:
      if (active && active != live) m.find(Kind::diverged, i.index, thread(first(active)));
      each(active, [&](int lane) {
        barrier[lane] = static_cast<s32>(i.immediate[0]);
        barrier_threads[lane] = static_cast<s32>(i.immediate[1]);
      });
      waiting |= active;
      break;
    case Control::exit: leave(active); break;
    case Control::trap:
      if (active) m.find(Kind::trap, i.index, thread(first(active)));
      break;
  }
  hold(together, at + 1);
  return false;
}

bool Warp::meets(u32 at) const {
  const Instruction& i = machine->program.code[at];
  if (i.control == Control::barrier || i.control == Control::warp_barrier) return true;
  switch (i.flow) {
    case Flow::shuffle:
    case Flow::warp:
    case Flow::load_matrix:
    case Flow::store_matrix:
    case Flow::warpgroup: return true;
    default: return false;
  }
}

void Warp::run() {
  while (!machine->stopped) {
    const u32 ready = live & ~waiting;
    if (!ready) return;
    u32 at = ~0u, together = 0;
    each(ready, [&](int lane) {
      if (!meets(pc[lane])) at = std::min(at, pc[lane]);
    });
    if (at == ~0u) each(ready, [&](int lane) { at = std::min(at, pc[lane]); });
    each(ready, [&](int lane) { together |= static_cast<u32>(pc[lane] == at) << lane; });
    const bool split = together != ready;
    const u32 start = at;
    while (step(at, together, split)) {
      if (!split || at == start || !(machine->program.code[at].labelled || meets(at))) continue;
      hold(together, at);  // lanes that wait may be waiting here
      break;
    }
    if (yields) {
      yields = false;
      return;
    }
  }
}

bool Machine::release_barriers(u32 alive) {
  bool released = false;
  for (int id = 0; id < 16; id++) {
    u32 here = 0;
    s32 wanted = -1;
    for (Warp& w : warps)
      each(w.waiting, [&](int lane) {
        if (w.barrier[lane] != id) return;
        here++;
        wanted = w.barrier_threads[lane];
      });
    if (!here || here < (wanted > 0 ? static_cast<u32>(wanted) : alive)) continue;
    for (Warp& w : warps)
      each(w.waiting, [&](int lane) {
        if (w.barrier[lane] == id) w.waiting &= ~(1u << lane);
      });
    epoch++;
    released = true;
  }
  return released;
}

void Machine::run_block(u64 index, const u32* grid) {
  const u64 x = index % grid[0], y = index / grid[0] % grid[1], z = index / grid[0] / grid[1];
  block = static_cast<s32>(index);
  stamp++;
  epoch++;
  std::fill(shared.begin(), shared.end(), 0xff);
  for (Warp& w : warps) {
    const u32 left = n_threads - w.index * LANES;
    w.live = left >= LANES ? ALL_LANES : (1u << left) - 1;
    w.waiting = w.epoch = w.carry = w.read_undefined = w.stores_undefined = w.matrix_group = w.matrix_done = 0;
    w.yields = false;
    w.copies.clear();
    w.accumulators.clear();
    std::fill(w.pc, w.pc + LANES, 0);
    std::fill(w.copy_group, w.copy_group + LANES, 0);
    if (checking(CHECK_INIT)) std::copy(program.defined.begin(), program.defined.end(), w.defined);
    const u32 values[] = {
        0, static_cast<u32>(x), static_cast<u32>(y), static_cast<u32>(z), grid[0], grid[1], grid[2], 0, w.index};
    for (int k = 0; k < 9; k++)
      for (int lane = 0; lane < LANES && program.special[k] >= 0; lane++)
        w.lanes<u32>(program.special[k])[lane] = k == 0   ? static_cast<u32>(w.thread(lane))
                                                 : k == 7 ? static_cast<u32>(lane)
                                                          : values[k];
  }
  const u32 patience = 100000;  // rounds in which all warps wait for mbarriers
  for (u32 idle = 0; !stopped; idle++) {
    const u32 before = epoch;
    for (Warp& w : warps) w.run();
    u32 alive = 0, ready = 0;
    for (Warp& w : warps) {
      w.waiting &= w.live;
      alive += static_cast<u32>(count(w.live));
      ready += static_cast<u32>(count(w.live & ~w.waiting));
    }
    if (!alive || stopped) return;
    const bool released = release_barriers(alive);
    if (released || epoch != before) idle = 0;
    else if (!ready || idle > patience) return find(Kind::deadlock, static_cast<s32>(warps[0].pc[0]), 0);
  }
}

}  // namespace ptx
