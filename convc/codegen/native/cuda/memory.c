/* Memory of the device for results, and its order with streams that are not the module's. */
#include "handle.h"

__attribute__((visibility("default"))) int convc_cuda_alloc(Handle *handle, uint64_t bytes, CUdeviceptr *pointer) {
  int status = enter(handle);
  if (status) return status;
  CUresult result = handle->driver.cuMemAlloc_v2(pointer, bytes);
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "allocating an output", 0) : OK;
}

/* Free memory that other libraries may still be working on, on streams that nobody here knows. */
__attribute__((visibility("default"))) int convc_cuda_free(Handle *handle, CUdeviceptr pointer) {
  int status = enter(handle);
  if (status) return status;
  handle->driver.cuCtxSynchronize();
  CUresult result = handle->driver.cuMemFree_v2(pointer);
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "freeing an output", 0) : OK;
}

/* Let a stream wait for the last call. */
__attribute__((visibility("default"))) int convc_cuda_wait(Handle *handle, CUstream stream) {
  int status = enter(handle);
  if (status) return status;
  CUresult result = handle->driver.cuStreamWaitEvent(stream, handle->done, 0);
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "waiting for the last call", 0) : OK;
}

/* Let the module's own stream or another wait for what `first` was given up to now. */
__attribute__((visibility("default"))) int convc_cuda_order(Handle *handle, CUstream first, CUstream then) {
  CUevent event = 0;
  int status = enter(handle);
  if (status) return status;
  CUresult result = handle->driver.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
  if (!result) result = handle->driver.cuEventRecord(event, first);
  if (!result) result = handle->driver.cuStreamWaitEvent(then ? then : handle->own, event, 0);
  if (event) handle->driver.cuEventDestroy_v2(event); /* at once, or when it has come to pass */
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "waiting for another stream", 0) : OK;
}

/* A number that no other stream of this process ever has; addresses of streams are used again. */
__attribute__((visibility("default"))) int convc_cuda_stream_id(Handle *handle, CUstream stream,
                                                                 unsigned long long *id) {
  int status = enter(handle);
  if (status) return status;
  CUresult result = handle->driver.cuStreamGetId(stream, id);
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "looking at the stream", 0) : OK;
}

/* Copy from the device when all that it was given is done. */
__attribute__((visibility("default"))) int convc_cuda_read(Handle *handle, CUdeviceptr from, void *to, uint64_t bytes) {
  int status = enter(handle);
  if (status) return status;
  CUresult result = handle->driver.cuCtxSynchronize();
  if (!result && bytes) result = handle->driver.cuMemcpyDtoHAsync_v2(to, from, bytes, handle->own);
  if (!result) result = handle->driver.cuStreamSynchronize(handle->own);
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "copying from the device", 0) : OK;
}

/* Copy to the device when all that it was given is done. */
__attribute__((visibility("default"))) int convc_cuda_write(Handle *handle, CUdeviceptr to, const void *from,
                                                             uint64_t bytes) {
  int status = enter(handle);
  if (status) return status;
  CUresult result = handle->driver.cuCtxSynchronize();
  if (!result && bytes) result = handle->driver.cuMemcpyHtoDAsync_v2(to, from, bytes, handle->own);
  if (!result) result = handle->driver.cuStreamSynchronize(handle->own);
  leave(handle);
  return result ? driver_failed(&handle->driver, result, "copying to the device", 0) : OK;
}

/* The device that a pointer belongs to, or -1: the driver fails for other pointers. */
__attribute__((visibility("default"))) int convc_cuda_owner(Handle *handle, CUdeviceptr pointer, int *ordinal) {
  int status = enter(handle);
  if (status) return status;
  if (handle->driver.cuPointerGetAttribute(ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer)) *ordinal = -1;
  leave(handle);
  return OK;
}
