/* Convolutions that are several convolutions of the same kind, included by convolution_tile.h at every level:
 *
 *   transposed, 2 s taps and stride s: part j of s gives outputs j, j + s, ..., of two inputs each;
 *   7 taps as two fours (Toom and Cook; Winograd): 4 outputs of 4 taps are 7 products instead of 16, of sums of inputs
 *   with sums of weights, which are packed; part k has the two weights of product k.
 *
 * The latter's columns are blocks of 4 d outputs of a convolution dilated by d, each with d columns: output i of column
 * q d + p is q 4 d + i d + p. The weights of the second four meet the columns d further on. */

TARGET static convolution AT(part)(const convolution *c, int64_t k) {
  convolution part = *c;
  const int64_t n_rows = (c->n_in + PAIRS) >> PAIRS, side = MATRICES ? SIDE : 1, block = MATRICES ? SIDE : ROWS;
  part.weight += k * ((c->n_out + block - 1) / block * block) * ((n_rows + side - 1) / side * side) * c->taps;
  return part;
}

/* Units are tiles of inputs; y has rows of y_size, of which the first sample is output `crop`. */
TARGET static void AT(transposed_tiles)(const void *data, int64_t first, int64_t last) {
  const tiles *job = data;
  const convolution *c = job->convolution;
  const int64_t row_size = job->size + job->reach + WIDTH, n_parts = c->n_parts;
  const int64_t n_rows = PADDED(c->n_in);
  float *rows = malloc((size_t)(n_rows * row_size + n_parts * c->n_out * job->size) * sizeof(float));
  float *outputs = rows + n_rows * row_size;
  if (!rows) atomic_store(job->failed, 1);
  for (int64_t i = first; rows && i < last; i++) {
    const tile t = tile_of(job, i);
    AT(fill)(c, &job->signal, t.i_batch, t.start, t.n + job->reach, rows, row_size, NULL);
    PAIR(rows, c->n_in, row_size, t.n + job->reach + WIDTH);
    for (int64_t j = 0; j < n_parts; j++) {
      const convolution part = AT(part)(c, j);
      AT(multiply)(&part, rows, row_size, t.n, NULL, outputs + j * c->n_out * job->size, job->size);
    }
    for (int64_t k = 0; k < c->n_out; k++) {
      float *y = job->y + (t.i_batch * c->n_out + k) * job->y_size;
      for (int64_t j = 0; j < n_parts; j++) {
        const float *row = outputs + (j * c->n_out + k) * job->size;
        const int64_t at = t.start * n_parts + j - job->crop;
        const int64_t u_first = at < 0 ? (-at + n_parts - 1) / n_parts : 0;
        const int64_t u_last = minimum(t.n, (job->y_size - at + n_parts - 1) / n_parts);
        for (int64_t u = u_first; u < u_last; u++) y[at + u * n_parts] = row[u];
      }
    }
  }
  free(rows);
}

#if !PAIRS
/* The sums of inputs whose products have the weights of parts k and k + 1 (k = 0, 2, 4), or of part 6 alone: x is 4
 * rows of in_size, in which row i of column v is input i of its block. */
TARGET static void AT(combine)(const float *x, int64_t in_size, int64_t dilation, int64_t k, float *even, float *odd,
                               int64_t n) {
  static const float thirds[] = {-4.25f, -5.0f, -1.25f}, fifths[] = {1.0f, 4.0f, 0.25f}, points[] = {1.0f, 0.5f, 2.0f};
  const float *x1 = x + in_size, *x2 = x1 + in_size, *x3 = x2 + in_size;
  const float *x4 = x + dilation, *x5 = x1 + dilation, *x6 = x2 + dilation;
  if (k == 6) {
    INDEPENDENT
    for (int64_t v = 0; v < n; v++) even[v] = fma32(x2[v] - x4[v], 5.25f, x6[v] - x[v], FUSED);
    return;
  }
  const float third = thirds[k / 2], fifth = fifths[k / 2], point = points[k / 2];
  INDEPENDENT
  for (int64_t v = 0; v < n; v++) {
    const float a = fma32(x1[v], fifth, fma32(x3[v], third, x5[v], FUSED), FUSED);
    const float b = fma32(x[v], fifth, fma32(x2[v], third, x4[v], FUSED), FUSED) * point;
    even[v] = a + b;
    odd[v] = a - b;
  }
}

/* The 4 outputs of each column from its 7 products, rows of `size` which lie `apart`; into rows 0, 1, 2 and 3. */
TARGET static void AT(resolve)(float *products, int64_t apart, int64_t n, float bias) {
  float *p0 = products, *p1 = p0 + apart, *p2 = p1 + apart, *p3 = p2 + apart;
  const float *p4 = p3 + apart, *p5 = p4 + apart, *p6 = p5 + apart;
  INDEPENDENT
  for (int64_t v = 0; v < n; v++) {
    const float s1 = p0[v] + p1[v], d1 = p0[v] - p1[v];
    const float s2 = p2[v] + p3[v], d2 = p2[v] - p3[v];
    const float s3 = p4[v] + p5[v], d3 = p4[v] - p5[v];
    p0[v] = s1 + s2 + s3 + bias;
    p1[v] = fma32(d3, 2.0f, fma32(d2, 0.5f, d1, FUSED), FUSED) + bias;
    p2[v] = fma32(s3, 4.0f, fma32(s2, 0.25f, s1, FUSED), FUSED) + bias;
    p3[v] = fma32(d3, 8.0f, fma32(d2, 0.125f, d1, FUSED), FUSED) + p6[v] + bias;
  }
}

/* Units are tiles, of a multiple of 4 d outputs. */
TARGET static void AT(fast_unit_tiles)(const void *data, int64_t first, int64_t last) {
  const tiles *job = data;
  const convolution *c = job->convolution, *pointwise = job->pointwise;
  const int64_t n_channels = c->n_in, d = c->dilation, largest = job->size / 4;
  const int64_t in_size = largest + 2 * d, row_size = 4 * in_size + WIDTH, sum_size = largest + d + WIDTH;
  const int64_t split = n_channels * row_size, sums = n_channels * 4 * in_size, products = n_channels * 2 * sum_size;
  float *rows = malloc((size_t)(split + sums + products + N_PRODUCTS * n_channels * largest) * sizeof(float));
  int32_t *place = malloc((size_t)in_size * sizeof(int32_t));
  if (!rows || !place) atomic_store(job->failed, 1);
  for (int64_t v = 0; place && v < in_size; v++) place[v] = (int32_t)(v / d * 4 * d + v % d);
  for (int64_t i_tile = first; rows && place && i_tile < last; i_tile++) {
    const tile t = tile_of(job, i_tile);
    const int64_t n = (t.n + 4 * d - 1) / (4 * d) * d, n_in = n + 2 * d;
    float *inputs = rows + split, *sum = inputs + sums, *product = sum + products;
    AT(fill)(c, &job->signal, t.i_batch, t.start, 4 * n_in, rows, row_size, NULL);
    for (int64_t k = 0; k < n_channels; k++)
      for (int64_t i = 0; i < 4; i++) {
        const float *row = rows + k * row_size + i * d;
        float *out = inputs + (4 * k + i) * in_size;
        for (int64_t v = 0; v < n_in; v++) out[v] = row[place[v]];
      }
    for (int64_t k = 0; k < N_PRODUCTS; k += 2) {
      for (int64_t j = 0; j < n_channels; j++) {
        float *even = sum + j * sum_size, *odd = even + n_channels * sum_size;
        AT(combine)(inputs + 4 * j * in_size, in_size, d, k, even, odd, n + d);
        memset(even + n + d, 0, WIDTH * sizeof(float));
        memset(odd + n + d, 0, WIDTH * sizeof(float));
      }
      for (int64_t j = k; j < minimum(k + 2, N_PRODUCTS); j++) {
        convolution part = AT(part)(c, j);
        part.bias = NULL;
        AT(multiply)
        (&part, sum + (j - k) * n_channels * sum_size, sum_size, n, NULL, product + j * n_channels * largest, largest);
      }
    }
    for (int64_t k = 0; k < n_channels; k++) {
      float *row = rows + k * row_size, *outputs = product + k * largest;
      AT(resolve)(outputs, n_channels * largest, n, c->bias ? c->bias[k] : 0.0f);
      for (int64_t i = 0; i < 4; i++, outputs += n_channels * largest)
        for (int64_t v = 0; v < n; v++) row[place[v] + i * d] = outputs[v];
      AT(activate)(pointwise, k, row, row, t.n);
      memset(row + t.n, 0, WIDTH * sizeof(float));
    }
    const int64_t at = t.i_batch * n_channels * job->n_columns + t.start;
    AT(multiply)(pointwise, rows, row_size, t.n, job->residual + at, job->y + at, job->n_columns);
  }
  free(rows);
  free(place);
}
#endif
