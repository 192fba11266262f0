/* Running the network: the loop over its steps, its weights, and the memory of its tensors.
 *
 * The code generator makes the rest, see network.h. The files beside this one are compiled once and then kept.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "network.h"
#include "services.h"

/* ---- zero borders ---- */

void zero_border(char *box, int64_t outer, int rank, const int64_t *extent, const int64_t *before,
                 const int64_t *after, int64_t inner) {
  int64_t row = inner;
  for (int axis = 1; axis < rank; axis++) row *= extent[axis];
  for (int64_t o = 0; o < outer; o++, box += row * extent[0]) {
    memset(box, 0, before[0] * row);
    memset(box + (extent[0] - after[0]) * row, 0, after[0] * row);
    if (rank > 1)
      zero_border(box + before[0] * row, extent[0] - before[0] - after[0], rank - 1, extent + 1, before + 1, after + 1,
                  inner);
  }
}

/* ---- for measurements ---- */

void evict(const char *from, int64_t bytes) {
#if defined(__x86_64__)
  for (int64_t i = 0; i < bytes; i += 64) __builtin_ia32_clflush(from + i);
  __builtin_ia32_mfence();
#elif defined(__aarch64__)
  for (int64_t i = 0; i < bytes; i += 64) __asm__ volatile("dc civac, %0" ::"r"(from + i) : "memory");
  __asm__ volatile("dsb sy" ::: "memory");
#else
  (void)from, (void)bytes;
#endif
}

/* ---- weights: mapped from this very file, whose end says where they are (see runtime/container.py) ---- */

typedef struct {
  uint64_t weights_offset, weights_bytes, manifest_bytes;
  char magic[8];
} Trailer;

static const char *weights;

__attribute__((constructor)) static void map_weights(void) {
  Dl_info self;
  Trailer trailer;
  struct stat status;
  if (!dladdr((void *)map_weights, &self)) return;
  int file = open(self.dli_fname, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  if (!fstat(file, &status) && status.st_size > (off_t)sizeof trailer &&
      pread(file, &trailer, sizeof trailer, status.st_size - sizeof trailer) == sizeof trailer &&
      !memcmp(trailer.magic, "CONVCMOD", sizeof trailer.magic) && trailer.weights_bytes == convc_weights_bytes &&
      trailer.weights_offset < (uint64_t)status.st_size &&
      trailer.weights_bytes < status.st_size - trailer.weights_offset) {
    /* one byte more than needed: a network may have no weights at all */
    void *mapped = mmap(0, trailer.weights_bytes + 1, PROT_READ, MAP_PRIVATE, file, trailer.weights_offset);
    if (mapped != MAP_FAILED) weights = mapped;
  }
  close(file);
}

/* ---- running the network ---- */

/* Workspaces are kept for later calls; as many exist as calls ever ran at once. */
typedef struct Spare {
  struct Spare *next;
} Spare;
static Spare *spares;
static pthread_mutex_t spares_lock = PTHREAD_MUTEX_INITIALIZER;

static char *take_workspace(void) {
  pthread_mutex_lock(&spares_lock);
  Spare *spare = spares;
  if (spare) spares = spare->next;
  pthread_mutex_unlock(&spares_lock);
  void *block = spare;
  if (!block && posix_memalign(&block, 4096, convc_workspace_bytes + 4096)) return 0;
  return block;
}

static void give_workspace(char *block) {
  Spare *spare = (Spare *)block;
  pthread_mutex_lock(&spares_lock);
  spare->next = spares;
  spares = spare;
  pthread_mutex_unlock(&spares_lock);
}

/* A child of fork has this thread only, and perhaps a lock that another one held. */
static void forked(void) { pthread_mutex_init(&spares_lock, 0); }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(0, 0, forked); }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

enum { OK = 0, OUT_OF_MEMORY = -1, NO_WEIGHTS = -2, STEP_FAILED = 1 };

/* Run all steps on `threads` threads; `seconds`, if given, receives the time of each step. Returns OK,
 * OUT_OF_MEMORY, NO_WEIGHTS, or STEP_FAILED + the index of the step that failed. */
__attribute__((visibility("default"))) int convc_run(char *const *inputs, char *const *outputs, int threads,
                                                      double *seconds) {
  if (!weights) return NO_WEIGHTS;
  char *workspace = take_workspace();
  if (!workspace) return OUT_OF_MEMORY;
  services->begin_call(threads);
  FloatMode before = enter_own_mode();
  Call call = {inputs, outputs, workspace, weights};
  int status = OK;
  for (int i = 0; i < convc_step_count && status == OK; i++) {
    double start = seconds ? now() : 0;
    if (convc_steps[i](&call)) status = STEP_FAILED + i;
    if (seconds) seconds[i] = now() - start;
  }
  leave_own_mode(before);
  services->end_call();
  give_workspace(workspace);
  return status;
}
