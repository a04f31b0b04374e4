// What Python calls, and the table of all instructions.
#include <cstdlib>

#include "numbers.h"
#include "table.h"

namespace ptx {

bool is_fatal(Kind kind) {
  static const bool fatal[] = {
#define PTX_FATAL(name, fatal, text) fatal,
      PTX_FINDINGS(PTX_FATAL)
#undef PTX_FATAL
  };
  return fatal[static_cast<int>(kind)];
}
const char* text_of(Kind kind) {
  static const char* const texts[] = {
#define PTX_TEXT(name, fatal, text) text,
      PTX_FINDINGS(PTX_TEXT)
#undef PTX_TEXT
  };
  return texts[static_cast<int>(kind)];
}

const Table& table() {
  static const Table all = [] {
    Table t;
    for (auto add : {add_integers, add_floats, add_directed, add_halves, add_comparisons, add_conversions, add_moves,
                     add_memory, add_async, add_exchange, add_matrix, add_warpgroup})
      add(t);
    return t;
  }();
  return all;
}

// One instruction as Python describes it, a row of 64-bit integers.
struct Row {
  s64 entry, control, negated, labelled, guard, n_results, n_operands, first_operand, first_immediate;
};

struct Launch {
  const u8* parameters;
  const u32* grid;
  const u64* regions;  // rows of base, bytes, lowest and highest address that an argument spans
  const s32* blocks;   // which blocks run; all where there are none
  u64 *threads, *warps, *sectors, *passes;
  Finding* findings;
  u64 budget;
  u32 n_threads, shared_bytes, local_bytes, checks, n_regions, n_blocks, hardware_errors, most_findings;
};

constexpr u64 MOST_SHADOWED = 64u << 20;  // bytes of a storage whose global races are checked

void add_regions(Machine& m, const Launch& launch) {
  for (u32 k = 0; k < launch.n_regions; k++) {
    const u64* row = launch.regions + 4 * k;
    Region region{row[0], row[1], row[2], row[3]};
    if (m.checking(CHECK_GRACE) && region.size && region.size <= MOST_SHADOWED)
      region.shadow = {static_cast<GlobalByte*>(std::calloc(region.size, sizeof(GlobalByte))), std::free};
    m.regions.push_back(std::move(region));
  }
}

}  // namespace ptx

using namespace ptx;

extern "C" {

const void* ptx_entry(const char* name, int* sources) {
  const auto found = table().find(name);
  if (found == table().end()) return nullptr;
  *sources = found->second.sources;
  return &found->second;
}

const char* ptx_finding_text(int kind) { return text_of(static_cast<Kind>(kind)); }
int ptx_finding_is_fatal(int kind) { return is_fatal(static_cast<Kind>(kind)); }

Program* ptx_program(const Row* rows, int n, const s32* operands, int n_operands, const s64* immediates,
                     int n_immediates, const u8* registers, const u32* defined, int register_bytes,
                     const s32* special) {
  auto* p = new Program;
  p->operands.assign(operands, operands + n_operands);
  p->immediates.assign(immediates, immediates + n_immediates);
  p->registers.assign(registers, registers + register_bytes);
  p->defined.assign(defined, defined + register_bytes / 4);
  std::copy(special, special + 9, p->special);
  for (int k = 0; k < n; k++) {
    const Row& r = rows[k];
    const auto* entry = reinterpret_cast<const Entry*>(r.entry);
    p->code.push_back(Instruction{entry->run, entry->flow, static_cast<Control>(r.control), r.negated != 0,
                                  r.labelled != 0, static_cast<s32>(r.guard), k, static_cast<s32>(r.n_results),
                                  static_cast<s32>(r.n_operands), p->operands.data() + r.first_operand,
                                  p->immediates.data() + r.first_immediate});
  }
  return p;
}
void ptx_free(Program* p) { delete p; }

int ptx_launch(const Program* program, const Launch* launch) {
  Machine m(*program);
  m.n_threads = launch->n_threads;
  m.n_warps = (m.n_threads + LANES - 1) / LANES;
  m.shared_bytes = launch->shared_bytes;
  m.local_bytes = launch->local_bytes;
  m.checks = launch->checks;
  m.parameters = launch->parameters;
  m.budget = launch->budget;
  m.counters = {launch->threads, launch->warps, launch->sectors, launch->passes};
  hardware_errors = launch->hardware_errors != 0;
  m.shared.resize(m.shared_bytes);
  if (m.checking(CHECK_RACE | CHECK_INIT)) m.shared_shadow.resize(m.shared_bytes);
  m.local.resize(static_cast<u64>(m.local_bytes) * m.n_warps * LANES);
  add_regions(m, *launch);

  const size_t bytes = (program->registers.size() + 63) / 64 * 64;
  std::unique_ptr<u8, void (*)(void*)> registers(static_cast<u8*>(std::aligned_alloc(64, bytes * m.n_warps)),
                                                 std::free);
  std::vector<u32> defined(program->defined.size() * m.n_warps);
  m.warps.resize(m.n_warps);
  for (u32 k = 0; k < m.n_warps; k++) {
    Warp& w = m.warps[k];
    w.machine = &m;
    w.index = k;
    w.registers = registers.get() + k * bytes;
    w.defined = defined.data() + k * program->defined.size();
    std::copy(program->registers.begin(), program->registers.end(), w.registers);
  }
  const u64 n =
      launch->n_blocks ? launch->n_blocks : static_cast<u64>(launch->grid[0]) * launch->grid[1] * launch->grid[2];
  for (u64 k = 0; k < n && !m.stopped; k++)
    m.run_block(launch->n_blocks ? static_cast<u64>(launch->blocks[k]) : k, launch->grid);

  u32 found = 0;
  for (const auto& [key, finding] : m.findings)
    if (found < launch->most_findings) launch->findings[found++] = finding;
  return static_cast<int>(found);
}
}
