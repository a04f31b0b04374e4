// Races, byte by byte. In shared memory two accesses of different threads conflict, unless both read, where no barrier
// of the block lies between them (other warps) or no bar.warp.sync (the same warp). In global memory they conflict
// inside a block without a barrier between them, and between blocks always. A store of the value that is already there
// is no conflict in shared memory: lanes that hold copies of one value may all store it.
#include "machine.h"

namespace ptx {
namespace {

constexpr u32 SEVERAL = 0x7fffffff;  // lanes of one warp have read it

struct SharedAccess {
  Warp& w;
  s32 at;
  u32 thread;
  bool write, changes;  // changes: a write of another value than the one that is there

  void against_write(const SharedByte& s, u64 address) const {
    const Machine& m = *w.machine;
    if (s.write_epoch != m.epoch || s.writer == thread || (write && !changes)) return;
    if (s.writer / LANES != thread / LANES) report(Kind::shared_race, s.write_at, s.writer, address);
    else if (s.write_warp_epoch == w.epoch) report(Kind::warp_race, s.write_at, s.writer, address);
  }
  void against_reads(const SharedByte& s, u64 address) const {
    if (s.read_epoch != w.machine->epoch || !changes) return;
    if (s.reading_warps & ~(1u << w.index)) report(Kind::shared_race, s.read_at, ~0u, address);
    else if (s.read_warp_epoch == w.epoch && s.reader != thread) report(Kind::warp_race, s.read_at, s.reader, address);
  }
  void against_matrix(const SharedByte& s, u64 address) const {
    const Machine& m = *w.machine;
    if (s.matrix_stamp != m.stamp || s.matrix_group < m.warps[s.matrix_warp].matrix_done) return;
    report(Kind::pending_matrix, s.matrix_at, s.matrix_warp * LANES, address);
  }
  void report(Kind kind, u32 other, u32 other_thread, u64 address) const {
    const int known = other_thread > SEVERAL - 1 ? -1 : static_cast<int>(other_thread);
    w.machine->find(kind, at, static_cast<int>(thread), address, static_cast<s32>(other), known);
  }
};

void remember_read(SharedByte& s, const Warp& w, s32 at, u32 thread) {
  const u32 epoch = w.machine->epoch;
  if (s.read_epoch != epoch) {
    s.read_epoch = epoch;
    s.reading_warps = 0;
    s.reader = thread;
  } else if (s.read_warp_epoch != w.epoch || (s.reader != SEVERAL && s.reader / LANES != thread / LANES)) {
    s.reader = thread;
  } else if (s.reader != thread) {
    s.reader = SEVERAL;
  }
  s.read_warp_epoch = w.epoch;
  s.reading_warps |= 1u << w.index;
  s.read_at = static_cast<u32>(at);
}

}  // namespace

void touch_shared(Warp& w, s32 at, u32 offset, u32 n, int thread, bool write, const u8* value, bool async) {
  Machine& m = *w.machine;
  const u32 lane = 1u << (thread % LANES);
  for (u32 k = 0; k < n; k++) {
    SharedByte& s = m.shared_shadow[offset + k];
    if (m.checking(CHECK_RACE)) {
      const u64 address = SHARED_BASE + offset + k;
      if (s.pending)
        m.find(Kind::pending_copy, at, thread, address, static_cast<s32>(s.pending - 1), static_cast<int>(s.writer));
      const bool changes = write && !(value && m.shared[offset + k] == value[k]);
      const SharedAccess access{w, at, static_cast<u32>(thread), write, changes};
      access.against_write(s, address);
      if (write) {
        access.against_reads(s, address);
        if (changes) access.against_matrix(s, address);
        s.writer = static_cast<u32>(thread);
        s.write_epoch = m.epoch;
        s.write_warp_epoch = w.epoch;
        s.write_at = static_cast<u32>(at);
        if (async) s.pending = static_cast<u32>(at) + 1;
      } else {
        remember_read(s, w, at, static_cast<u32>(thread));
      }
    }
    if (write) s.defined = w.stores_undefined & lane ? 0 : m.stamp;
    else if (s.defined != m.stamp) w.read_undefined |= lane;
  }
}

void read_by_matrix(Warp& w, s32 at, u32 offset, u32 n) {
  for (u32 k = 0; k < n; k++) {
    SharedByte& s = w.machine->shared_shadow[offset + k];
    s.matrix_stamp = w.machine->stamp;
    s.matrix_warp = w.index;
    s.matrix_group = w.matrix_group;
    s.matrix_at = static_cast<u32>(at);
  }
}

void touch_global(Machine& m, Region& region, u64 address, u32 n, int thread, s32 at, bool write) {
  if (!region.shadow) return;
  const u32 me = static_cast<u32>(m.block) + 1, self = static_cast<u32>(thread);
  for (u32 k = 0; k < n; k++) {
    GlobalByte& s = region.shadow.get()[address - region.base + k];
    auto report = [&](Kind kind, int other_thread, u32 other_block) {
      m.find(kind, at, thread, address + k, -1, other_thread,
             other_block == ALL_LANES ? -1 : static_cast<s32>(other_block) - 1);
    };
    if (s.writer_block && s.writer_block != me)
      report(Kind::grid_race, static_cast<int>(s.writer_thread), s.writer_block);
    else if (s.writer_block == me && s.writer_thread != self && s.writer_epoch == m.epoch)
      report(Kind::block_race, static_cast<int>(s.writer_thread), me);
    if (write) {
      if (s.reader_block && s.reader_block != me) report(Kind::grid_race, -1, s.reader_block);
      s = GlobalByte{me, self, m.epoch, s.reader_block};
    } else {
      s.reader_block = s.reader_block == 0 || s.reader_block == me ? me : ALL_LANES;
    }
  }
}

}  // namespace ptx
