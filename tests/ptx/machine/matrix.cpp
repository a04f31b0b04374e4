// ldmatrix, stmatrix, movmatrix and mma.sync. In a fragment lane 4 * group + member holds, of row `group`, the elements
// next to column `member` times the number of elements in a register.
#include "matrix.h"

#include "table.h"

namespace ptx {
namespace {

using Tile = u16[8][8];

u32 of_tile(const Tile& tile, int lane, bool transposed) {
  const int row = lane >> 2, column = 2 * (lane & 3);
  const u32 low = transposed ? tile[column][row] : tile[row][column];
  const u32 high = transposed ? tile[column + 1][row] : tile[row][column + 1];
  return high << 16 | low;
}
void to_tile(Tile& tile, int lane, bool transposed, u32 word) {
  const int row = lane >> 2, column = 2 * (lane & 3);
  (transposed ? tile[column][row] : tile[row][column]) = static_cast<u16>(word);
  (transposed ? tile[column + 1][row] : tile[row][column + 1]) = static_cast<u16>(word >> 16);
}

// Addresses of the rows of all tiles: those of tile k come from lanes 8 k to 8 k + 7.
// immediates: number of tiles, transposed, offset and width of the address
void row_addresses(Warp& w, const Instruction& i, s32 slot, u64* address) {
  Machine& m = *w.machine;
  lane_addresses(w, slot, i.immediate[3], i.immediate[2], address);
  if (!m.checking(CHECK_PROFILE)) return;
  const u32 rows = i.immediate[0] == 4 ? ALL_LANES : (1u << (8 * i.immediate[0])) - 1;
  count_bank_passes(m, i.index, address, rows, 16);
}

// operands: registers, address
void load_matrix(Warp& w, const Instruction& i, u32 active) {
  require_whole_warp(w, i, active);
  const int n = static_cast<int>(i.immediate[0]);
  u64 address[LANES];
  row_addresses(w, i, i.operand[n], address);
  Tile tile[4];
  for (int row = 0; row < 8 * n; row++) {
    const u8* place = shared_place(w, i.index, address[row], 16, 16, row, false, nullptr);
    if (place) std::memcpy(tile[row / 8][row % 8], place, 16);
    else std::memset(tile[row / 8][row % 8], 0xff, 16);
  }
  for (int k = 0; k < n; k++)
    each(active, [&](int lane) { w.lanes<u32>(i.operand[k])[lane] = of_tile(tile[k], lane, i.immediate[1]); });
}

// operands: address, registers
void store_matrix(Warp& w, const Instruction& i, u32 active) {
  require_whole_warp(w, i, active);
  u64 address[LANES];
  row_addresses(w, i, i.operand[0], address);
  for (int k = 0; k < i.immediate[0]; k++) {
    Tile tile;
    for (int lane = 0; lane < LANES; lane++) to_tile(tile, lane, i.immediate[1], w.lanes<u32>(i.operand[1 + k])[lane]);
    for (int row = 0; row < 8; row++) {
      const u8* value = reinterpret_cast<const u8*>(tile[row]);
      u8* place = shared_place(w, i.index, address[8 * k + row], 16, 16, 8 * k + row, true, value);
      if (place) std::memcpy(place, value, 16);
    }
  }
}

void transpose_matrix(Warp& w, const Instruction& i, u32 active) {
  require_whole_warp(w, i, active);
  Tile tile;
  for (int lane = 0; lane < LANES; lane++) to_tile(tile, lane, false, w.lanes<u32>(i.operand[1])[lane]);
  for (int lane = 0; lane < LANES; lane++) w.lanes<u32>(i.operand[0])[lane] = of_tile(tile, lane, true);
}

constexpr int MOST_K = 32;

// How many registers of a lane hold each operand of m x 8 x k.
struct Shape {
  Element element;
  int m, k, per, a, b, c;
  bool half_sum, saturates;
  explicit Shape(const s64* v)  // immediates: element, m, k, whether C and D are half precision, whether D is clamped
      : element(static_cast<Element>(v[0])),
        m(static_cast<int>(v[1])),
        k(static_cast<int>(v[2])),
        per(per_register(element)),
        a(m * k / LANES / per),
        b(8 * k / LANES / per),
        c(v[3] ? m / 8 : m / 4),
        half_sum(v[3]),
        saturates(v[4]) {}
};

f64 operand_element(Warp& w, const Shape& s, s32 slot, int lane, int h) {
  return s.element == Element::f64 ? w.lanes<f64>(slot)[lane] : element_of(s.element, w.lanes<u32>(slot)[lane], h);
}
void read_operands(Warp& w, const Shape& s, const s32* A, const s32* B, f64 (*a)[MOST_K], f64 (*b)[8]) {
  const int halves = s.m / 8;  // registers of A alternate between rows `group` and `group` + 8
  for (int lane = 0; lane < LANES; lane++) {
    const int group = lane >> 2, member = lane & 3;
    for (int r = 0; r < s.a; r++)
      for (int h = 0; h < s.per; h++)
        a[group + 8 * (r % halves)][r / halves * 4 * s.per + member * s.per + h] = operand_element(w, s, A[r], lane, h);
    for (int r = 0; r < s.b; r++)
      for (int h = 0; h < s.per; h++)
        b[r * 4 * s.per + member * s.per + h][group] = operand_element(w, s, B[r], lane, h);
  }
}
f64 read_sum(Warp& w, const Shape& s, const s32* C, int lane, int k) {
  if (s.half_sum) return from_half(static_cast<u16>(w.lanes<u32>(C[k / 2])[lane] >> (16 * (k % 2))));
  if (s.element == Element::f64) return w.lanes<f64>(C[k])[lane];
  return s.element >= Element::s8 ? static_cast<f64>(w.lanes<s32>(C[k])[lane])
                                  : static_cast<f64>(w.lanes<f32>(C[k])[lane]);
}
void write_sum(Warp& w, const Shape& s, const s32* D, int lane, int k, f64 x) {
  if (s.half_sum) {
    u32& word = w.lanes<u32>(D[k / 2])[lane];
    const int shift = 16 * (k % 2);
    word = (word & ~(0xffffu << shift)) | static_cast<u32>(HalfFormat::narrow(x)) << shift;
  } else if (s.element == Element::f64) {
    w.lanes<f64>(D[k])[lane] = x;
  } else if (s.element >= Element::s8) {
    w.lanes<s32>(D[k])[lane] = integer_sum(x, s.saturates);
  } else {
    w.lanes<f32>(D[k])[lane] = canonical(static_cast<f32>(x));
  }
}

// operands: D, A, B, C
void multiply_add(Warp& w, const Instruction& i, u32 active) {
  require_whole_warp(w, i, active);
  const Shape s(i.immediate);
  const s32 *D = i.operand, *A = D + s.c, *B = A + s.a, *C = B + s.b;
  alignas(64) f64 a[16][MOST_K], b[MOST_K][8], c[16][8];
  read_operands(w, s, A, B, a, b);
  const int values = s.m / 4;  // values k of C lie in rows group + 8 (k / 2), columns 2 member + k % 2
  for (int lane = 0; lane < LANES; lane++)
    for (int k = 0; k < values; k++) c[(lane >> 2) + 8 * (k / 2)][2 * (lane & 3) + k % 2] = read_sum(w, s, C, lane, k);
  for (int row = 0; row < s.m; row++) {
    if (s.element != Element::f64) {
      add_products(a[row], &b[0][0], 8, 8, s.k, c[row], hardware_errors && s.element < Element::s8);
    } else {
      for (int k = 0; k < s.k; k++)
        for (int j = 0; j < 8; j++) c[row][j] = std::fma(a[row][k], b[k][j], c[row][j]);
    }
  }
  for (int lane = 0; lane < LANES; lane++)
    for (int k = 0; k < values; k++) write_sum(w, s, D, lane, k, c[(lane >> 2) + 8 * (k / 2)][2 * (lane & 3) + k % 2]);
}

}  // namespace

void require_whole_warp(Warp& w, const Instruction& i, u32 active) {
  if (active != ALL_LANES) w.machine->find(Kind::diverged, i.index, w.thread(first(active)), active);
}

void add_matrix(Table& t) {
  t["ldmatrix"] = {load_matrix, 1, Flow::load_matrix};
  t["stmatrix"] = {store_matrix, -1, Flow::store_matrix};
  t["movmatrix"] = {transpose_matrix, 1, Flow::warp};
  t["mma"] = {multiply_add, -1, Flow::warp};
}

}  // namespace ptx
