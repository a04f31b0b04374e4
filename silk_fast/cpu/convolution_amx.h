/* Products by matrix instructions (AMX), included by convolution_tile.h in place of its blocks of vectors.
 *
 * A product takes 16 channels by 16 pairs of rows of weights, and these pairs by 16 columns. Rows are read where
 * AT(pair) left them, for a tap as many columns further on as it lies behind; they are followed by rows of zeros up to a
 * multiple of 16. Weights are packed in the order in which they are read. Sums are those of all rows and taps, in one
 * order for every output. */

#define SIDE 16
#define PRODUCT_BYTES (SIDE * SIDE * 4) /* of weights */

typedef struct {
  uint8_t palette, first_row, unused[14];
  uint16_t n_bytes[16];
  uint8_t n_rows[16];
} tile_shapes;

/* Writes 16 columns, or the first n of them, of channels from `channel` on: sums, biases and maybe residuals. */
TARGET static void write_columns(const convolution *c, int64_t channel, const float (*sums)[SIDE], int64_t n,
                                 const float *residual, float *y, int64_t y_size) {
  const __mmask16 mask = (__mmask16)(n < SIDE ? (1 << n) - 1 : 0xffff);
  for (int64_t m = 0; m < SIDE && channel + m < c->n_out; m++) {
    __m512 row = _mm512_load_ps(sums[m]) + (c->bias ? c->bias[channel + m] : 0.0f);
    if (residual) row += _mm512_maskz_loadu_ps(mask, residual + m * y_size);
    _mm512_mask_storeu_ps(y + m * y_size, mask, row);
  }
}

/* Computes M by N products' worth of outputs: M * 16 channels of N * 16 columns, of which the first n are written. */
#define BLOCK(M, N)                                                                                            \
  TARGET static void amx_block_##M##_##N(const convolution *c, int64_t channel, const float *x, int64_t row_size, \
                                         int64_t n, const float *residual, float *y, int64_t y_size) {         \
    const int64_t n_taps = c->taps / c->stride, n_sides = ((c->n_in * c->stride + 1) / 2 + SIDE - 1) / SIDE;   \
    const int64_t apart = n_sides * n_taps * PRODUCT_BYTES;                                                    \
    const char *weight = (const char *)c->weight + channel / SIDE * apart;                                     \
    _tile_zero(0);                                                                                             \
    if (N > 1) _tile_zero(1);                                                                                  \
    if (M > 1) _tile_zero(2);                                                                                  \
    if (M > 1 && N > 1) _tile_zero(3);                                                                         \
    for (int64_t i = 0; i < n_sides; i++, x += SIDE * row_size)                                                \
      for (int64_t k = 0; k < n_taps; k++, weight += PRODUCT_BYTES) {                                          \
        _tile_loadd(6, x + k * c->dilation, row_size * 4);                                                     \
        _tile_loadd(4, weight, 64);                                                                            \
        _tile_dpbf16ps(0, 4, 6);                                                                               \
        if (N > 1) {                                                                                           \
          _tile_loadd(7, x + k * c->dilation + SIDE, row_size * 4);                                            \
          _tile_dpbf16ps(1, 4, 7);                                                                             \
        }                                                                                                      \
        if (M > 1) {                                                                                           \
          _tile_loadd(5, weight + apart, 64);                                                                  \
          _tile_dpbf16ps(2, 5, 6);                                                                             \
          if (N > 1) _tile_dpbf16ps(3, 5, 7);                                                                  \
        }                                                                                                      \
      }                                                                                                        \
    float sums[4][SIDE][SIDE] __attribute__((aligned(64)));                                                    \
    _tile_stored(0, sums[0], 64);                                                                              \
    if (N > 1) _tile_stored(1, sums[1], 64);                                                                   \
    if (M > 1) _tile_stored(2, sums[2], 64);                                                                   \
    if (M > 1 && N > 1) _tile_stored(3, sums[3], 64);                                                          \
    for (int64_t m = 0; m < M; m++)                                                                            \
      for (int64_t j = 0; j < N; j++) {                                                                        \
        const int64_t at = m * SIDE * y_size + j * SIDE;                                                       \
        write_columns(c, channel + m * SIDE, sums[2 * m + j], n - j * SIDE, residual ? residual + at : NULL,   \
                      y + at, y_size);                                                                         \
      }                                                                                                        \
  }

BLOCK(1, 1)
BLOCK(1, 2)
BLOCK(2, 1)
BLOCK(2, 2)
#undef BLOCK

/* Writes n_columns outputs of every channel, from rows as AT(pair) leaves them; `residual`, if not NULL, is added. It
 * and y have rows of y_size. */
TARGET static void AT(multiply)(const convolution *c, const float *rows, int64_t row_size, int64_t n_columns,
                                const float *residual, float *y, int64_t y_size) {
  tile_shapes before, shapes = {.palette = 1};
  for (int i = 0; i < 8; i++) shapes.n_bytes[i] = 4 * SIDE, shapes.n_rows[i] = SIDE;
  _tile_storeconfig(&before); /* another library's, which may rely on it */
  _tile_loadconfig(&shapes);
  const int64_t n_blocks = (c->n_out + 2 * SIDE - 1) / (2 * SIDE), n_spans = (n_columns + 2 * SIDE - 1) / (2 * SIDE);
  const int is_large = c->n_in * c->taps * c->n_out > LARGE_WEIGHT;
  for (int64_t i = 0; i < n_blocks * n_spans; i++) {
    const int64_t channel = 2 * SIDE * (is_large ? i / n_spans : i % n_blocks);
    const int64_t start = 2 * SIDE * (is_large ? i % n_spans : i / n_blocks), n = n_columns - start;
    const int64_t at = channel * y_size + start;
    const float *x = rows + start, *add = residual ? residual + at : NULL;
    if (c->n_out - channel > SIDE) (n > SIDE ? amx_block_2_2 : amx_block_2_1)(c, channel, x, row_size, n, add, y + at, y_size);
    else (n > SIDE ? amx_block_1_2 : amx_block_1_1)(c, channel, x, row_size, n, add, y + at, y_size);
  }
  _tile_loadconfig(&before);
}
