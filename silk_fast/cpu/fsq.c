/* Finite scalar quantisation (Mentzer et al., 2023) of frames [rows, D], a unit each; exact.
 *
 * The caller gives tanh(z + shift), computed by PyTorch as the reference does, for a token hangs on a rounding:
 * digit = round(tanh * half - offset) + L / 2, each operation rounded. Digits are packed little-endian, mixed-radix. */
#include "maths.h"

typedef struct {
  const float *squashed, *half, *offset; /* [rows, D]; [D] */
  const int32_t *levels;                 /* [D] */
  int32_t *tokens;                       /* [rows, G] */
  float *codes;                          /* [rows, D] */
  const void *given;                     /* tokens, int32 or int64 */
  int64_t n_dims, group_size;
} fsq_job;

/* The bound rounded, -(L / 2) .. L - 1 - L / 2; NaN for NaN. */
INLINE float round_bound(const fsq_job *job, const float *squashed, int64_t d) {
  float rounded = nearest((squashed[d] * job->half[d] - job->offset[d]) + ROUND_MAGIC);
  int32_t low = -(job->levels[d] / 2);
  return at_most(at_least(rounded, (float)low), (float)(low + job->levels[d] - 1));
}

INLINE void pack(const void *data, int64_t first, int64_t last, int fused) {
  const fsq_job *job = data;
  int64_t n_groups = (job->n_dims + job->group_size - 1) / job->group_size;
  (void)fused;
  for (int64_t i_row = first; i_row < last; i_row++) {
    const float *squashed = job->squashed + i_row * job->n_dims;
    for (int64_t g = 0; g < n_groups; g++) {
      int64_t start = g * job->group_size, end = start + job->group_size;
      int32_t token = 0;
      for (int64_t d = (end < job->n_dims ? end : job->n_dims) - 1; d >= start; d--) {
        float rounded = round_bound(job, squashed, d);
        int32_t digit = (rounded == rounded ? (int32_t)rounded : 0) + job->levels[d] / 2; /* NaN: the middle */
        token = token * job->levels[d] + digit;
      }
      job->tokens[i_row * n_groups + g] = token;
    }
  }
}

INLINE void quantize(const void *data, int64_t first, int64_t last, int fused) {
  const fsq_job *job = data;
  (void)fused;
  for (int64_t i_row = first; i_row < last; i_row++) {
    const float *squashed = job->squashed + i_row * job->n_dims;
    float *codes = job->codes + i_row * job->n_dims;
    INDEPENDENT
    for (int64_t d = 0; d < job->n_dims; d++) codes[d] = round_bound(job, squashed, d) / (float)(job->levels[d] / 2);
  }
}

/* Digits are remainders in 0 .. L - 1, for tokens out of range too. */
INLINE void unpack(const fsq_job *job, int64_t first, int64_t last, int wide) {
  int64_t n_groups = (job->n_dims + job->group_size - 1) / job->group_size;
  for (int64_t i_row = first; i_row < last; i_row++) {
    float *codes = job->codes + i_row * job->n_dims;
    for (int64_t g = 0; g < n_groups; g++) {
      int64_t start = g * job->group_size, end = start + job->group_size, i = i_row * n_groups + g;
      int64_t rest = wide ? ((const int64_t *)job->given)[i] : ((const int32_t *)job->given)[i];
      for (int64_t d = start; d < (end < job->n_dims ? end : job->n_dims); d++) {
        int32_t level = job->levels[d], digit = (int32_t)(rest % level);
        rest = rest / level - (digit < 0);
        digit += digit < 0 ? level : 0;
        codes[d] = (float)(digit - level / 2) / (float)(level / 2);
      }
    }
  }
}

INLINE void unpack_32(const void *job, int64_t first, int64_t last, int fused) {
  (void)fused;
  unpack(job, first, last, 0);
}

INLINE void unpack_64(const void *job, int64_t first, int64_t last, int fused) {
  (void)fused;
  unpack(job, first, last, 1);
}

LOOPS(pack)
LOOPS(quantize)
LOOPS(unpack_32)
LOOPS(unpack_64)

void silk_fsq_pack(const float *squashed, const float *half, const float *offset, const int32_t *levels,
                   int32_t *tokens, int64_t n_rows, int64_t n_dims, int64_t group_size, int threads) {
  const fsq_job job = {squashed, half, offset, levels, tokens, NULL, NULL, n_dims, group_size};
  silk_run(pack_loops, &job, n_rows, 32, threads);
}

void silk_fsq_quantize(const float *squashed, const float *half, const float *offset, const int32_t *levels,
                       float *codes, int64_t n_rows, int64_t n_dims, int threads) {
  const fsq_job job = {squashed, half, offset, levels, NULL, codes, NULL, n_dims, n_dims};
  silk_run(quantize_loops, &job, n_rows, 32, threads);
}

void silk_fsq_unpack(const void *tokens, const int32_t *levels, float *codes, int64_t n_rows, int64_t n_dims,
                     int64_t group_size, int wide, int threads) {
  const fsq_job job = {NULL, NULL, NULL, levels, NULL, codes, tokens, n_dims, group_size};
  silk_run(wide ? unpack_64_loops : unpack_32_loops, &job, n_rows, 32, threads);
}
