/* Attention with relative positions (Dai et al., 2019) in a window, float32; a unit is a head of a sample.
 *
 * score_ij = ((q_i + u) . k_j + (q_i + v_bias) . pos_{i - j}) / sqrt(D), softmax over the keys of the window, times v.
 *
 * Keys and positions are transposed, so that scores are computed LANES keys at a time; a query at the place p of the
 * keys meets key p - left + w at place w of its window. Sums go by that place: cutting the signal changes no bit. */
#include "maths.h"

typedef struct {
  const float *q, *k, *v, *pos, *u, *v_bias;        /* pos: [H, left + right + 1, D] */
  const int64_t *lengths, *starts;                  /* [B], or NULL */
  float* y;                                         /* [B, Tq, H, D] */
  float* memory;                                    /* silk_attention_memory floats a unit */
  int64_t q_strides[3], k_strides[3], v_strides[3]; /* of batch, head and frame */
  int64_t n_heads, n_queries, n_keys, n_dims, left, right;
} attention_job;

INLINE int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
INLINE int64_t columns(int64_t n_keys, int64_t n_window) { return n_keys + n_window + LANES; }

/* Floats that a unit needs: keys [D, columns], values [columns, padded D], positions [D, places], scores, two rows. */
int64_t silk_attention_memory(int64_t n_keys, int64_t n_dims, int64_t n_window) {
  return columns(n_keys, n_window) * (n_dims + padded(n_dims)) + padded(n_window) * (n_dims + 1) + 2 * n_dims;
}

/* sums += weight * row, LANES long. */
INLINE void add_row(float weight, const float* row, float* sums, int fused) {
  for (int lane = 0; lane < LANES; lane++) sums[lane] = fma32(weight, row[lane], sums[lane], fused);
}

/* Writes `factor` times the sum of weights times rows of v, `width` floats long, from place `first` to `last`; every
 * fourth goes to the same partial sum, so that they do not wait for each other. */
INLINE void add_values(const float* weights, const float* v, int64_t first, int64_t last, int64_t width, float factor,
                       float* y, int64_t n_dims, int fused) {
  for (int64_t d = 0; d < width; d += LANES) {
    float a[LANES] = {0}, b[LANES] = {0}, c[LANES] = {0}, e[LANES] = {0};
    for (int64_t w = first; w < last; w += 4) {
      const float* row = v + w * width + d;
      add_row(weights[w], row, a, fused);
      add_row(weights[w + 1], row + width, b, fused);
      add_row(weights[w + 2], row + 2 * width, c, fused);
      add_row(weights[w + 3], row + 3 * width, e, fused);
    }
    for (int lane = 0; lane < LANES; lane++) a[lane] = ((a[lane] + b[lane]) + (c[lane] + e[lane])) * factor;
    memcpy(y + d, a, (size_t)(n_dims - d < LANES ? n_dims - d : LANES) * sizeof(float));
  }
}

INLINE void attend(const void* data, int64_t first, int64_t last, int fused) {
  const attention_job* job = data;
  const int64_t n_dims = job->n_dims, left = job->left, n_window = left + job->right + 1;
  const int64_t width = padded(n_dims), n_columns = columns(job->n_keys, n_window), n_places = padded(n_window);
  const float scale = 1.0f / __builtin_sqrtf((float)n_dims);
  for (int64_t unit = first; unit < last; unit++) {
    const int64_t batch = unit / job->n_heads, head = unit % job->n_heads;
    float* keys = job->memory + unit * silk_attention_memory(job->n_keys, n_dims, n_window);
    float *values = keys + n_columns * n_dims, *positions = values + n_columns * width;
    float *scores = positions + n_places * n_dims, *content = scores + n_places, *place = content + n_dims;
    const float* k = job->k + batch * job->k_strides[0] + head * job->k_strides[1];
    const float* v = job->v + batch * job->v_strides[0] + head * job->v_strides[1];
    memset(keys, 0, (size_t)(n_columns * (n_dims + width) + n_places * n_dims) * sizeof(float));
    for (int64_t j = 0; j < job->n_keys; j++) {
      for (int64_t d = 0; d < n_dims; d++) keys[d * n_columns + left + j] = k[j * job->k_strides[2] + d];
      memcpy(values + (left + j) * width, v + j * job->v_strides[2], (size_t)n_dims * sizeof(float));
    }
    for (int64_t w = 0; w < n_window; w++)
      for (int64_t d = 0; d < n_dims; d++)
        positions[d * n_places + w] = job->pos[(head * n_window + n_window - 1 - w) * n_dims + d];

    const int64_t start = job->starts ? job->starts[batch] : 0;
    const int64_t length = job->lengths && job->lengths[batch] < job->n_keys ? job->lengths[batch] : job->n_keys;
    for (int64_t i = 0; i < job->n_queries; i++) {
      const int64_t at = i + job->n_keys - job->n_queries; /* of the keys */
      const float* q = job->q + batch * job->q_strides[0] + head * job->q_strides[1] + i * job->q_strides[2];
      float* y = job->y + ((batch * job->n_queries + i) * job->n_heads + head) * n_dims;
      int64_t w_first = (start > 0 ? start : 0) - at + left, w_last = length - at + left;
      if (w_first < 0) w_first = 0;
      if (w_last > n_window) w_last = n_window;
      if (w_last <= w_first) {
        memset(y, 0, (size_t)n_dims * sizeof(float));
        continue;
      }
      for (int64_t d = 0; d < n_dims; d++) {
        content[d] = (q[d] + job->u[head * n_dims + d]) * scale;
        place[d] = (q[d] + job->v_bias[head * n_dims + d]) * scale;
      }
      const int64_t w_begin = w_first / LANES * LANES, w_end = padded(w_last);
      float highest[LANES], sums[LANES] = {0}, top = -__builtin_inff();
      for (int lane = 0; lane < LANES; lane++) highest[lane] = top;
      for (int64_t w = w_begin; w < w_end; w += LANES) {
        float by_key[LANES] = {0}, by_place[LANES] = {0};
        for (int64_t d = 0; d < n_dims; d++)
          for (int lane = 0; lane < LANES; lane++) {
            by_key[lane] = fma32(content[d], keys[d * n_columns + at + w + lane], by_key[lane], fused);
            by_place[lane] = fma32(place[d], positions[d * n_places + w + lane], by_place[lane], fused);
          }
        for (int lane = 0; lane < LANES; lane++) {
          const int is_seen = w + lane >= w_first && w + lane < w_last;
          scores[w + lane] = is_seen ? by_key[lane] + by_place[lane] : -__builtin_inff();
          highest[lane] = at_least(highest[lane], scores[w + lane]);
        }
      }
      for (int lane = 0; lane < LANES; lane++) top = at_least(top, highest[lane]);
      for (int64_t w = w_begin; w < w_end; w += LANES)
        for (int lane = 0; lane < LANES; lane++) {
          scores[w + lane] = exp32(scores[w + lane] - top, fused);
          sums[lane] += scores[w + lane];
        }
      const float sum = total(sums);
      if (sum > 0) add_values(scores, values + at * width, w_begin, w_end, width, 1.0f / sum, y, n_dims, fused);
      else memset(y, 0, (size_t)n_dims * sizeof(float)); /* no finite score, as in the reference */
    }
  }
}

LOOPS(attend)

void silk_rel_attention(const float* q, const float* k, const float* v, const float* pos, const float* u,
                        const float* v_bias, const int64_t* lengths, const int64_t* starts, float* y, float* memory,
                        const int64_t* strides, int64_t n_batch, int64_t n_heads, int64_t n_queries, int64_t n_keys,
                        int64_t n_dims, int64_t left, int64_t right, int threads) {
  attention_job job = {.q = q, .k = k, .v = v, .pos = pos, .u = u, .v_bias = v_bias, .lengths = lengths};
  job.starts = starts, job.y = y, job.memory = memory, job.n_heads = n_heads, job.n_queries = n_queries;
  job.n_keys = n_keys, job.n_dims = n_dims, job.left = left, job.right = right;
  memcpy(job.q_strides, strides, sizeof job.q_strides);
  memcpy(job.k_strides, strides + 3, sizeof job.k_strides);
  memcpy(job.v_strides, strides + 6, sizeof job.v_strides);
  silk_run(attend_loops, &job, n_batch * n_heads, 1, threads);
}
