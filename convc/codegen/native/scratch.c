/* Scratch memory for kernels: blocks are kept by the thread that used them.
 *
 * Kernels ask for their larger intermediate tensors through TVMBackendAllocWorkspace, often the same sizes call
 * after call, for which fresh memory would have to be mapped and cleared each time.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "services.h"

enum { SCRATCH_SLOTS = 8 };
typedef struct {
  struct {
    void *block;
    size_t bytes;
    int used;
  } slots[SCRATCH_SLOTS];
} Scratch;

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static __thread Scratch *scratch;

static void free_scratch(void *pointer) {
  Scratch *own = pointer;
  for (int i = 0; i < SCRATCH_SLOTS; i++) free(own->slots[i].block);
  free(own);
}

static void make_scratch_key(void) { pthread_key_create(&scratch_key, free_scratch); }

void *workspace_alloc(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  if (!scratch) {
    pthread_once(&scratch_once, make_scratch_key);
    scratch = calloc(1, sizeof *scratch);
    if (!scratch) return 0;
    pthread_setspecific(scratch_key, scratch);
  }
  int best = -1, spare = -1;
  for (int i = 0; i < SCRATCH_SLOTS; i++) {
    if (scratch->slots[i].used) continue;
    /* The smallest makes room for a larger one: the large ones are what is costly to map again. */
    if (spare < 0 || scratch->slots[i].bytes < scratch->slots[spare].bytes) spare = i;
    if (scratch->slots[i].bytes >= bytes && (best < 0 || scratch->slots[i].bytes < scratch->slots[best].bytes)) best = i;
  }
  if (best < 0 && spare >= 0) {
    void *block;
    if (posix_memalign(&block, 4096, bytes)) return 0;
    free(scratch->slots[spare].block);
    scratch->slots[spare].block = block;
    scratch->slots[spare].bytes = bytes;
    best = spare;
  }
  if (best < 0) {
    void *block;
    return posix_memalign(&block, 64, bytes) ? 0 : block;
  }
  scratch->slots[best].used = 1;
  return scratch->slots[best].block;
}

int workspace_free(int device_type, int device_id, void *pointer) {
  (void)device_type, (void)device_id;
  for (int i = 0; scratch && i < SCRATCH_SLOTS; i++)
    if (scratch->slots[i].block == pointer) return scratch->slots[i].used = 0;
  free(pointer);
  return 0;
}
