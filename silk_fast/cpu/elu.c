/* ELU: y = v or, where it is negative, e^v - 1, of v = residual + (x + bias), on [B, C, T]. */
#include "maths.h"

typedef struct {
  const void *x, *residual; /* residual may be NULL, and y may be x or residual */
  const float *bias;        /* or NULL */
  void *y;
  int64_t n_channels, n_time;
} elu_job;

/* Units are elements. */
INLINE void elu_rows(const elu_job *job, int64_t first, int64_t last, int fused, int half, int has_residual) {
  if (first == last) return;
  for (int64_t i_row = first / job->n_time; first < last; i_row++) {
    int64_t end = (i_row + 1) * job->n_time;
    float bias = job->bias ? job->bias[i_row % job->n_channels] : 0.0f;
    end = end < last ? end : last;
    INDEPENDENT
    for (int64_t i = first; i < end; i++) {
      float v = load(job->x, i, half) + bias;
      store(job->y, i, elu(has_residual ? load(job->residual, i, half) + v : v, fused), half);
    }
    first = end;
  }
}

INLINE void plain(const void *job, int64_t first, int64_t last, int fused, int half) {
  elu_rows(job, first, last, fused, half, 0);
}

INLINE void residual(const void *job, int64_t first, int64_t last, int fused, int half) {
  elu_rows(job, first, last, fused, half, 1);
}

LOOPS_OF_BOTH(plain)
LOOPS_OF_BOTH(residual)

void silk_elu(const void *x, const float *bias, const void *added, void *y, int64_t n_batch, int64_t n_channels,
              int64_t n_time, int half, int threads) {
  const elu_job job = {x, added, bias, y, n_channels, n_time};
  const silk_loop *loops = added  ? half ? residual_half_loops : residual_float_loops
                           : half ? plain_half_loops
                                  : plain_float_loops;
  silk_run(loops, &job, n_batch * n_channels * n_time, 16384, threads);
}
