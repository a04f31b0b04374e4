// State spaces, loads, stores and atomics. Global addresses are host addresses; shared memory begins at SHARED_BASE;
// generic addresses of the shared and local windows carry GENERIC_SHARED and GENERIC_LOCAL.
#include <algorithm>

#include "numbers.h"
#include "table.h"

namespace ptx {
namespace {

enum Space : s64 { GLOBAL, SHARED, LOCAL, GENERIC };  // the order of SPACES in memory.py

// What every access has: immediates 0 to 6.
struct Access {
  Space space;
  s64 offset;
  u32 element, count;
  bool is_signed;
  int register_bytes, address_bytes;
  u32 bytes() const { return element * count; }
  explicit Access(const s64* v)
      : space(static_cast<Space>(v[0])),
        offset(v[1]),
        element(static_cast<u32>(v[2])),
        count(static_cast<u32>(v[3])),
        is_signed(v[4]),
        register_bytes(static_cast<int>(v[5])),
        address_bytes(static_cast<int>(v[6])) {}
};

u8* global_place(Warp& w, s32 at, u64 address, u32 n, int lane, bool write) {
  Machine& m = *w.machine;
  const int thread = w.thread(lane);
  if (address % n) m.find(Kind::alignment, at, thread, address);
  Region* region = m.region(address, n);
  if (!region) {
    m.find(Kind::global_bounds, at, thread, address);
    return nullptr;
  }
  if (address < region->low || address + n > region->high) m.find(Kind::view_bounds, at, thread, address);
  if (m.checking(CHECK_GRACE)) touch_global(m, *region, address, n, thread, at, write);
  return reinterpret_cast<u8*>(address);
}

u8* local_place(Warp& w, s32 at, u64 address, u32 n, int lane) {
  Machine& m = *w.machine;
  if (address + n > m.local_bytes || address + n < address) {
    m.find(Kind::local_bounds, at, w.thread(lane), address);
    return nullptr;
  }
  return m.local.data() + static_cast<u64>(w.thread(lane)) * m.local_bytes + address;
}

u8* place(Warp& w, s32 at, Space space, u64 address, u32 n, int lane, bool write, const u8* value) {
  if (space == GENERIC) {
    const u64 window = address >> 60 << 60, inside = address & 0xffffffffu;
    if (window == GENERIC_SHARED) return shared_place(w, at, inside, n, n, lane, write, value);
    if (window == GENERIC_LOCAL) return local_place(w, at, inside, n, lane);
    return global_place(w, at, address, n, lane, write);
  }
  if (space == SHARED) return shared_place(w, at, address, n, n, lane, write, value);
  return space == LOCAL ? local_place(w, at, address, n, lane) : global_place(w, at, address, n, lane, write);
}

// Calls `use(lane, place)` for each lane in turn, with null where it may not access what it asks for.
// `value(lane)` is what a store is about to write.
template <class Value, class Use>
void at_places(Warp& w, const Instruction& i, u32 active, const Access& a, s32 slot, bool write, Value value, Use use) {
  Machine& m = *w.machine;
  const u32 n = a.bytes();
  u64 address[LANES];
  lane_addresses(w, slot, a.address_bytes, a.offset, address);
  if (m.checking(CHECK_PROFILE)) {
    if (a.space == GLOBAL) count_sectors(m, i.index, address, active, n);
    if (a.space == SHARED) count_bank_passes(m, i.index, address, active, n);
  }
  if (a.space == GLOBAL && active && !m.checking(CHECK_GRACE)) {  // usually all lanes lie in one tensor
    u64 low = ~0ull, high = 0, low_bits = 0;
    each(active, [&](int l) {
      low = std::min(low, address[l]);
      high = std::max(high, address[l]);
      low_bits |= address[l];
    });
    const Region* region = m.region(low, n);
    if (region && region->low <= low && high + n <= region->high && low_bits % n == 0)
      return each(active, [&](int l) { use(l, reinterpret_cast<u8*>(address[l])); });
  }
  each(active, [&](int l) { use(l, place(w, i.index, a.space, address[l], n, l, write, value(l))); });
}

template <class Element, class Register>
void load_elements(Warp& w, const Instruction& i, u32 active, const Access& a, const u8* const* places) {
  for (u32 k = 0; k < a.count; k++) {
    Register* d = w.lanes<Register>(i.operand[k]);
    each(active, [&](int l) {
      Element x = static_cast<Element>(~0ull);
      if (places[l]) std::memcpy(&x, places[l] + k * sizeof x, sizeof x);
      d[l] = static_cast<Register>(x);  // widened by the sign of Element
    });
  }
}
template <class Element>
void load_as(Warp& w, const Instruction& i, u32 active, const Access& a, const u8* const* places) {
  switch (a.register_bytes) {
    case 2: return load_elements<Element, u16>(w, i, active, a, places);
    case 4: return load_elements<Element, u32>(w, i, active, a, places);
    default: return load_elements<Element, u64>(w, i, active, a, places);
  }
}

// operands: registers, address
void load(Warp& w, const Instruction& i, u32 active) {
  const Access a(i.immediate);
  const u8* places[LANES];
  auto nothing = [](int) { return nullptr; };
  at_places(w, i, active, a, i.operand[a.count], false, nothing, [&](int l, u8* place) { places[l] = place; });
  switch (a.element) {
    case 1: return a.is_signed ? load_as<s8>(w, i, active, a, places) : load_as<u8>(w, i, active, a, places);
    case 2: return a.is_signed ? load_as<s16>(w, i, active, a, places) : load_as<u16>(w, i, active, a, places);
    case 4: return a.is_signed ? load_as<s32>(w, i, active, a, places) : load_as<u32>(w, i, active, a, places);
    default: return load_as<u64>(w, i, active, a, places);
  }
}

// operands: address, registers
void store(Warp& w, const Instruction& i, u32 active) {
  const Access a(i.immediate);
  u8 data[LANES][32];
  for (u32 k = 0; k < a.count; k++)
    each(active, [&](int l) {
      const u64 x = read_word(w, i.operand[1 + k], a.register_bytes, l);
      std::memcpy(data[l] + k * a.element, &x, a.element);
    });
  auto value = [&](int l) { return data[l]; };
  at_places(w, i, active, a, i.operand[0], true, value, [&](int l, u8* place) {
    if (place) std::memcpy(place, data[l], a.bytes());
  });
}

// immediates: offset, element bytes, count, signed, register bytes
void load_parameter(Warp& w, const Instruction& i, u32 active) {
  const u32 element = static_cast<u32>(i.immediate[1]), unused = 64 - 8 * element;
  for (s64 k = 0; k < i.immediate[2]; k++) {
    u64 x = 0;
    std::memcpy(&x, w.machine->parameters + i.immediate[0] + element * k, element);
    if (i.immediate[3]) x = static_cast<u64>(static_cast<s64>(x << unused) >> unused);
    each(active, [&](int l) { write_word(w, i.operand[k], static_cast<int>(i.immediate[4]), l, x); });
  }
}

enum class Atomic { add, min, max, exchange, conjunction, disjunction, exclusive, compare };  // ATOMICS in memory.py

template <class T> T smaller(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return minimum(a, b);
  else return std::min(a, b);
}
template <class T> T larger(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return maximum(a, b);
  else return std::max(a, b);
}

template <class T> T combined(Atomic operation, T old, T b, T c) {
  switch (operation) {
    case Atomic::add: return static_cast<T>(old + b);
    case Atomic::min: return smaller(old, b);
    case Atomic::max: return larger(old, b);
    case Atomic::exchange: return b;
    case Atomic::compare: return old == b ? c : old;
    default: break;
  }
  if constexpr (std::is_integral_v<T>) {
    if (operation == Atomic::conjunction) return old & b;
    return operation == Atomic::disjunction ? static_cast<T>(old | b) : static_cast<T>(old ^ b);
  }
  return old;
}

// operands: old value, address, b, [c]; immediates 7, 8: operation, whether there is a c. Atomics do not race.
template <class T> void atomic(Warp& w, const Instruction& i, u32 active) {
  Machine& m = *w.machine;
  const Access a(i.immediate);
  const u32 checks = m.checks;
  m.checks &= ~(CHECK_GRACE | CHECK_RACE);
  at_places(
      w, i, active, a, i.operand[1], true, [](int) { return nullptr; },
      [&](int l, u8* place) {
        if (!place) return;
        T old;
        std::memcpy(&old, place, sizeof old);
        const T b = w.lanes<T>(i.operand[2])[l], c = i.immediate[8] ? w.lanes<T>(i.operand[3])[l] : b;
        const T result = combined(static_cast<Atomic>(i.immediate[7]), old, b, c);
        std::memcpy(place, &result, sizeof result);
        w.lanes<T>(i.operand[0])[l] = old;
      });
  m.checks = checks;
}

// immediates: what to add, bytes of the result's and of the source's register
void convert_address(Warp& w, const Instruction& i, u32 active) {
  each(active, [&](int l) {
    const u64 address = read_word(w, i.operand[1], static_cast<int>(i.immediate[2]), l);
    write_word(w, i.operand[0], static_cast<int>(i.immediate[1]), l, address + static_cast<u64>(i.immediate[0]));
  });
}

}  // namespace

u8* shared_place(Warp& w, s32 at, u64 address, u32 n, u32 alignment, int lane, bool write, const u8* value) {
  Machine& m = *w.machine;
  const int thread = w.thread(lane);
  const u64 offset = address - SHARED_BASE;
  if (address % alignment) m.find(Kind::alignment, at, thread, address);
  if (address < SHARED_BASE || offset + n > m.shared_bytes) {
    m.find(Kind::shared_bounds, at, thread, address);
    return nullptr;
  }
  if (m.checking(CHECK_RACE | CHECK_INIT)) touch_shared(w, at, static_cast<u32>(offset), n, thread, write, value);
  return m.shared.data() + offset;
}

void lane_addresses(Warp& w, s32 slot, s64 bytes, s64 offset, u64* address) {
  if (bytes == 8) {
    const u64* base = w.lanes<u64>(slot);
    for (int l = 0; l < LANES; l++) address[l] = base[l] + static_cast<u64>(offset);
  } else {
    const u32* base = w.lanes<u32>(slot);
    for (int l = 0; l < LANES; l++) address[l] = base[l] + static_cast<u32>(offset);
  }
}

Region* Machine::region(u64 address, u64 n) {
  if (last_region < regions.size() && regions[last_region].holds(address, n)) return &regions[last_region];
  for (size_t k = 0; k < regions.size(); k++)
    if (regions[k].holds(address, n)) return &regions[last_region = k];
  return nullptr;
}

void add_memory(Table& t) {
  t["ld"] = {load, 1, Flow::load};
  t["st"] = {store, -1, Flow::store};
  t["ld.param"] = {load_parameter, 0, Flow::all};
  t["cvta"] = {convert_address, 1, Flow::all};
  t["atom.u32"] = {atomic<u32>, -1, Flow::atomic};
  t["atom.u64"] = {atomic<u64>, -1, Flow::atomic};
  t["atom.s32"] = {atomic<s32>, -1, Flow::atomic};
  t["atom.s64"] = {atomic<s64>, -1, Flow::atomic};
  t["atom.f32"] = {atomic<f32>, -1, Flow::atomic};
  t["atom.f64"] = {atomic<f64>, -1, Flow::atomic};
}

}  // namespace ptx
