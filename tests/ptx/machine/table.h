// What the files of instructions share: templates that apply an operation lane by lane, and macros that enter it in
// the table under the name that translation gives it.
#pragma once
#include "machine.h"

#if defined(__clang__)
#define PTX_VECTORISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define PTX_VECTORISE _Pragma("GCC ivdep")
#endif

namespace ptx {

void add_integers(Table&);
void add_floats(Table&);
void add_directed(Table&);
void add_halves(Table&);
void add_comparisons(Table&);
void add_conversions(Table&);
void add_moves(Table&);
void add_memory(Table&);
void add_async(Table&);
void add_exchange(Table&);
void add_matrix(Table&);
void add_warpgroup(Table&);

// A result may lie in the slot of a source, but lanes never mix.
template <class F> inline void for_lanes(u32 active, F&& f) {
  if (active == ALL_LANES) {
    PTX_VECTORISE
    for (int lane = 0; lane < LANES; lane++) f(lane);
  } else {
    each(active, f);
  }
}

template <class D, class A, class Op> void unary(Warp& w, const Instruction& i, u32 active) {
  D* d = w.lanes<D>(i.operand[0]);
  const A* a = w.lanes<A>(i.operand[1]);
  for_lanes(active, [=](int l) { d[l] = Op::of(a[l]); });
}

template <class D, class A, class B, class Op> void binary(Warp& w, const Instruction& i, u32 active) {
  D* d = w.lanes<D>(i.operand[0]);
  const A* a = w.lanes<A>(i.operand[1]);
  const B* b = w.lanes<B>(i.operand[2]);
  for_lanes(active, [=](int l) { d[l] = Op::of(a[l], b[l]); });
}

template <class D, class A, class B, class C, class Op> void ternary(Warp& w, const Instruction& i, u32 active) {
  D* d = w.lanes<D>(i.operand[0]);
  const A* a = w.lanes<A>(i.operand[1]);
  const B* b = w.lanes<B>(i.operand[2]);
  const C* c = w.lanes<C>(i.operand[3]);
  for_lanes(active, [=](int l) { d[l] = Op::of(a[l], b[l], c[l]); });
}

template <class F> inline u32 mask_of(F&& f) {
  u8 flag[LANES];
  PTX_VECTORISE
  for (int lane = 0; lane < LANES; lane++) flag[lane] = f(lane);
  u32 mask = 0;
  for (int lane = 0; lane < LANES; lane++) mask |= static_cast<u32>(flag[lane]) << lane;
  return mask;
}

inline void assign(u32& predicate, u32 value, u32 active) { predicate = (predicate & ~active) | (value & active); }

// Words of 2, 4 or 8 bytes whose width is known only when the instruction runs.
inline u64 read_word(Warp& w, s32 slot, int bytes, int lane) {
  return bytes == 2 ? w.lanes<u16>(slot)[lane] : bytes == 4 ? w.lanes<u32>(slot)[lane] : w.lanes<u64>(slot)[lane];
}
inline void write_word(Warp& w, s32 slot, int bytes, int lane, u64 value) {
  if (bytes == 2) w.lanes<u16>(slot)[lane] = static_cast<u16>(value);
  else if (bytes == 4) w.lanes<u32>(slot)[lane] = static_cast<u32>(value);
  else w.lanes<u64>(slot)[lane] = value;
}

}  // namespace ptx

// UNARY("neg.f32", f32, f32, -a): result type, source types, and the result in terms of a, b and c.
#define UNARY_(name, flow, D, A, ...)                      \
  {                                                        \
    struct Op {                                            \
      static inline D of(A a) { return (D)(__VA_ARGS__); } \
    };                                                     \
    t[name] = Entry{unary<D, A, Op>, 1, flow};             \
  }
#define BINARY_(name, flow, D, A, B, ...)                       \
  {                                                             \
    struct Op {                                                 \
      static inline D of(A a, B b) { return (D)(__VA_ARGS__); } \
    };                                                          \
    t[name] = Entry{binary<D, A, B, Op>, 2, flow};              \
  }
#define TERNARY_(name, flow, D, A, B, C, ...)                        \
  {                                                                  \
    struct Op {                                                      \
      static inline D of(A a, B b, C c) { return (D)(__VA_ARGS__); } \
    };                                                               \
    t[name] = Entry{ternary<D, A, B, C, Op>, 3, flow};               \
  }
#define UNARY(name, D, A, ...) UNARY_(name, Flow::all, D, A, __VA_ARGS__)
#define BINARY(name, D, A, B, ...) BINARY_(name, Flow::all, D, A, B, __VA_ARGS__)
#define TERNARY(name, D, A, B, C, ...) TERNARY_(name, Flow::all, D, A, B, C, __VA_ARGS__)
