/* The part of the CUDA driver's interface that modules use, declared here so that they link on machines without
 * a toolkit. Prototypes and numbers are those of cuda.h (CUDA 13.0), names are the library's own: where cuda.h
 * renames a function (cuMemAlloc to cuMemAlloc_v2), the version is part of the name. */
#include <stddef.h>

typedef int CUresult, CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;

typedef struct {
  CUfunction func;
  unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
  void **kernelParams, **extra;
  void *kern;
  CUcontext ctx;
} CUDA_KERNEL_NODE_PARAMS; /* _v2 */

enum { CUDA_SUCCESS = 0, CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_NO_DEVICE = 100 };
enum { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76 };
enum { CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9 };
enum { CU_STREAM_NON_BLOCKING = 1, CU_EVENT_DISABLE_TIMING = 2 };

#define DRIVER_FUNCTIONS(F)                                                                                         \
  F(cuInit, (unsigned flags))                                                                                       \
  F(cuDriverGetVersion, (int *version))                                                                             \
  F(cuGetErrorName, (CUresult error, const char **name))                                                            \
  F(cuGetErrorString, (CUresult error, const char **text))                                                          \
  F(cuDeviceGetCount, (int *count))                                                                                 \
  F(cuDeviceGet, (CUdevice * device, int ordinal))                                                                  \
  F(cuDeviceGetName, (char *name, int size, CUdevice device))                                                       \
  F(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                                             \
  F(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                               \
  F(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                                                \
  F(cuCtxPushCurrent_v2, (CUcontext context))                                                                       \
  F(cuCtxPopCurrent_v2, (CUcontext * context))                                                                      \
  F(cuCtxSynchronize, (void))                                                                                       \
  F(cuMemGetInfo_v2, (size_t *free, size_t *total))                                                                 \
  F(cuMemAlloc_v2, (CUdeviceptr * pointer, size_t bytes))                                                           \
  F(cuMemFree_v2, (CUdeviceptr pointer))                                                                            \
  F(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))                                              \
  F(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))                        \
  F(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))                              \
  F(cuPointerGetAttribute, (void *value, int attribute, CUdeviceptr pointer))                                       \
  F(cuModuleLoadData, (CUmodule * module, const void *image))                                                       \
  F(cuModuleUnload, (CUmodule module))                                                                              \
  F(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))                                \
  F(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                                            \
  F(cuLaunchKernel, (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,          \
                     unsigned bz, unsigned shared, CUstream stream, void **arguments, void **extra))                \
  F(cuStreamCreate, (CUstream * stream, unsigned flags))                                                            \
  F(cuStreamDestroy_v2, (CUstream stream))                                                                          \
  F(cuStreamSynchronize, (CUstream stream))                                                                         \
  F(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                                            \
  F(cuStreamGetId, (CUstream stream, unsigned long long *id))                                                       \
  F(cuEventCreate, (CUevent * event, unsigned flags))                                                               \
  F(cuEventDestroy_v2, (CUevent event))                                                                             \
  F(cuEventRecord, (CUevent event, CUstream stream))                                                                \
  F(cuEventSynchronize, (CUevent event))                                                                            \
  F(cuEventElapsedTime, (float *milliseconds, CUevent start, CUevent end))                                          \
  F(cuGraphCreate, (CUgraph * graph, unsigned flags))                                                               \
  F(cuGraphDestroy, (CUgraph graph))                                                                                \
  F(cuGraphAddKernelNode_v2, (CUgraphNode * node, CUgraph graph, const CUgraphNode *after, size_t afters,           \
                              const CUDA_KERNEL_NODE_PARAMS *params))                                               \
  F(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                     \
  F(cuGraphExecDestroy, (CUgraphExec exec))                                                                         \
  F(cuGraphExecKernelNodeSetParams_v2, (CUgraphExec exec, CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *params)) \
  F(cuGraphLaunch, (CUgraphExec exec, CUstream stream))

typedef struct {
  void *library;
#define MEMBER(name, parameters) CUresult(*name) parameters;
  DRIVER_FUNCTIONS(MEMBER)
#undef MEMBER
} Driver;

/* driver.c: fill the table; failures as in failure.h. The library stays loaded until `unload_driver`. */
int load_driver(Driver *driver);
void unload_driver(Driver *driver);
