/* The memory-bound operations of a Conformer (Gulati et al., 2020) over frames [..., C], a unit each.
 *
 * bias_silu: y = silu(x + bias).
 * add_layer_norm: sum = x + scale * residual, rounded as it is stored; normed = its LayerNorm.
 * glu_conv_norm_silu: every frame, those of the context too, is gated once, into memory that the caller lends; then
 * y = silu(layer_norm(conv(gated))), taps added in the order of time, whatever the chunk. */
#include "maths.h"

#define MAX_CHANNELS 2048 /* of glu_conv_norm_silu */

static int64_t frames_of(int64_t elements, int64_t n_channels) {
  int64_t n = elements / n_channels;
  return n > 0 ? n : 1;
}

/* ---------------------------------------------------------------- bias + SiLU */

typedef struct {
  const void *x;
  const float *bias;
  void *y;
  int64_t n_channels;
} bias_silu_job;

INLINE void bias_silu(const bias_silu_job *job, int64_t first, int64_t last, int fused, int half) {
  for (int64_t i_row = first; i_row < last; i_row++) {
    int64_t start = i_row * job->n_channels;
    INDEPENDENT
    for (int64_t c = 0; c < job->n_channels; c++)
      store(job->y, start + c, silu(load(job->x, start + c, half) + job->bias[c], fused), half);
  }
}

/* ---------------------------------------------------------------- residual + LayerNorm */

typedef struct {
  const void *x, *residual;
  const float *weight, *bias;
  void *sum, *normed;
  int64_t n_channels;
  float scale, eps;
} add_layer_norm_job;

INLINE void add_layer_norm(const add_layer_norm_job *job, int64_t first, int64_t last, int fused, int half) {
  int64_t n = job->n_channels;
  for (int64_t i_row = first; i_row < last; i_row++) {
    int64_t start = i_row * n;
    INDEPENDENT
    for (int64_t c = start; c < start + n; c++)
      store(job->sum, c, load(job->x, c, half) + job->scale * load(job->residual, c, half), half);
    moments m = moments_of(job->sum, start, n, job->eps, half, fused);
    INDEPENDENT
    for (int64_t c = 0; c < n; c++) {
      float hat = (load(job->sum, start + c, half) - m.mean) * m.rate;
      store(job->normed, start + c, fma32(hat, job->weight[c], job->bias[c], fused), half);
    }
  }
}

/* ---------------------------------------------------------------- GLU, convolution, LayerNorm, SiLU */

typedef struct {
  const void *x, *context;                              /* context may be NULL */
  const float *weight, *bias, *norm_weight, *norm_bias; /* weight: [K, C] */
  float *gated;                                         /* [B, K - 1 + T, C] */
  void *y;
  int64_t n_time, n_channels, n_taps;
  float eps;
} glu_conv_job;

INLINE void gate(const glu_conv_job *job, int64_t first, int64_t last, int fused, int half) {
  int64_t n = job->n_channels, reach = job->n_taps - 1, n_extended = reach + job->n_time;
  for (int64_t i = first; i < last; i++) {
    int64_t i_batch = i / n_extended, i_time = i % n_extended - reach;
    float *gated = job->gated + i * n;
    const void *source = i_time < 0 ? job->context : job->x;
    int64_t start = (i_time < 0 ? i_batch * reach + i_time + reach : i_batch * job->n_time + i_time) * 2 * n;
    if (!source) {
      memset(gated, 0, (size_t)n * sizeof *gated);
      continue;
    }
    INDEPENDENT
    for (int64_t c = 0; c < n; c++)
      gated[c] = load(source, start + c, half) * sigmoid(load(source, start + n + c, half), fused);
  }
}

INLINE void convolve(const glu_conv_job *job, int64_t first, int64_t last, int fused, int half) {
  int64_t n = job->n_channels, reach = job->n_taps - 1;
  float row[MAX_CHANNELS];
  for (int64_t i = first; i < last; i++) {
    const float *gated = job->gated + (i + i / job->n_time * reach) * n;
    memcpy(row, job->bias, (size_t)n * sizeof *row);
    for (int64_t k = 0; k < job->n_taps; k++) {
      INDEPENDENT
      for (int64_t c = 0; c < n; c++) row[c] = fma32(job->weight[k * n + c], gated[k * n + c], row[c], fused);
    }
    moments m = moments_of(row, 0, n, job->eps, 0, fused);
    INDEPENDENT
    for (int64_t c = 0; c < n; c++) {
      float hat = (row[c] - m.mean) * m.rate;
      store(job->y, i * n + c, silu(fma32(hat, job->norm_weight[c], job->norm_bias[c], fused), fused), half);
    }
  }
}

LOOPS_OF_BOTH(bias_silu)
LOOPS_OF_BOTH(add_layer_norm)
LOOPS_OF_BOTH(gate)
LOOPS_OF_BOTH(convolve)

void silk_bias_silu(const void *x, const float *bias, void *y, int64_t n_rows, int64_t n_channels, int half,
                    int threads) {
  const bias_silu_job job = {x, bias, y, n_channels};
  silk_run(half ? bias_silu_half_loops : bias_silu_float_loops, &job, n_rows, frames_of(8192, n_channels), threads);
}

void silk_add_layer_norm(const void *x, const void *residual, const float *weight, const float *bias, void *sum,
                         void *normed, int64_t n_rows, int64_t n_channels, float scale, float eps, int half,
                         int threads) {
  const add_layer_norm_job job = {x, residual, weight, bias, sum, normed, n_channels, scale, eps};
  silk_run(half ? add_layer_norm_half_loops : add_layer_norm_float_loops, &job, n_rows, frames_of(8192, n_channels),
           threads);
}

void silk_glu_conv_norm_silu(const void *x, const void *context, const float *weight, const float *bias,
                             const float *norm_weight, const float *norm_bias, float *gated, void *y, int64_t n_batch,
                             int64_t n_time, int64_t n_channels, int64_t n_taps, float eps, int half, int threads) {
  const glu_conv_job job = {x,     context, weight, bias,       norm_weight, norm_bias,
                            gated, y,       n_time, n_channels, n_taps,      eps};
  int64_t chunk = frames_of(8192, n_channels);
  silk_run(half ? gate_half_loops : gate_float_loops, &job, n_batch * (n_taps - 1 + n_time), chunk, threads);
  silk_run(half ? convolve_half_loops : convolve_float_loops, &job, n_batch * n_time, frames_of(chunk, n_taps),
           threads);
}
