/* Convolutions along time and residual units on [B, C, T], by tiles of time that stay in the cache. */
#define _GNU_SOURCE /* for syscall */
#include "maths.h"

#include <stdatomic.h>
#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12)
#define HAS_AMX 1
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define SIDE 16                   /* of a matrix of convolution_amx.h */
#define N_PRODUCTS 7              /* of 4 outputs of 4 taps: convolution_parts.h */
#define CHAIN 128                 /* products */
#define MATRIX_HALF 2             /* `half` of a convolution, else 1 or 0 */
#define ROWS 4                    /* output channels that packed weights have side by side */
#define LARGE_WEIGHT (128 * 1024) /* floats: what no level of cache keeps is read once a tile, block by block */
#define TILE_FLOATS (64 * 1024)
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* One convolution; its input passes a Snake first, if alpha is not NULL, or an ELU. */
typedef struct {
  const float *weight; /* [n_out / ROWS, n_in, stride, taps / stride, ROWS], zeros for channels that fill a block */
  const float *bias;   /* [n_out], or NULL */
  const float *alpha;  /* [n_in], or NULL */
  const float *scale;  /* [n_in]: 1 / (beta + 1e-9) */
  int64_t n_in, n_out, taps, stride, dilation;
  int64_t n_parts;   /* weights are those of so many convolutions, one after another: convolution_parts.h */
  int64_t depthwise; /* every output channel reads its own input channel; weight is [n_out, taps] */
  int64_t half;      /* weights are pairs of bfloat16: [n_out / ROWS, (n_in * stride + 1) / 2, taps / stride, ROWS, 2];
                        or matrices of them: [n_out / SIDE, n_pairs / SIDE, taps / stride, SIDE, SIDE, 2] */
  int64_t elu;
} convolution;

/* [n_batch, n_in, n_time], after n_left samples of context or, if that is NULL, zeros; and before zeros. */
typedef struct {
  const float *x, *context;
  int64_t n_time, n_left;
} signal;

/* n_columns outputs of each signal, `size` at a time, which read `reach` more columns of their rows. */
typedef struct {
  const convolution *convolution, *pointwise;
  signal signal;
  const float *residual;
  float *y;
  int64_t n_columns, n_tiles, size, reach;
  int64_t y_size, crop; /* of a transposed convolution */
  atomic_int *failed; /* for want of memory */
} tiles;

typedef struct {
  int64_t i_batch, start, n;
} tile;

INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE tile tile_of(const tiles *job, int64_t i) {
  const int64_t start = i % job->n_tiles * job->size;
  const tile t = {i / job->n_tiles, start, minimum(job->size, job->n_columns - start)};
  return t;
}

typedef float vector4 __attribute__((vector_size(16)));

#ifdef __x86_64__
#if HAS_AMX
#define VECTOR __m512
#define WIDTH 16
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define FUSED 1
#define PAIRS 1
#define MATRICES 1
#define TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define AT(x) x##_amx
#include "convolution_tile.h"
#endif
#define VECTOR __m512
#define WIDTH 16
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define MULTIPLY_ADD(w, v, sum) _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_ps(w), (__m512bh)(v))
#define KEEP(v) __asm__("" : "+v"(v))
#define SPANS 6
#define FUSED 1
#define PAIRS 1
#define MATRICES 0
#define TARGET __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define AT(x) x##_bf16
#include "convolution_tile.h"
#define VECTOR __m512
#define WIDTH 16
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, v) _mm512_storeu_ps(p, v)
#define MULTIPLY_ADD(w, v, sum) _mm512_fmadd_ps(_mm512_set1_ps(w), v, sum)
#define KEEP(v) __asm__("" : "+v"(v))
#define SPANS 6
#define FUSED 1
#define PAIRS 0
#define MATRICES 0
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))
#define AT(x) x##_v4
#include "convolution_tile.h"
#define VECTOR __m256
#define WIDTH 8
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, v) _mm256_storeu_ps(p, v)
#define MULTIPLY_ADD(w, v, sum) _mm256_fmadd_ps(_mm256_set1_ps(w), v, sum)
#define KEEP(v) __asm__("" : "+x"(v))
#define SPANS 3
#define FUSED 1
#define PAIRS 0
#define MATRICES 0
#define TARGET __attribute__((target("avx2,fma")))
#define AT(x) x##_v3
#include "convolution_tile.h"
#define LOAD(p) _mm_loadu_ps(p)
#define STORE(p, v) _mm_storeu_ps(p, v)
#define MULTIPLY_ADD(w, v, sum) (_mm_set1_ps(w) * (v) + (sum))
#define SPANS 2
#define FUSED 0
#define PAIRS 0
#define MATRICES 0
#define AT(x) x##_v1
#elif defined(__ARM_NEON)
#define LOAD(p) (vector4) vld1q_f32(p)
#define STORE(p, v) vst1q_f32(p, (float32x4_t)(v))
#define MULTIPLY_ADD(w, v, sum) (vector4) vfmaq_n_f32((float32x4_t)(sum), (float32x4_t)(v), w)
#define SPANS 6
#define FUSED NATIVE_FMA
#define PAIRS 0
#define MATRICES 0
#define AT(x) x##_native
#else
INLINE vector4 load4(const float *p) {
  vector4 v;
  memcpy(&v, p, sizeof v);
  return v;
}
#define LOAD(p) load4(p)
#define STORE(p, v) memcpy(p, &(v), sizeof(vector4))
#define MULTIPLY_ADD(w, v, sum) ((w) * (v) + (sum))
#define SPANS 2
#define FUSED NATIVE_FMA
#define PAIRS 0
#define MATRICES 0
#define AT(x) x##_native
#endif
#define VECTOR vector4
#define WIDTH 4
#define TARGET
#include "convolution_tile.h"

#ifdef __x86_64__
#define TILE_LOOPS(name) static const silk_loop name##_loops[] = {name##_v1, name##_v3, name##_v4};
#define HALF_TILE_LOOPS(name) static const silk_loop name##_half_loops[] = {name##_bf16, name##_bf16, name##_bf16};
#if HAS_AMX
#define AMX_TILE_LOOPS(name) static const silk_loop name##_amx_loops[] = {name##_amx, name##_amx, name##_amx};
#else
#define AMX_TILE_LOOPS(name) HALF_TILE_LOOPS(name)
#endif
#else
#define TILE_LOOPS(name) static const silk_loop name##_loops[] = {name##_native};
#define HALF_TILE_LOOPS(name) static const silk_loop name##_half_loops[] = {name##_native};
#endif
TILE_LOOPS(conv1d_tiles)
TILE_LOOPS(unit_tiles)
TILE_LOOPS(transposed_tiles)
TILE_LOOPS(fast_unit_tiles)
HALF_TILE_LOOPS(conv1d_tiles)
HALF_TILE_LOOPS(unit_tiles)
HALF_TILE_LOOPS(transposed_tiles)
#ifdef __x86_64__
AMX_TILE_LOOPS(conv1d_tiles)
AMX_TILE_LOOPS(unit_tiles)
AMX_TILE_LOOPS(transposed_tiles)
#define LOOPS_FOR(half, name) ((half) == MATRIX_HALF ? name##_amx_loops : (half) ? name##_half_loops : name##_loops)
#else
#define LOOPS_FOR(half, name) ((half) ? name##_half_loops : name##_loops)
#endif

/* Whether this processor multiplies bfloat16. */
int silk_has_bfloat16(void) {
#ifdef __x86_64__
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return 0;
#endif
}

/* Whether it does so by matrices, for which the system keeps room from the first call on. */
int silk_has_amx(void) {
#if HAS_AMX
  uint32_t a, b, c, d;
  if (!silk_has_bfloat16()) return 0;
  __cpuid_count(7, 0, a, b, c, d);
  if (!(d >> 22 & 1) || !(d >> 24 & 1)) return 0; /* AMX-BF16, AMX-TILE */
  return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XFEATURE_XTILEDATA */) == 0;
#else
  return 0;
#endif
}

/* Tiles as large as the cache holds, but enough of them for every thread; of a multiple of `unit` columns, and of
 * `least` if there are so many. */
static int run_tiles(tiles *job, int64_t n_rows, int64_t n_batch, int64_t least, int64_t unit, const silk_loop *loops,
                     int threads) {
  const int64_t share = minimum((job->n_columns * n_batch + threads - 1) / threads, job->n_columns);
  atomic_int failed = 0;
  job->size = minimum(maximum(TILE_FLOATS / n_rows / least * least, least), (share + unit - 1) / unit * unit);
  job->n_tiles = (job->n_columns + job->size - 1) / job->size;
  job->failed = &failed;
  silk_run(loops, job, job->n_tiles * n_batch, 1, threads);
  return failed;
}

/* y [n_batch, n_out, n_columns]; residual has its shape, or is NULL. Returns 1 for want of memory, else 0. */
int silk_conv1d(const convolution *c, const float *x, const float *context, const float *residual, float *y,
                int64_t n_batch, int64_t n_time, int64_t n_left, int64_t n_columns, int threads) {
  const int64_t reach = ((c->taps + c->stride - 1) / c->stride - 1) * c->dilation;
  tiles job = {c, NULL, {x, context, n_time, n_left}, residual, y, n_columns, 0, 0, reach, 0, 0, NULL};
  return run_tiles(&job, c->n_in * c->stride, n_batch, 96, 16, LOOPS_FOR(c->half, conv1d_tiles), threads);
}

/* y [n_batch, n_out, y_size]: from output `crop` on. Returns 1 for want of memory, else 0. */
int silk_conv_transpose1d(const convolution *c, const float *x, float *y, int64_t n_batch, int64_t n_time,
                          int64_t y_size, int64_t crop, int threads) {
  tiles job = {c, NULL, {x, NULL, n_time, 1}, NULL, y, n_time + 1, 0, 0, 1, y_size, crop, NULL};
  return run_tiles(&job, c->n_in + c->n_parts * c->n_out, n_batch, 96, 16, LOOPS_FOR(c->half, transposed_tiles),
                   threads);
}

/* y = x + pointwise(hidden) with hidden = act(dilated(act(x))), of the shape of x; or, if the pointwise convolution reads
 * the channels of x too, y = pointwise([hidden, x]). Returns 1 for want of memory, else 0. */
int silk_residual_unit(const convolution *dilated, const convolution *pointwise, const float *x, const float *context,
                       float *y, int64_t n_batch, int64_t n_time, int64_t n_left, int threads) {
  const int64_t reach = (dilated->taps - 1) * dilated->dilation;
  const float *residual = pointwise->n_in > dilated->n_out ? NULL : x;
  tiles job = {dilated, pointwise, {x, context, n_time, n_left}, residual, y, n_time, 0, 0, reach, 0, 0, NULL};
  if (dilated->n_parts == N_PRODUCTS) {
    const int64_t unit = 4 * dilated->dilation;
    return run_tiles(&job, 4 * dilated->n_in, n_batch, maximum(384 / unit, 1) * unit, unit, fast_unit_tiles_loops,
                     threads);
  }
  return run_tiles(&job, dilated->n_in + pointwise->n_in, n_batch, 96, 16, LOOPS_FOR(pointwise->half, unit_tiles),
                   threads);
}
