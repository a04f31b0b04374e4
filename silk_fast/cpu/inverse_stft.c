/* What surrounds the inverse DFT of an inverse STFT: the spectrum before, windows and overlap-add after.
 *
 * Spectrum: X = exp(min(m, log 100)) * exp(i p) / n_fft, and from it, as a real inverse DFT of length n = 2h is a
 * complex one of length h, Z_k = (X_k + conj X_{h-k}) + i w^k (X_k - conj X_{h-k}), w = e^{2 pi i / n}
 * (docs/kernels.md). A unit is a block of frames; bins go in tiles of k and h - k, which are copied first where time is
 * what is contiguous.
 *
 * Overlap-add: y[t] = sum_f gain * window[t - f * hop] * frames[f, t - f * hop], from the oldest frame to the newest,
 * onto what earlier frames add. A unit is a segment of one hop. */
#include "maths.h"

#define BLOCK 16 /* frames: a cache line where time is contiguous */
#define TILE 64  /* bins, or samples of an envelope */
#define LOG_LIMIT 4.605170186f

typedef struct {
  const void *log_magnitude, *phase; /* [B, N, h + 1], of any strides */
  int64_t m_strides[3], p_strides[3];
  const float *twiddles; /* [2, h]: real and imaginary part of w^k */
  float *spectrum;       /* [B, N, h, 2] */
  int64_t n_frames, half;
} spectrum_job;

/* Copies bins k0 to k0 + n, step 1 or -1, of a block of frames. */
INLINE void load_tile(float (*tile)[TILE], const void *source, int64_t start, int64_t stride_n, int64_t stride_k,
                      int64_t n_frames, int64_t n_bins, int half) {
  if (stride_k == 1 || stride_k == -1) {
    for (int64_t n = 0; n < n_frames; n++)
      for (int64_t k = 0; k < n_bins; k++) tile[n][k] = load(source, start + n * stride_n + k * stride_k, half);
  } else {
    for (int64_t k = 0; k < n_bins; k++)
      for (int64_t n = 0; n < n_frames; n++) tile[n][k] = load(source, start + n * stride_n + k * stride_k, half);
  }
}

/* From log-magnitude and phase to real and imaginary part, in place. */
INLINE void from_polar(float *restrict m, float *restrict p, int64_t n_bins, float scale, int fused) {
  for (int64_t k = 0; k < n_bins; k++) {
    float magnitude = exp32(at_most(m[k], LOG_LIMIT), fused) * scale, sine, cosine;
    sincos32(p[k], &sine, &cosine, fused);
    m[k] = magnitude * cosine;
    p[k] = magnitude * sine;
  }
}

INLINE void spectrum(const spectrum_job *job, int64_t first, int64_t last, int fused, int half_precision) {
  int64_t h = job->half, n_blocks = (job->n_frames + BLOCK - 1) / BLOCK, n_low = h / 2 + 1;
  const float *real = job->twiddles, *imaginary = job->twiddles + h;
  const int64_t *ms = job->m_strides, *ps = job->p_strides;
  float tiles[4][BLOCK][TILE];
  for (int64_t i = first; i < last; i++) {
    int64_t i_batch = i / n_blocks, i_frame = i % n_blocks * BLOCK;
    int64_t n_frames = job->n_frames - i_frame < BLOCK ? job->n_frames - i_frame : BLOCK;
    int64_t m_start = i_batch * ms[0] + i_frame * ms[1], p_start = i_batch * ps[0] + i_frame * ps[1];
    for (int64_t k0 = 0; k0 < n_low; k0 += TILE) {
      int64_t n = n_low - k0 < TILE ? n_low - k0 : TILE, mirror = h - k0;
      load_tile(tiles[0], job->log_magnitude, m_start + k0 * ms[2], ms[1], ms[2], n_frames, n, half_precision);
      load_tile(tiles[1], job->phase, p_start + k0 * ps[2], ps[1], ps[2], n_frames, n, half_precision);
      load_tile(tiles[2], job->log_magnitude, m_start + mirror * ms[2], ms[1], -ms[2], n_frames, n, half_precision);
      load_tile(tiles[3], job->phase, p_start + mirror * ps[2], ps[1], -ps[2], n_frames, n, half_precision);
      for (int64_t f = 0; f < n_frames; f++) {
        float *low_re = tiles[0][f], *low_im = tiles[1][f], *high_re = tiles[2][f], *high_im = tiles[3][f];
        from_polar(low_re, low_im, n, 0.5f / (float)h, fused);
        from_polar(high_re, high_im, n, 0.5f / (float)h, fused);
        if (k0 == 0) low_im[0] = high_im[0] = 0.0f; /* of DC and Nyquist */
        float *z = job->spectrum + ((i_batch * job->n_frames + i_frame + f) * h + k0) * 2;
        float *mirrored = job->spectrum + ((i_batch * job->n_frames + i_frame + f) * h + mirror) * 2;
        /* Z_k = even + turned, Z_{h-k} = conj(even - turned), turned = i w^k odd */
        INDEPENDENT
        for (int64_t k = 0; k < n; k++) {
          float w_re = real[k0 + k], w_im = imaginary[k0 + k];
          float even_re = low_re[k] + high_re[k], even_im = low_im[k] - high_im[k];
          float odd_re = low_re[k] - high_re[k], odd_im = low_im[k] + high_im[k];
          float turned_re = -w_im * odd_re - w_re * odd_im, turned_im = w_re * odd_re - w_im * odd_im;
          z[2 * k] = even_re + turned_re;
          z[2 * k + 1] = even_im + turned_im;
          low_re[k] = even_re - turned_re;
          low_im[k] = turned_im - even_im;
        }
        INDEPENDENT
        for (int64_t k = k0 == 0; k < n; k++) { /* bin h is no bin of Z */
          mirrored[-2 * k] = low_re[k];
          mirrored[-2 * k + 1] = low_im[k];
        }
      }
    }
  }
}

LOOPS_OF_BOTH(spectrum)

void silk_polar_spectrum(const void *log_magnitude, const void *phase, const float *twiddles, float *z,
                         int64_t m_stride_b, int64_t m_stride_n, int64_t m_stride_k, int64_t p_stride_b,
                         int64_t p_stride_n, int64_t p_stride_k, int64_t n_batch, int64_t n_frames, int64_t half,
                         int half_precision, int threads) {
  const spectrum_job job = {
      log_magnitude, phase, {m_stride_b, m_stride_n, m_stride_k}, {p_stride_b, p_stride_n, p_stride_k}, twiddles, z,
      n_frames,      half};
  int64_t n_blocks = (n_frames + BLOCK - 1) / BLOCK;
  silk_run(half_precision ? spectrum_half_loops : spectrum_float_loops, &job, n_batch * n_blocks, 1, threads);
}

/* ---------------------------------------------------------------- windows and overlap-add */

enum { NONE, CONSTANT, WINDOW };

typedef struct {
  const float *frames, *window, *overlap; /* [B, N, n_fft], [n_fft], [B, n_fft - hop] or NULL */
  float *y;                               /* [B, n_out] */
  int64_t n_frames, hop, n_overlaps, skipped, n_out, normalization;
  float gain;
} overlap_add_job;

/* A unit is a segment of a signal: samples i * hop to (i + 1) * hop, of which those from `skipped` on are kept. */
INLINE void overlap_add(const void *data, int64_t first, int64_t last, int fused) {
  const overlap_add_job *job = data;
  int64_t hop = job->hop, n_segments = job->n_frames + job->n_overlaps - 1;
  for (int64_t i = first; i < last; i++) {
    int64_t i_batch = i / n_segments, i_segment = i % n_segments, offset = i_segment * hop - job->skipped;
    int64_t start = offset < 0 ? -offset : 0, end = job->n_out - offset < hop ? job->n_out - offset : hop;
    if (start >= end) continue;
    float *y = job->y + i_batch * job->n_out + offset;
    if (job->overlap && i_segment < job->n_overlaps - 1)
      memcpy(y + start, job->overlap + (i_batch * (job->n_overlaps - 1) + i_segment) * hop + start,
             (size_t)(end - start) * sizeof *y);
    else memset(y + start, 0, (size_t)(end - start) * sizeof *y);
    int64_t oldest = i_segment - job->n_overlaps + 1, newest = i_segment;
    oldest = oldest < 0 ? 0 : oldest;
    newest = newest < job->n_frames ? newest : job->n_frames - 1;
    for (int64_t f = oldest; f <= newest; f++) {
      const float *window = job->window + (i_segment - f) * hop;
      const float *frame = job->frames + ((i_batch * job->n_frames + f) * job->n_overlaps + i_segment - f) * hop;
      INDEPENDENT
      for (int64_t t = start; t < end; t++) y[t] = fma32(job->gain * window[t], frame[t], y[t], fused);
    }
    for (int64_t t = start; t < end && job->normalization == WINDOW; t += TILE) {
      int64_t n = end - t < TILE ? end - t : TILE;
      float envelope[TILE] = {0};
      for (int64_t f = oldest; f <= newest; f++) {
        const float *window = job->window + (i_segment - f) * hop + t;
        for (int64_t k = 0; k < n; k++) envelope[k] = fma32(window[k], window[k], envelope[k], fused);
      }
      INDEPENDENT
      for (int64_t k = 0; k < n; k++) y[t + k] /= envelope[k];
    }
  }
}

LOOPS(overlap_add)

void silk_overlap_add(const float *frames, const float *window, const float *overlap, float *y, int64_t n_batch,
                      int64_t n_frames, int64_t n_fft, int64_t hop, int64_t skipped, int64_t n_out, int normalization,
                      int threads) {
  float squares[LANES] = {0};
  for (int64_t i = 0; normalization == CONSTANT && i < n_fft; i++) squares[i % LANES] += window[i] * window[i];
  float gain = normalization == CONSTANT ? (float)hop / total(squares) : 1.0f;
  int64_t n_overlaps = n_fft / hop, n_segments = n_frames + n_overlaps - 1;
  const overlap_add_job job = {frames,  window, overlap,       y,   n_frames, hop, n_overlaps,
                               skipped, n_out,  normalization, gain};
  silk_run(overlap_add_loops, &job, n_batch * n_segments, 1 + 8192 / hop, threads);
}
