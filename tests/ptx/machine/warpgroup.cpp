// wgmma.mma_async: 64 rows of D, 16 for each of the four warps of a group. A warp computes its rows when it issues the
// instruction, and reads its operands in shared memory then.
#include "matrix.h"
#include "table.h"

namespace ptx {
namespace {

constexpr int MOST_N = 256, MOST_K = 32;  // 32 bytes along K

// immediates: element, n, k, A in registers, constant scale-d or -1, signs of A and B, whether A and B are stored along
// M and N instead of along K, whether an integer D is clamped
struct Shape {
  Element element;
  int n, k, bytes;
  bool a_in_registers, transposed[2], saturates;
  s64 scale;
  f64 sign;
  explicit Shape(const s64* v)
      : element(static_cast<Element>(v[0])),
        n(static_cast<int>(v[1])),
        k(static_cast<int>(v[2])),
        bytes(4 / per_register(element)),
        a_in_registers(v[3]),
        transposed{v[7] != 0, v[8] != 0},
        saturates(v[9]),
        scale(v[4]),
        sign(static_cast<f64>(v[5] * v[6])) {}
  bool is_integer() const { return element >= Element::s8; }
};

// A matrix descriptor: start address, leading and stride byte offsets in units of 16 bytes, swizzle mode in bits
// 62, 63.
struct Descriptor {
  u32 start, leading, stride;
  int span;  // bytes that a swizzled row has: 128, 64, 32, or 16 without swizzle
  explicit Descriptor(u64 x)
      : start((x & 0x3fff) << 4), leading((x >> 16 & 0x3fff) << 4), stride((x >> 32 & 0x3fff) << 4) {
    static const int spans[] = {16, 128, 64, 32};
    span = spans[x >> 62];
  }
  // Swizzles exchange 16-byte chunks: address bits 4 to 6 by bits 7 to 9, as many as the span has.
  u32 swizzled(u32 address) const { return address ^ ((address >> 7 & static_cast<u32>(span / 16 - 1)) << 4); }

  // Byte address of the element in `row` of M or N and `column` of K.
  u32 address(int row, int column, bool transposed, int bytes) const {
    const u32 wide = static_cast<u32>(span);
    if (!transposed) {  // core matrices: 8 rows of `span` bytes along K; `stride` from 8 rows to the next 8
      const u32 along = static_cast<u32>(column * bytes), r = static_cast<u32>(row);
      return swizzled(start + r / 8 * stride + r % 8 * wide + along % wide + along / wide * leading);
    }
    const u32 along = static_cast<u32>(row * bytes), k = static_cast<u32>(column);
    const u32 next_span = span == 16 ? stride : leading, next_k = span == 16 ? leading : stride;
    return swizzled(start + along % wide + along / wide * next_span + k % 8 * wide + k / 8 * next_k);
  }
};

bool uniform(Warp& w, s32 slot) {
  const u64* x = w.lanes<u64>(slot);
  return std::all_of(x, x + LANES, [=](u64 y) { return y == *x; });
}

// Calls `put(row, k, value)` for all elements of `rows` rows in shared memory, which lie in chunks of 16 bytes.
template <class Put> void read_shared(Warp& w, const Instruction& i, const Shape& s, u64 descriptor, int from, int rows,
                                      bool transposed, Put put) {
  const Descriptor where(descriptor);
  const int together = 16 / s.bytes, row_step = transposed ? together : 1, k_step = transposed ? 1 : together;
  for (int row = 0; row < rows; row += row_step)
    for (int k = 0; k < s.k; k += k_step) {
      const u32 address = where.address(from + row, k, transposed, s.bytes);
      const u8* place = shared_place(w, i.index, address, 16, 16, row % LANES, false, nullptr);
      if (place && w.machine->checking(CHECK_RACE)) read_by_matrix(w, i.index, address - SHARED_BASE, 16);
      for (int e = 0; e < together; e++) {
        u32 word = ~0u;
        if (place) std::memcpy(&word, place + e * s.bytes, static_cast<size_t>(s.bytes));
        put(transposed ? row + e : row, transposed ? k : k + e, element_of(s.element, word, 0));
      }
    }
}

void read_a(Warp& w, const Instruction& i, const Shape& s, const s32* A, f64 (*a)[MOST_K]) {
  const int per = per_register(s.element);
  if (!s.a_in_registers) {
    const int from = static_cast<int>(w.index % 4) * 16;
    return read_shared(w, i, s, w.lanes<u64>(A[0])[0], from, 16, s.transposed[0],
                       [&](int row, int k, f64 x) { a[row][k] = x; });
  }
  for (int lane = 0; lane < LANES; lane++)
    for (int r = 0; r < 4; r++)
      for (int h = 0; h < per; h++)
        a[(lane >> 2) + 8 * (r % 2)][r / 2 * 4 * per + (lane & 3) * per + h] =
            element_of(s.element, w.lanes<u32>(A[r])[lane], h);
}

// operands: D, A (4 registers or a descriptor), descriptor of B, [scale-d]
void multiply_add(Warp& w, const Instruction& i, u32 active) {
  require_whole_warp(w, i, active);
  const Shape s(i.immediate);
  const s32 *D = i.operand, *A = D + s.n / 2, *B = A + (s.a_in_registers ? 4 : 1);
  if (!uniform(w, *B) || (!s.a_in_registers && !uniform(w, *A)))
    w.machine->find(Kind::descriptor, i.index, w.thread(0));
  const bool accumulates = s.scale < 0 ? has(w.predicate(B[1]), 0) : s.scale != 0;
  alignas(64) static thread_local f64 a[16][MOST_K], b[MOST_K][MOST_N], c[16][MOST_N];
  read_a(w, i, s, A, a);
  read_shared(w, i, s, w.lanes<u64>(*B)[0], 0, s.n, s.transposed[1],
              [&](int n, int k, f64 x) { b[k][n] = s.sign * x; });
  // value r of a lane lies in row group + 8 (r / 2 % 2), column 8 (r / 4) + 2 member + r % 2
  auto at = [&](int lane, int r) -> f64& {
    return c[(lane >> 2) + 8 * (r / 2 % 2)][r / 4 * 8 + 2 * (lane & 3) + r % 2];
  };
  auto sum = [&](int lane, int r) {
    return s.is_integer() ? f64(w.lanes<s32>(D[r])[lane]) : f64(w.lanes<f32>(D[r])[lane]);
  };
  for (int lane = 0; lane < LANES; lane++)
    for (int r = 0; r < s.n / 2; r++) at(lane, r) = accumulates ? sum(lane, r) : 0.0;
  for (int row = 0; row < 16; row++)
    add_products(a[row], &b[0][0], MOST_N, s.n, s.k, c[row], hardware_errors && !s.is_integer());
  for (int lane = 0; lane < LANES; lane++)
    for (int r = 0; r < s.n / 2; r++) {
      if (s.is_integer()) w.lanes<s32>(D[r])[lane] = integer_sum(at(lane, r), s.saturates);
      else w.lanes<f32>(D[r])[lane] = canonical(static_cast<f32>(at(lane, r)));
    }
}

void fence(Warp&, const Instruction&, u32) {}
void commit_group(Warp& w, const Instruction&, u32) { w.matrix_group++; }
void wait_group(Warp& w, const Instruction& i, u32) {  // immediate: how many of the latest groups may go on
  const u32 stay = std::min(static_cast<u32>(i.immediate[0]), w.matrix_group);
  w.matrix_done = std::max(w.matrix_done, w.matrix_group - stay);
}

}  // namespace

void add_warpgroup(Table& t) {
  t["wgmma"] = {multiply_add, -1, Flow::warpgroup};
  t["wgmma.fence"] = {fence, 0, Flow::all};
  t["wgmma.commit_group"] = {commit_group, 0, Flow::all};
  t["wgmma.wait_group"] = {wait_group, 0, Flow::warpgroup_wait};
}

}  // namespace ptx
