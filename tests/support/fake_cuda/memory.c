/* Device memory: the host's, with fences on both sides. */
#include "fake_cuda.h"

enum { FENCE = 256 };

typedef struct Block {
  struct Block *next;
  char *raw, *data;
  size_t bytes;
  int device;
} Block;
static Block *blocks;
static size_t used;

static Block *block_of(CUdeviceptr pointer, size_t bytes) {
  for (Block *block = blocks; block; block = block->next) {
    CUdeviceptr start = (uintptr_t)block->data;
    if (pointer >= start && pointer + bytes <= start + block->bytes) return block;
  }
  return 0;
}

int is_device_memory(CUdeviceptr pointer, size_t bytes) { return block_of(pointer, bytes) != 0; }

static int is_fenced(const Block *block) {
  for (int i = 0; i < FENCE; i++)
    if (block->data[-1 - i] != 0x5a || block->data[block->bytes + i] != 0x5a) return 0;
  return 1;
}

CUresult check_fences(const char *function) {
  for (Block *block = blocks; block; block = block->next)
    if (!is_fenced(block)) return fault(ILLEGAL_ADDRESS, "wrote beyond its memory", function);
  return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  CALL(CONTEXT_AND_DEVICE);
  size_t all = setting("FAKE_CUDA_FREE", 8ll << 30);
  *available = used < all ? all - used : 0;
  *total = 8ll << 30;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  CALL(CONTEXT_AND_DEVICE);
  if (!bytes) return INVALID_VALUE;
  if (used + bytes > (size_t)setting("FAKE_CUDA_FREE", 8ll << 30)) return CUDA_ERROR_OUT_OF_MEMORY;
  Block *block = calloc(1, sizeof *block);
  size_t whole = (bytes + 3 * FENCE) / FENCE * FENCE;
  block->raw = aligned_alloc(FENCE, whole);
  memset(block->raw, 0x5a, whole);
  block->data = block->raw + FENCE;
  memset(block->data, 0xff, bytes);
  block->bytes = bytes;
  block->device = current_device();
  block->next = blocks;
  blocks = block;
  used += bytes;
  live[MEMORY]++;
  *pointer = (uintptr_t)block->data;
  return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  CALL(RELEASE);
  for (Block **link = &blocks; *link; link = &(*link)->next) {
    Block *block = *link;
    if ((uintptr_t)block->data != pointer) continue;
    int sound = is_fenced(block);
    *link = block->next;
    used -= block->bytes;
    live[MEMORY]--;
    memset(block->data, 0xee, block->bytes);
    free(block->raw);
    free(block);
    return sound ? CUDA_SUCCESS : fault(ILLEGAL_ADDRESS, "memory was overrun", __func__);
  }
  return fault(INVALID_VALUE, "no such memory", __func__);
}

CUresult cuPointerGetAttribute(void *value, int attribute, CUdeviceptr pointer) {
  CALL(CONTEXT_AND_DEVICE);
  Block *block = block_of(pointer, 0);
  if (!block || attribute != CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) return INVALID_VALUE;
  *(int *)value = block->device;
  return CUDA_SUCCESS;
}

