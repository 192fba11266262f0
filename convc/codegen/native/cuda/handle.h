/* An open module on one device. */
#include <pthread.h>
#include <sys/types.h>

#include "failure.h"
#include "tables.h"

typedef struct {
  Driver driver;
  pid_t owner; /* the driver works in the process that opened it, never in its children */
  int ordinal;
  char name[128];
  int retained; /* the primary context, which PyTorch and CuPy use too */
  CUdevice device;
  CUcontext context;
  CUmodule *modules;
  CUfunction *functions;
  CUdeviceptr weights;
  CUdeviceptr arena; /* the workspace, then room for every input and output that is on the host */
  CUdeviceptr *staging;
  CUdeviceptr *bound;  /* where the graph's inputs and outputs are now */
  int half_bound;      /* some of the graph's nodes may know other places */
  CUdeviceptr *values; /* the arguments of all launches */
  void **params;       /* pointers to them; each launch's end with a null, which only the tests' driver needs */
  CUgraph graph;
  CUgraphNode *nodes;
  CUgraphExec exec;
  CUstream own;         /* where calls run that know of no stream */
  CUevent done, copied; /* the last call, and its inputs from the host */
  pthread_mutex_t lock; /* of all that follows `staging`: one call at a time is put on a stream */
} Handle;

/* Do it or return from the calling function with the failure. */
#define DO(handle, what, call) DO_FOR(handle, what, 0, call)
#define DO_FOR(handle, what, function, call)                                                      \
  do {                                                                                            \
    CUresult result_ = (handle)->driver.call;                                                     \
    if (result_) return driver_failed(&(handle)->driver, result_, what, function);                \
  } while (0)

/* handle.c: work with the device stands between these, so that the caller's current context stays as it is. */
int enter(Handle *handle);
void leave(Handle *handle);

/* graph.c */
int build_graph(Handle *handle);
int bind_operands(Handle *handle, const CUdeviceptr *operands);
void launch_params(const Handle *handle, int launch, CUDA_KERNEL_NODE_PARAMS *params);
void resolve_arguments(Handle *handle, int launch);

/* weights.c */
int upload_weights(Handle *handle, const char *path);
