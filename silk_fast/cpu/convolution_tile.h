/* The inner loops of convolution.c at one level of instructions: included once for each, after the definition of
 *
 *   VECTOR          type of WIDTH floats; LOAD(p), STORE(p, v), and MULTIPLY_ADD(w, v, sum) of a float and two vectors
 *   KEEP(v)         optional: has the compiler load v once, into a register
 *   SPANS           vectors of time whose sums, for ROWS output channels, fit the registers
 *   FUSED           whether MULTIPLY_ADD rounds once
 *   PAIRS           1 if an element is two bfloat16, of two rows; MULTIPLY_ADD then adds two products of such pairs
 *   MATRICES        1 if such pairs are multiplied by convolution_amx.h instead
 *   TARGET, AT(x)   attribute of a function; its name at this level
 *
 * An output is the same additions in the same order whatever its place in a tile or in the signal: cutting the signal,
 * or sharing it between threads, changes no bit. */

#ifndef KEEP
#define KEEP(v)
#endif

/* What n samples of a channel pass before the convolution: a Snake, an ELU, or nothing. y may be x. */
TARGET static void AT(activate)(const convolution *c, int64_t channel, const float *x, float *y, int64_t n) {
  if (c->alpha) {
    const turns t = per_pi(c->alpha[channel]);
    const float scale = c->scale[channel];
    INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = fma32(sine_squared(x[i], t, FUSED), scale, x[i], FUSED);
  } else if (c->elu) {
    INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = elu(x[i], FUSED);
  } else if (y != x) {
    memcpy(y, x, (size_t)n * sizeof(float));
  }
}

/* Lays out what n_columns outputs of a convolution of stride s read, from output `start` on: s rows of each channel, of
 * which element u of row j is input (start + u) * s + j. `line` holds n_columns * s floats if s > 1. */
TARGET static void AT(fill)(const convolution *c, const signal *s, int64_t i_batch, int64_t start, int64_t n_columns,
                            float *rows, int64_t row_size, float *line) {
  const int64_t stride = c->stride, first = start * stride - s->n_left, n = n_columns * stride;
  const int64_t n_before = first < 0 ? minimum(-first, n) : 0;
  const int64_t n_inside = maximum(0, minimum(s->n_time - first, n) - n_before);
  for (int64_t i = 0; i < c->n_in; i++, rows += stride * row_size) {
    const int64_t i_row = i_batch * c->n_in + i;
    const float *parts[] = {s->context, s->x};
    const int64_t offsets[] = {(i_row + 1) * s->n_left + first, i_row * s->n_time + first + n_before};
    const int64_t sizes[] = {n_before, n_inside};
    float *out = stride == 1 ? rows : line, *end = out + n;
    for (int part = 0; part < 2; out += sizes[part++]) {
      if (!parts[part]) memset(out, 0, (size_t)sizes[part] * sizeof(float));
      else AT(activate)(c, i, parts[part] + offsets[part], out, sizes[part]);
    }
    memset(out, 0, (size_t)(end - out) * sizeof(float));
    for (int64_t j = 0; j < stride; j++) {
      float *row = rows + j * row_size;
      for (int64_t u = 0; stride > 1 && u < n_columns; u++) row[u] = line[u * stride + j];
      memset(row + n_columns, 0, WIDTH * sizeof(float)); /* a vector may go beyond */
    }
  }
}

/* Rows that n channels take, with what convolution_amx.h reads beyond the pairs. */
#if MATRICES
#define PADDED(n) maximum(n, ((n) + 2 * SIDE - 1) / (2 * SIDE) * SIDE)
#else
#define PADDED(n) (n)
#endif

#if PAIRS
#define PAIR AT(pair)
/* Rows 2 i and 2 i + 1 become row i, rounded; what PADDED adds is zeros. */
TARGET static void AT(pair)(float *rows, int64_t n_rows, int64_t row_size, int64_t n_columns) {
  for (int64_t i = 0; i < n_rows; i += 2) {
    const float *even = rows + i * row_size, *odd = i + 1 < n_rows ? even + row_size : NULL;
    float *out = rows + i / 2 * row_size;
    INDEPENDENT
    for (int64_t u = 0; u < n_columns; u++)
      out[u] = bits_to_float(to_bfloat16(even[u]) | (odd ? (uint32_t)to_bfloat16(odd[u]) << 16 : 0));
  }
#if MATRICES
  for (int64_t i = (n_rows + 1) / 2; i % SIDE; i++) memset(rows + i * row_size, 0, (size_t)n_columns * sizeof(float));
#endif
}
#else
#define PAIR(...)
#endif

#if MATRICES
#include "convolution_amx.h"
#else
/* Adds the products of one tap. */
#define TAP(N, p)                                                                                  \
  VECTOR b[N];                                                                                     \
  UNROLL for (int n = 0; n < N; n++) {                                                             \
    b[n] = LOAD((p) + n * WIDTH);                                                                  \
    KEEP(b[n]);                                                                                    \
  }                                                                                                \
  UNROLL for (int m = 0; m < ROWS; m++) {                                                          \
    UNROLL for (int n = 0; n < N; n++) sum[m][n] = MULTIPLY_ADD(weight[m], b[n], sum[m][n]);       \
  }                                                                                                \
  weight += ROWS;

/* Writes `end` outputs of ROWS channels from `channel` on, of N vectors. Products are added up CHAIN at a time, so that
 * rounding errors do not grow with the number of channels. */
#define BLOCK(N)                                                                                            \
  TARGET static void AT(block_##N)(const convolution *c, int64_t channel, const float *x, int64_t row_size, \
                                   int64_t end, const float *residual, float *y, int64_t y_size) {          \
    const int64_t n_taps = c->taps / c->stride, n_more = c->taps % c->stride,                               \
                  n_rows = (c->n_in * c->stride + PAIRS) >> PAIRS;                                          \
    const int64_t n_chain = CHAIN / (n_taps + 1) + 1, jump = row_size - (n_taps - 1) * c->dilation;         \
    const float *weight = c->weight + channel * (PAIRS ? n_rows * n_taps : c->n_in * c->taps);              \
    VECTOR sum[ROWS][N], total[ROWS][N];                                                                    \
    int64_t i = 0, j = 0;                                                                                   \
    do {                                                                                                    \
      const int64_t begin = i;                                                                              \
      UNROLL for (int m = 0; m < ROWS; m++) { UNROLL for (int n = 0; n < N; n++) sum[m][n] = (VECTOR){0}; } \
      const int64_t last = minimum(begin + n_chain, n_rows);                                                \
      int64_t k = 0;                                                                                        \
      for (int64_t left = n_more ? 0 : (last - i) * n_taps; left > 0; left--) {                             \
        TAP(N, x)                                                                                           \
        k = k + 1 == n_taps ? 0 : k + 1;                                                                    \
        x += k ? c->dilation : jump;                                                                        \
      }                                                                                                     \
      for (; n_more && i < last; i++, x += row_size, j = j + 1 < c->stride ? j + 1 : 0) {                   \
        for (k = 0; k < n_taps + (j < n_more); k++) { TAP(N, x + k * c->dilation) }                         \
      }                                                                                                     \
      i = last;                                                                                             \
      UNROLL for (int m = 0; m < ROWS; m++) {                                                               \
        UNROLL for (int n = 0; n < N; n++) {                                                                \
          if (begin) sum[m][n] += total[m][n];                                                              \
          total[m][n] = sum[m][n];                                                                          \
        }                                                                                                   \
      }                                                                                                     \
    } while (i < n_rows);                                                                                   \
    UNROLL for (int m = 0; m < ROWS; m++) {                                                                 \
      if (channel + m == c->n_out) return;                                                                  \
      const float bias = c->bias ? c->bias[channel + m] : 0.0f;                                             \
      const float *add = residual ? residual + m * y_size : NULL;                                           \
      UNROLL for (int n = 0; n < N; n++) {                                                                  \
        float *out = y + m * y_size + n * WIDTH, last[WIDTH];                                               \
        VECTOR result = sum[m][n] + bias;                                                                   \
        if (n < N - 1 || end % WIDTH == 0) {                                                                \
          if (add) result += LOAD(add + n * WIDTH);                                                         \
          STORE(out, result);                                                                               \
        } else {                                                                                            \
          STORE(last, result);                                                                              \
          for (int64_t u = 0; u < end % WIDTH; u++) out[u] = add ? add[n * WIDTH + u] + last[u] : last[u];  \
        }                                                                                                   \
      }                                                                                                     \
    }                                                                                                       \
  }

BLOCK(1)
BLOCK(2)
#if SPANS > 2
BLOCK(3)
#endif
#if SPANS > 3
BLOCK(4)
BLOCK(5)
BLOCK(6)
#endif
#undef BLOCK
#undef TAP

typedef void (*AT(block))(const convolution *, int64_t, const float *, int64_t, int64_t, const float *, float *,
                          int64_t);

static const AT(block) AT(blocks)[] = {
    AT(block_1), AT(block_2),
#if SPANS > 2
    AT(block_3),
#endif
#if SPANS > 3
    AT(block_4), AT(block_5), AT(block_6),
#endif
};

/* Writes n_columns outputs of every channel, from rows as AT(fill) lays them out; `residual`, if not NULL, is added. It
 * and y have rows of y_size. */
TARGET static void AT(multiply)(const convolution *c, const float *rows, int64_t row_size, int64_t n_columns,
                                const float *residual, float *y, int64_t y_size) {
  const int64_t n_blocks = (c->n_out + ROWS - 1) / ROWS, n_wide = SPANS * WIDTH;
  const int64_t n_spans = (n_columns + n_wide - 1) / n_wide;
  const int is_large = c->n_in * c->taps * c->n_out > LARGE_WEIGHT;
  for (int64_t i = 0; i < n_blocks * n_spans; i++) {
    const int64_t channel = ROWS * (is_large ? i / n_spans : i % n_blocks);
    const int64_t start = n_wide * (is_large ? i % n_spans : i / n_blocks), n = minimum(n_columns - start, n_wide);
    const int64_t at = channel * y_size + start;
    AT(blocks)[(n - 1) / WIDTH](c, channel, rows + start, row_size, n, residual ? residual + at : NULL, y + at, y_size);
  }
}

#endif

/* n outputs of channel k, from its row alone. */
TARGET static void AT(multiply_channel)(const convolution *c, int64_t k, const float *row, float *y, int64_t n) {
  const float *weight = c->weight + k * c->taps, bias = c->bias ? c->bias[k] : 0.0f;
  for (int64_t u = 0; u < n; u++) y[u] = bias;
  for (int64_t i = 0; i < c->taps; i++, row += c->dilation) {
    INDEPENDENT
    for (int64_t u = 0; u < n; u++) y[u] = fma32(weight[i], row[u], y[u], FUSED);
  }
}

/* Units are tiles. */
TARGET static void AT(conv1d_tiles)(const void *data, int64_t first, int64_t last) {
  const tiles *job = data;
  const convolution *c = job->convolution;
  const int64_t row_size = job->size + job->reach + WIDTH;
  const int64_t n_rows = PADDED(c->n_in * c->stride);
  float *rows = malloc((size_t)(n_rows * row_size + (job->size + job->reach) * c->stride) * sizeof(float));
  if (!rows) atomic_store(job->failed, 1);
  for (int64_t i = first; rows && i < last; i++) {
    const tile t = tile_of(job, i);
    AT(fill)
    (c, &job->signal, t.i_batch, t.start, t.n + job->reach, rows, row_size, rows + n_rows * row_size);
    PAIR(rows, c->n_in * c->stride, row_size, t.n + job->reach + WIDTH);
    const int64_t at = t.i_batch * c->n_out * job->n_columns + t.start;
    AT(multiply)(c, rows, row_size, t.n, job->residual ? job->residual + at : NULL, job->y + at, job->n_columns);
  }
  free(rows);
}

TARGET static void AT(unit_tiles)(const void *data, int64_t first, int64_t last) {
  const tiles *job = data;
  const convolution *c = job->convolution, *pointwise = job->pointwise;
  const convolution beside = {.n_in = pointwise->n_in - c->n_out, .stride = 1}; /* channels of x that it reads too */
  const signal x = {job->signal.x, NULL, job->signal.n_time, 0};
  const int64_t row_size = job->size + job->reach + WIDTH, hidden_size = job->size + WIDTH;
  const int64_t n_rows = PADDED(c->n_in), n_hidden = PADDED(pointwise->n_in);
  float *rows = malloc((size_t)(n_rows * row_size + n_hidden * hidden_size) * sizeof(float));
  if (!rows) atomic_store(job->failed, 1);
  for (int64_t i = first; rows && i < last; i++) {
    const tile t = tile_of(job, i);
    float *hidden = rows + n_rows * row_size;
    AT(fill)(c, &job->signal, t.i_batch, t.start, t.n + job->reach, rows, row_size, NULL);
    if (!c->depthwise) {
      PAIR(rows, c->n_in, row_size, t.n + job->reach + WIDTH);
      AT(multiply)(c, rows, row_size, t.n, NULL, hidden, hidden_size);
    }
    for (int64_t k = 0; k < c->n_out; k++) {
      float *row = hidden + k * hidden_size;
      if (c->depthwise) AT(multiply_channel)(c, k, rows + k * row_size, row, t.n);
      AT(activate)(pointwise, k, row, row, t.n);
      memset(row + t.n, 0, WIDTH * sizeof(float));
    }
    AT(fill)(&beside, &x, t.i_batch, t.start, t.n, hidden + c->n_out * hidden_size, hidden_size, NULL);
    PAIR(hidden, pointwise->n_in, hidden_size, t.n + WIDTH);
    const int64_t at = t.i_batch * pointwise->n_out * job->n_columns + t.start;
    const float *residual = job->residual ? job->residual + at : NULL;
    AT(multiply)(pointwise, hidden, hidden_size, t.n, residual, job->y + at, job->n_columns);
  }
  free(rows);
}

#include "convolution_parts.h"

#undef VECTOR
#undef WIDTH
#undef LOAD
#undef STORE
#undef MULTIPLY_ADD
#undef KEEP
#undef SPANS
#undef FUSED
#undef PAIRS
#undef PAIR
#undef PADDED
#undef MATRICES
#undef TARGET
#undef AT
