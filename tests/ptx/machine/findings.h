// What the checks report. A fatal finding is one at which a GPU would fault or hang; it ends the launch.
#pragma once
#include "types.h"

#define PTX_FINDINGS(F)                                                  \
  F(global_bounds, true, "global access outside every argument")         \
  F(view_bounds, false, "access outside the tensor, inside its storage") \
  F(shared_bounds, true, "shared access out of bounds")                  \
  F(local_bounds, true, "local access out of bounds")                    \
  F(alignment, true, "misaligned access")                                \
  F(shared_race, false, "shared race between warps")                     \
  F(warp_race, false, "shared race inside a warp")                       \
  F(pending_copy, false, "access to bytes of a pending cp.async")        \
  F(unfinished_copy, false, "cp.async never waited for")                 \
  F(pending_matrix, false, "write to bytes that a wgmma may still read") \
  F(block_race, false, "global race inside a block")                     \
  F(grid_race, false, "global race between blocks")                      \
  F(undefined_value, false, "use of an undefined value")                 \
  F(inactive_lane, false, "shuffle from an inactive lane")               \
  F(diverged, true, "collective instruction of a diverged warp")         \
  F(descriptor, true, "matrix descriptor differs between lanes")         \
  F(barrier_state, true, "mbarrier whose count is exceeded or not set")  \
  F(deadlock, true, "deadlock")                                          \
  F(trap, true, "trap")                                                  \
  F(budget, true, "too many branches")

namespace ptx {

enum class Kind : s32 {
#define PTX_KIND(name, fatal, text) name,
  PTX_FINDINGS(PTX_KIND)
#undef PTX_KIND
      n_kinds
};

bool is_fatal(Kind kind);
const char* text_of(Kind kind);

struct Finding {
  s32 kind, at, other;       // kind, index of the instruction, index of the other instruction or -1
  s32 thread, other_thread;  // inside the block; -1 where there is no other
  s32 block, other_block;    // linear index of the block
  u32 count;                 // how often (bytes or lanes)
  u64 address;
};

}  // namespace ptx
