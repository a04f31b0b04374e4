// cp.async and mbarriers. A copy arrives when it is waited for, as late as it may; until then its bytes are pending.
#include <algorithm>

#include "table.h"

namespace ptx {
namespace {

// operands: shared address, global address, [source bytes]
// immediates: bytes, offset and width of the shared address, of the global address, whether the source size is given
void copy(Warp& w, const Instruction& i, u32 active) {
  Machine& m = *w.machine;
  const u32 total = static_cast<u32>(i.immediate[0]);
  u64 to[LANES], from[LANES];
  lane_addresses(w, i.operand[0], i.immediate[2], i.immediate[1], to);
  lane_addresses(w, i.operand[1], i.immediate[4], i.immediate[3], from);
  const auto source_bytes = [&](int lane) { return i.immediate[5] ? w.lanes<u32>(i.operand[2])[lane] : total; };
  if (m.checking(CHECK_PROFILE)) {  // lanes that only write zeros read nothing
    u32 reading = 0;
    each(active, [&](int lane) {
      m.counters.passes[i.index] += source_bytes(lane);
      if (source_bytes(lane)) reading |= 1u << lane;
    });
    count_sectors(m, i.index, from, reading, total);
  }
  each(active, [&](int lane) {
    const u32 n = source_bytes(lane);
    const int thread = w.thread(lane);
    const u64 offset = to[lane] - SHARED_BASE;
    if (to[lane] % total) m.find(Kind::alignment, i.index, thread, to[lane]);
    if (n && from[lane] % total) m.find(Kind::alignment, i.index, thread, from[lane]);
    if (to[lane] < SHARED_BASE || offset + total > m.shared_bytes)
      return m.find(Kind::shared_bounds, i.index, thread, to[lane]);
    if (n) {
      Region* region = m.region(from[lane], n);
      if (!region || n > total) return m.find(Kind::global_bounds, i.index, thread, from[lane]);
      if (from[lane] < region->low || from[lane] + n > region->high)
        m.find(Kind::view_bounds, i.index, thread, from[lane]);
      if (m.checking(CHECK_GRACE)) touch_global(m, *region, from[lane], n, thread, i.index, false);
    }
    if (m.checking(CHECK_RACE | CHECK_INIT))
      touch_shared(w, i.index, static_cast<u32>(offset), total, thread, true, nullptr, true);
    w.copies.push_back(Copy{lane, i.index, w.copy_group[lane], static_cast<u32>(offset), n, total, from[lane]});
  });
}

void arrive_in_memory(Warp& w, const Copy& c) {
  Machine& m = *w.machine;
  u8* to = m.shared.data() + c.destination;
  std::memcpy(to, reinterpret_cast<const void*>(c.source), c.bytes);
  std::memset(to + c.bytes, 0, c.total - c.bytes);
  if (!m.checking(CHECK_RACE | CHECK_INIT)) return;
  for (u32 k = 0; k < c.total; k++) {
    SharedByte& s = m.shared_shadow[c.destination + k];
    s.pending = 0;
    s.writer = static_cast<u32>(w.thread(c.lane));
    s.write_epoch = m.epoch;
    s.write_warp_epoch = w.epoch;
    s.write_at = static_cast<u32>(c.at);
    s.defined = m.stamp;
  }
}

void finish_copies(Warp& w, u32 lanes, u32 groups_that_stay) {
  auto finishes = [&](const Copy& c) {
    return has(lanes, c.lane) && c.group + groups_that_stay < w.copy_group[c.lane];
  };
  for (const Copy& c : w.copies)
    if (finishes(c)) arrive_in_memory(w, c);
  w.copies.erase(std::remove_if(w.copies.begin(), w.copies.end(), finishes), w.copies.end());
}

void commit(Warp& w, const Instruction&, u32 active) {
  each(active, [&](int lane) { w.copy_group[lane]++; });
}
// immediate: how many of the latest groups may stay, or -1 for none, not even what is not committed
void wait(Warp& w, const Instruction& i, u32 active) {
  if (i.immediate[0] < 0) commit(w, i, active);
  finish_copies(w, active, i.immediate[0] < 0 ? 0 : static_cast<u32>(i.immediate[0]));
}

// ---------------------------------------------------------------- mbarriers
// The object, opaque to programs: 20 bits of expected arrivals, 20 of pending ones, 23 of pending bytes, the phase.
struct Barrier {
  u32 expected, pending;
  s32 bytes;
  u32 phase;
};
constexpr u32 MOST = (1u << 20) - 1;

Barrier unpacked(u64 x) {
  return {static_cast<u32>(x & MOST), static_cast<u32>(x >> 20 & MOST),
          static_cast<s32>(static_cast<s64>(x << 1) >> 41), static_cast<u32>(x >> 63)};
}
u64 packed(const Barrier& b) {
  return b.expected | static_cast<u64>(b.pending) << 20 | (static_cast<u64>(b.bytes) & 0x7fffff) << 40 |
         static_cast<u64>(b.phase) << 63;
}

void complete_phase(Machine& m, Barrier& b) {
  if (b.pending || b.bytes) return;
  b.pending = b.expected;
  b.phase ^= 1;
  m.epoch++;  // what came before it is ordered before what follows
}

// One lane's view of the barrier that an instruction addresses: immediates 0 and 1 are offset and width. Memory that
// was never written is all ones, and what mbarrier.inval leaves expects nobody.
template <class F> void on_barrier(Warp& w, const Instruction& i, s32 slot, u32 active, F&& f, bool is_set = true) {
  Machine& m = *w.machine;
  u64 address[LANES];
  lane_addresses(w, slot, i.immediate[1], i.immediate[0], address);
  each(active, [&](int lane) {
    const u64 inside = address[lane] >> 60 == GENERIC_SHARED >> 60 ? address[lane] & 0xffffffffu : address[lane];
    const u32 checks = m.checks;
    m.checks &= ~CHECK_RACE;  // mbarrier operations are atomic
    u8* place = shared_place(w, i.index, inside, 8, 8, lane, true, nullptr);
    m.checks = checks;
    if (!place) return;
    u64 word;
    std::memcpy(&word, place, sizeof word);
    Barrier b = unpacked(word);
    if (is_set && (b.expected == 0 || word == ~0ull))
      return m.find(Kind::barrier_state, i.index, w.thread(lane), address[lane]);
    f(lane, b);
    word = packed(b);
    std::memcpy(place, &word, sizeof word);
  });
}
void arrive(Warp& w, const Instruction& i, int lane, Barrier& b, u32 n) {
  if (n > b.pending) return w.machine->find(Kind::barrier_state, i.index, w.thread(lane), b.pending);
  b.pending -= n;
  complete_phase(*w.machine, b);
}
u32 value(Warp& w, const Instruction& i, int operand, int lane) { return w.lanes<u32>(i.operand[operand])[lane]; }

void barrier_init(Warp& w, const Instruction& i, u32 active) {  // operands: address, count
  on_barrier(
      w, i, i.operand[0], active,
      [&](int lane, Barrier& b) {
        const u32 n = value(w, i, 1, lane);
        if (n == 0 || n > MOST) w.machine->find(Kind::barrier_state, i.index, w.thread(lane), n);
        b = Barrier{n, n, 0, 0};
      },
      false);
}
void barrier_invalidate(Warp& w, const Instruction& i, u32 active) {
  on_barrier(w, i, i.operand[0], active, [&](int, Barrier& b) { b = Barrier{0, 0, 0, 0}; }, false);
}
// operands: state, address, count or bytes; immediate 2: the operand is bytes that are to come
void barrier_arrive(Warp& w, const Instruction& i, u32 active) {
  on_barrier(w, i, i.operand[1], active, [&](int lane, Barrier& b) {
    w.lanes<u64>(i.operand[0])[lane] = static_cast<u64>(b.phase) << 63;
    const u32 n = value(w, i, 2, lane);
    if (i.immediate[2]) b.bytes += static_cast<s32>(n);
    arrive(w, i, lane, b, i.immediate[2] ? 1 : n);
  });
}
// operands: address, bytes; immediate 2: +1 to expect, -1 to complete
void barrier_bytes(Warp& w, const Instruction& i, u32 active) {
  on_barrier(w, i, i.operand[0], active, [&](int lane, Barrier& b) {
    b.bytes += static_cast<s32>(i.immediate[2]) * static_cast<s32>(value(w, i, 1, lane));
    if (i.immediate[2] < 0) complete_phase(*w.machine, b);
  });
}
// operands: predicate, address, state or parity; immediates 2, 3: by parity, whether the warp may sleep meanwhile
void barrier_wait(Warp& w, const Instruction& i, u32 active) {
  u32 done = 0;
  on_barrier(w, i, i.operand[1], active, [&](int lane, Barrier& b) {
    const u32 phase =
        i.immediate[2] ? value(w, i, 2, lane) & 1 : static_cast<u32>(w.lanes<u64>(i.operand[2])[lane] >> 63);
    done |= static_cast<u32>(b.phase != phase) << lane;
  });
  assign(w.predicate(i.operand[0]), done, active);
  if (active & ~done) w.yields = true;
}
// cp.async.mbarrier.arrive: an arrival once the lane's copies are there. immediate 2: it is counted in `expected`
void copies_arrive(Warp& w, const Instruction& i, u32 active) {
  commit(w, i, active);
  finish_copies(w, active, 0);
  on_barrier(w, i, i.operand[0], active, [&](int lane, Barrier& b) {
    if (!i.immediate[2]) b.pending++;
    arrive(w, i, lane, b, 1);
  });
}

}  // namespace

void add_async(Table& t) {
  t["cp.async"] = {copy, -1, Flow::copy};
  t["cp.async.commit_group"] = {commit, 0, Flow::all};
  t["cp.async.wait_group"] = {wait, 0, Flow::all};
  t["mbarrier.init"] = {barrier_init, 2, Flow::copy};
  t["mbarrier.inval"] = {barrier_invalidate, 1, Flow::copy};
  t["mbarrier.arrive"] = {barrier_arrive, 2, Flow::atomic};
  t["mbarrier.bytes"] = {barrier_bytes, 2, Flow::copy};
  t["mbarrier.wait"] = {barrier_wait, 2, Flow::atomic};
  t["cp.async.mbarrier.arrive"] = {copies_arrive, 1, Flow::copy};
}

}  // namespace ptx
