/* Harmonics of a voice in spectra: what `add_harmonics` of the reference does to a log-magnitude and a phase.
 *
 * Of bin k and harmonic h, the nearest, x = k - h * spacing is their distance in bins, r(x) = |sin pi x| / (pi |x| |1 -
 * x^2|) the response of a Hann window at it, and w = sigmoid((cutoff - f_k) / width):
 *
 *     m += w * log(max(r(x), deepest)),    p = h * turns + k / 2 turns if w > 1/2.
 *
 * Distances are float64, as a spacing times hundreds of harmonics is no float32. Time is what is contiguous, so a unit is
 * one bin of one signal. */
#include "maths.h"

typedef struct {
  const float *log_magnitude, *phase; /* [B, N, K], contiguous along N */
  int64_t m_strides[2], p_strides[2]; /* of B and K */
  const double *spacing, *cutoff;     /* [B, N]: bins, Hz; minus infinity where there is no voice */
  const int64_t *counted;             /* [B, N]: 2^-32 turns */
  float *new_magnitude, *new_phase;   /* [B, K, N] */
  int64_t n_frames, n_bins;
  double bin, inverse_width, deepest; /* Hz, 1 / Hz, 1 */
} harmonics_job;

/* log(response) of a distance x, |x| < 2^21. */
INLINE float log_response(float x, float deepest, int fused) {
  float beside = x - nearest(x + ROUND_MAGIC); /* sin(pi x) is, but for its sign, that of this */
  float distance = (x - 1.0f) * (x + 1.0f);
  float ratio = beside == x ? 1.0f : beside / x;
  float response = ratio * sine_per_half_turns(beside * beside, fused) * 0.318309886f / distance;
  response = response < 0.0f ? -response : response;
  response = distance < 1e-4f && distance > -1e-4f ? 0.5f : response; /* its limit, where it is 0 / 0 */
  return log32(at_least(response, deepest), fused);
}

INLINE void add_harmonics(const void *given, int64_t first, int64_t last, int fused) {
  const harmonics_job *job = given;
  for (int64_t i = first; i < last; i++) {
    int64_t i_batch = i / job->n_bins, bin = i % job->n_bins, n = job->n_frames;
    const float *m = job->log_magnitude + i_batch * job->m_strides[0] + bin * job->m_strides[1];
    const float *p = job->phase + i_batch * job->p_strides[0] + bin * job->p_strides[1];
    const double *spacing = job->spacing + i_batch * n, *cutoff = job->cutoff + i_batch * n;
    const int64_t *counted = job->counted + i_batch * n;
    float *new_m = job->new_magnitude + i * n, *new_p = job->new_phase + i * n;
    double k = (double)bin, frequency = k * job->bin;
    uint32_t half_turn = (uint32_t)bin << 31; /* in every other bin: the middle of a pulse in the middle of the frame */
    INDEPENDENT
    for (int64_t t = 0; t < n; t++) {
      double shifted = k / spacing[t] + ROUND_MAGIC_64, harmonic = shifted - ROUND_MAGIC_64;
      harmonic = harmonic < 1.0 ? 1.0 : harmonic;
      float x = (float)(k - harmonic * spacing[t]);
      float above = (float)(cutoff[t] - frequency) * (float)job->inverse_width;
      float depth = sigmoid(above, fused), valley = log_response(x, (float)job->deepest, fused);
      uint32_t turned = (uint32_t)(int32_t)harmonic * (uint32_t)counted[t] + half_turn;
      new_m[t] = m[t] + depth * valley;
      new_p[t] = depth > 0.5f ? (float)turned * 1.46291807926716e-09f /* 2 pi / 2^32 */ : p[t];
    }
  }
}

LOOPS(add_harmonics)

void silk_add_harmonics(const float *log_magnitude, const float *phase, const double *spacing, const double *cutoff,
                        const int64_t *counted, float *new_magnitude, float *new_phase, int64_t m_batch, int64_t m_bin,
                        int64_t p_batch, int64_t p_bin, int64_t n_batch, int64_t n_frames, int64_t n_bins, double bin,
                        double width, double deepest, int threads) {
  const harmonics_job job = {log_magnitude, phase,     {m_batch, m_bin}, {p_batch, p_bin}, spacing,
                             cutoff,        counted,   new_magnitude,    new_phase,        n_frames,
                             n_bins,        bin,       1.0 / width,      deepest};
  silk_run(add_harmonics_loops, &job, n_batch * n_bins, 16, threads);
}
