// The machine: programs, warps of 32 lanes, blocks of warps, and what the checks remember.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "findings.h"
#include "types.h"

namespace ptx {

struct Machine;
struct Warp;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&, u32 active);

// How control passes on (the order is that of `Control` in program.py).
enum class Control : u8 { next, branch, exit, barrier, warp_barrier, trap };

// How definedness passes from sources to results; see definedness.cpp.
enum class Flow : u8 {
  all,
  halves,
  pack,
  unpack,
  select,
  conjunction,
  disjunction,
  load,
  store,
  copy,
  atomic,
  shuffle,
  warp,
  load_matrix,
  store_matrix,
  warpgroup,
  warpgroup_wait
};

enum Check : u32 { CHECK_RACE = 1, CHECK_INIT = 2, CHECK_GRACE = 4, CHECK_PROFILE = 8 };

struct Instruction {
  Handler run;
  Flow flow;
  Control control;
  bool negated, labelled;  // the guard is negated; another instruction may branch here
  s32 guard;               // slot of the guard predicate, or -1
  s32 index;
  s32 n_results, n_operands;
  const s32* operand;  // slots: results, then sources
  const s64* immediate;
};

struct Program {
  std::vector<Instruction> code;
  std::vector<s32> operands;
  std::vector<s64> immediates;
  std::vector<u8> registers;  // their first contents: constants, and ones elsewhere
  std::vector<u32> defined;   // see Warp::defined
  s32 special[9];             // slots of the special registers, or -1; order of SPECIAL_REGISTERS in program.py
};

// Handlers by name. `sources` is how many source operands there must be, or -1 where translation has seen to it.
struct Entry {
  Handler run;
  int sources;
  Flow flow;
};
using Table = std::unordered_map<std::string, Entry>;
const Table& table();

constexpr u32 SHARED_BASE = 1024;                                       // address 0 of shared memory is never valid
constexpr u64 GENERIC_SHARED = 1ull << 60, GENERIC_LOCAL = 2ull << 60;  // generic addresses of the two windows

// One byte of shared memory, as the race and definedness checks see it.
struct SharedByte {
  u32 writer, write_epoch, write_warp_epoch, write_at;
  u32 reader, read_epoch, read_warp_epoch, read_at, reading_warps;
  u32 defined;  // stamp of the block that wrote it, 0 where its value is undefined
  u32 pending;  // 1 + index of the cp.async that is to write it
  u32 matrix_stamp, matrix_warp, matrix_group, matrix_at;  // the block, warp, group and index of a wgmma that reads it
};

// One byte of global memory: last writer, and the block (+ 1) of its readers, ALL_LANES where there are several.
struct GlobalByte {
  u32 writer_block, writer_thread, writer_epoch, reader_block;
};

struct Region {  // a storage that the arguments point into, and the span that they cover
  u64 base, size, low, high;
  std::unique_ptr<GlobalByte, void (*)(void*)> shadow{nullptr, nullptr};
  bool holds(u64 address, u64 n) const { return address >= base && address + n <= base + size; }
};

struct Copy {  // a cp.async that has not been waited for
  s32 lane, at;
  u32 group, destination, bytes, total;
  u64 source;
};

struct Accumulator {  // a register that a wgmma is still writing
  s32 slot;
  u32 group, defined[2];
};

struct Warp {
  Machine* machine;
  u32 index;
  u8* registers;      // a slot is the byte offset of 32 consecutive lanes; predicates are one u32
  u32* defined;       // at slot / 4: lanes whose low half is defined, then those whose high half is
  u32 live, waiting;  // lanes that have not exited; lanes at a barrier
  u32 pc[LANES];
  s32 barrier[LANES], barrier_threads[LANES];
  u32 epoch;  // how many bar.warp.sync it has passed
  u32 carry;
  bool yields;  // a wait failed: let the other warps run
  std::vector<Copy> copies;
  u32 copy_group[LANES];
  std::vector<Accumulator> accumulators;
  u32 matrix_group, matrix_done;         // groups of wgmma that it has committed, and of them those waited for
  u32 read_undefined, stores_undefined;  // lanes; set by the memory for the checks, and by the checks for the memory

  template <class T> T* lanes(s32 slot) { return reinterpret_cast<T*>(registers + slot); }
  u32& predicate(s32 slot) { return *lanes<u32>(slot); }
  int thread(int lane) const { return static_cast<int>(index) * LANES + lane; }
  void run();

 private:
  void hold(u32 which, u32 at) {
    each(which, [&](int lane) { pc[lane] = at; });
  }
  bool meets(u32 at) const;  // whether lanes wait there for the rest of their warp
  bool step(u32& at, u32 together, bool split);
  void leave(u32 lanes);
};

struct Counters {         // per instruction
  u64 *threads, *warps;   // active lanes; issued warp instructions
  u64 *sectors, *passes;  // global: sectors moved; shared: wavefronts at best, and passes over the banks
};

struct Machine {
  const Program& program;
  u32 n_threads = 0, n_warps = 0, shared_bytes = 0, local_bytes = 0, checks = 0;
  const u8* parameters = nullptr;
  std::vector<u8> shared, local;
  std::vector<SharedByte> shared_shadow;
  std::vector<Region> regions;
  size_t last_region = 0;
  std::vector<Warp> warps;
  std::map<std::tuple<s32, s32, s32>, Finding> findings;
  Counters counters{};
  u32 epoch = 1;  // how many barriers the block has passed; goes on from block to block
  u32 stamp = 0;  // 1 + how many blocks have run before
  s32 block = 0;
  u64 budget = 0;  // branches that are left
  bool stopped = false;

  explicit Machine(const Program& p) : program(p) {}
  void find(Kind, s32 at, int thread, u64 address = 0, s32 other = -1, int other_thread = -1, s32 other_block = -1);
  bool checking(u32 which) const { return checks & which; }
  Region* region(u64 address, u64 n);
  void run_block(u64 index, const u32* grid);

 private:
  bool release_barriers(u32 alive);
};

void run_checked(Warp&, const Instruction&, u32 active);  // definedness.cpp
void require_whole_warp(Warp&, const Instruction&, u32 active);
int shuffle_source(int mode, int lane, u32 b, u32 c, bool& valid);

// memory.cpp: host memory of `n` bytes of shared memory, or null; and the addresses of all lanes
u8* shared_place(Warp&, s32 at, u64 address, u32 n, u32 alignment, int lane, bool write, const u8* value);
void lane_addresses(Warp&, s32 slot, s64 address_bytes, s64 offset, u64* address);

// races.cpp
void touch_shared(Warp&, s32 at, u32 offset, u32 n, int thread, bool write, const u8* value, bool async = false);
void read_by_matrix(Warp&, s32 at, u32 offset, u32 n);  // by a wgmma, until it is waited for
void touch_global(Machine&, Region&, u64 address, u32 n, int thread, s32 at, bool write);

// counters.cpp; `address` of every lane
void count_sectors(Machine&, s32 at, const u64* address, u32 active, u32 n);
void count_bank_passes(Machine&, s32 at, const u64* address, u32 active, u32 n);

}  // namespace ptx
