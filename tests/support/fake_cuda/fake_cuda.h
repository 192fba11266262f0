/* What the parts of the tests' driver share; see fake_cuda.c. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define DECLARE(name, parameters) CUresult name parameters;
DRIVER_FUNCTIONS(DECLARE)
#undef DECLARE

enum {
  INVALID_VALUE = 1,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILED = 719,
  UNKNOWN = 999,
};

/* fake_cuda.c: every function of the driver begins with CALL, which holds the lock until it returns. */
enum { MEMORY, MODULE, STREAM, EVENT, GRAPH, EXEC, CONTEXT, KINDS };
extern long live[KINDS];
extern CUresult broken; /* after a fault every call fails, as with the real driver */
enum { NOTHING, CONTEXT_AND_DEVICE, RELEASE }; /* what a call needs; things can be given up after a fault too */
CUresult begin(const char *name, int needs);
void leave_call(CUresult *result);
#define CALL(needs)                                                              \
  CUresult begun __attribute__((cleanup(leave_call))) = begin(__func__, needs); \
  if (begun) return begun
int current_device(void);
long long setting(const char *name, long long otherwise);
CUresult fault(CUresult error, const char *why, const char *function);

/* memory.c: whether so many bytes are the device's, all in one piece; and whether no fence was trampled on. */
int is_device_memory(CUdeviceptr pointer, size_t bytes);
CUresult check_fences(const char *function);

/* kernels.c: a launch, with its arguments as they were when it was put on a stream or into a graph. */
enum { MAX_ARGUMENTS = 64 };
typedef struct {
  CUfunction function;
  unsigned grid[3], block[3], shared_bytes;
  CUdeviceptr values[MAX_ARGUMENTS];
  int count;
} Kernel;
CUresult take_kernel(Kernel *kernel, const CUDA_KERNEL_NODE_PARAMS *params);
CUresult execute_kernel(Kernel *kernel);

/* graphs.c: nodes in the order of their creation. */
typedef struct {
  int count;
  CUgraphNode *nodes;
} Graph;
Graph *snapshot(CUgraphExec exec);
CUresult run_graph(Graph *graph);

/* streams.c */
CUresult put_kernel(CUstream stream, const Kernel *kernel);
CUresult put_graph(CUstream stream, CUgraphExec exec);
long pending(void);
