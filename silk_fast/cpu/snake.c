/* Snake: y = residual + v + sin(alpha * v)^2 / (beta + 1e-9) of v = x + bias, on [B, C, T]. */
#include "maths.h"

typedef struct {
  const void *x, *residual; /* residual may be NULL, and y may be x or residual */
  const float *alpha, *beta, *bias;
  void *y;
  int64_t n_channels, n_time;
} snake_job;

/* Units are elements. */
INLINE void snake(const snake_job *job, int64_t first, int64_t last, int fused, int half, int has_residual) {
  if (first == last) return;
  for (int64_t i_row = first / job->n_time; first < last; i_row++) {
    int64_t i_channel = i_row % job->n_channels, end = (i_row + 1) * job->n_time;
    turns t = per_pi(job->alpha[i_channel]);
    float scale = 1.0f / (job->beta[i_channel] + 1e-9f), bias = job->bias ? job->bias[i_channel] : 0.0f;
    end = end < last ? end : last;
    INDEPENDENT
    for (int64_t i = first; i < end; i++) {
      float v = load(job->x, i, half) + bias;
      float y = fma32(sine_squared(v, t, fused), scale, v, fused);
      store(job->y, i, has_residual ? load(job->residual, i, half) + y : y, half);
    }
    first = end;
  }
}

INLINE void plain(const void *job, int64_t first, int64_t last, int fused, int half) {
  snake(job, first, last, fused, half, 0);
}

INLINE void residual(const void *job, int64_t first, int64_t last, int fused, int half) {
  snake(job, first, last, fused, half, 1);
}

LOOPS_OF_BOTH(plain)
LOOPS_OF_BOTH(residual)

void silk_snake(const void *x, const float *alpha, const float *beta, const float *bias, const void *added, void *y,
                int64_t n_batch, int64_t n_channels, int64_t n_time, int half, int threads) {
  const snake_job job = {x, added, alpha, beta, bias, y, n_channels, n_time};
  const silk_loop *loops = added  ? half ? residual_half_loops : residual_float_loops
                           : half ? plain_half_loops
                                  : plain_float_loops;
  silk_run(loops, &job, n_batch * n_channels * n_time, 16384, threads);
}
