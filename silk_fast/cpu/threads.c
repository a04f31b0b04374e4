/* Which instructions, and which threads: those of PyTorch's own pool, whose OpenMP runtime is given as a function. */
#include "loops.h"

#include <stdatomic.h>

/* GOMP_parallel of libgomp, which LLVM's and Intel's runtimes have too: calls `work` once on each of `threads`. */
typedef void (*parallel_call)(void (*work)(void *), void *data, unsigned threads, unsigned flags);

static parallel_call call_in_parallel;
static int level;

void silk_use_parallel(parallel_call call) { call_in_parallel = call; }

/* Uses loops of at most this level: 0 for every processor, 1 for x86-64-v3, 2 for v4. Returns the level that is used,
 * which the processor bounds. */
int silk_use_level(int highest) {
  level = 0;
#ifdef __x86_64__
  __builtin_cpu_init();
  if (highest > 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = 1;
  if (highest > 1 && level == 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    level = 2;
#else
  (void)highest;
#endif
  return level;
}

typedef struct {
  silk_loop loop;
  const void *job;
  int64_t n, chunk;
  atomic_int_least64_t next;
} share;

static void work(void *data) {
  share *shared = data;
  for (;;) {
    int64_t first = atomic_fetch_add(&shared->next, shared->chunk);
    if (first >= shared->n) return;
    int64_t rest = shared->n - first;
    shared->loop(shared->job, first, first + (rest < shared->chunk ? rest : shared->chunk));
  }
}

void silk_run(const silk_loop *loops, const void *job, int64_t n, int64_t chunk, int threads) {
  if (threads < 2 || n <= chunk || !call_in_parallel) {
    loops[level](job, 0, n);
    return;
  }
  share shared = {loops[level], job, n, chunk, 0};
  call_in_parallel(work, &shared, (unsigned)threads, 0);
}

/* Checksum of the sources that this was built from. */
uint32_t silk_sources(void) { return SILK_SOURCES; }
