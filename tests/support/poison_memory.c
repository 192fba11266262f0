/* For LD_PRELOAD: aligned memory, of which modules make workspaces and scratch, is full of NaN when it is new. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int posix_memalign(void **block, size_t alignment, size_t bytes) {
  *block = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!*block) return ENOMEM;
  memset(*block, 0xFF, bytes);
  return 0;
}
