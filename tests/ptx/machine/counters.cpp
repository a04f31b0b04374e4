// What a memory access of a warp costs: sectors of 32 bytes of global memory, passes over the banks of shared memory.
#include <algorithm>

#include "machine.h"

namespace ptx {

void count_sectors(Machine& m, s32 at, const u64* address, u32 active, u32 n) {
  u64 sector[LANES * 2];
  int found = 0;
  each(active, [&](int l) {
    sector[found++] = address[l] / 32;
    if (const u64 last = (address[l] + n - 1) / 32; last != address[l] / 32) sector[found++] = last;
  });
  std::sort(sector, sector + found);
  m.counters.sectors[at] += static_cast<u64>(std::unique(sector, sector + found) - sector);
}

// 32 banks of 4 bytes. Lanes are served together as far as 128 bytes go: all of up to 4 bytes each, halves of 8,
// quarters of 16. In each group the bank that holds the most different words decides; without conflicts a group takes
// one pass.
void count_bank_passes(Machine& m, s32 at, const u64* address, u32 active, u32 n) {
  const int together = n <= 4 ? 32 : n == 8 ? 16 : 8;
  for (int from = 0; from < LANES; from += together) {
    const u32 group = active & (together == 32 ? ALL_LANES : ((1u << together) - 1) << from);
    if (!group) continue;
    u64 word[LANES * 8];
    int found = 0;
    each(group, [&](int l) {
      for (u64 x = address[l] / 4; x <= (address[l] + n - 1) / 4; x++) word[found++] = x;
    });
    std::sort(word, word + found);
    const u64* end = std::unique(word, word + found);
    u64 in_bank[32] = {0};
    for (const u64* x = word; x < end; x++) in_bank[*x % 32]++;
    m.counters.passes[at] += *std::max_element(in_bank, in_bank + 32);
    m.counters.sectors[at] += 1;
  }
}

}  // namespace ptx
