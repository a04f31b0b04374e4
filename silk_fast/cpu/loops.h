/* What every loop shares: one body compiled for several sets of instructions, ranges shared by threads, float32 and
 * bfloat16 in memory. Bodies are float32; a product is fused with a sum by fma32 alone, so that neither the compiler
 * nor the place of an element in a vector changes a bit. */
#ifndef SILK_LOOPS_H
#define SILK_LOOPS_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Before a loop whose iterations are independent, though its output may be one of its inputs. */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Computes units `first` to `last` of a job. */
typedef void (*silk_loop)(const void *job, int64_t first, int64_t last);

/* From a body `INLINE void name(const void *job, int64_t first, int64_t last, int fused)`, name_loops: a loop for each
 * level of instructions, the table that silk_run takes. `fused` tells the body whether fma is one instruction. */
#define LOOP(attributes, name, level, fused) \
  attributes static void name##_##level(const void *job, int64_t first, int64_t last) { name(job, first, last, fused); }
#ifdef __x86_64__
#define V3 __attribute__((target("avx2,fma")))
#define V4 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define LOOPS(name)     \
  LOOP(, name, v1, 0)   \
  LOOP(V3, name, v3, 1) \
  LOOP(V4, name, v4, 1) \
  static const silk_loop name##_loops[] = {name##_v1, name##_v3, name##_v4};
#else
#ifdef __FP_FAST_FMAF
#define NATIVE_FMA 1
#else
#define NATIVE_FMA 0
#endif
#define LOOPS(name)                \
  LOOP(, name, native, NATIVE_FMA) \
  static const silk_loop name##_loops[] = {name##_native};
#endif

/* The same of a body with one more argument, `half`: name_float_loops and name_half_loops, for bfloat16. */
#define LOOPS_OF_BOTH(name)                                                           \
  INLINE void name##_float(const void *job, int64_t first, int64_t last, int fused) { \
    name(job, first, last, fused, 0);                                                 \
  }                                                                                   \
  INLINE void name##_half(const void *job, int64_t first, int64_t last, int fused) {  \
    name(job, first, last, fused, 1);                                                 \
  }                                                                                   \
  LOOPS(name##_float)                                                                 \
  LOOPS(name##_half)

/* Runs units 0 to n, at most `chunk` at a time and in any order, on at most `threads` threads. */
void silk_run(const silk_loop *loops, const void *job, int64_t n, int64_t chunk, int threads);

INLINE float bits_to_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

INLINE uint32_t float_to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* Half to even; NaN becomes the quiet NaN that PyTorch writes. */
INLINE uint16_t to_bfloat16(float x) {
  uint32_t bits = float_to_bits(x);
  uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  return (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? 0x7FC0 : rounded);
}

INLINE float load(const void *p, int64_t i, int half) {
  return half ? bits_to_float((uint32_t)((const uint16_t *)p)[i] << 16) : ((const float *)p)[i];
}

INLINE void store(void *p, int64_t i, float x, int half) {
  if (half) ((uint16_t *)p)[i] = to_bfloat16(x);
  else ((float *)p)[i] = x;
}

#endif
