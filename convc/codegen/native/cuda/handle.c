/* Opening a module on a device, and closing it. Everything that can be wrong is found here, before any launch. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handle.h"

enum { SHARED_BY_DEFAULT = 48 << 10 }; /* bytes of shared memory that a kernel may use without asking */

/* ---- the current context ---- */

int enter(Handle *handle) {
  if (handle->owner != getpid())
    return fail(DEVICE_FAILED, "Load the module in each process, after the fork.",
                "The module was loaded in process %d, and a GPU cannot be used across a fork.", (int)handle->owner);
  DO(handle, "making the device's context current", cuCtxPushCurrent_v2(handle->context));
  return OK;
}

void leave(Handle *handle) {
  CUcontext ours;
  handle->driver.cuCtxPopCurrent_v2(&ours);
}

/* ---- checks ---- */

static int check_driver(Handle *handle) {
  CUresult result = handle->driver.cuInit(0);
  if (result == CUDA_ERROR_NO_DEVICE)
    return fail(NO_DEVICE, "Is CUDA_VISIBLE_DEVICES set so that it hides them?", "There is no NVIDIA GPU here.");
  if (result) {
    driver_failed(&handle->driver, result, "starting the NVIDIA driver (cuInit)", 0);
    return fail_as(BAD_DRIVER, "Does `nvidia-smi` work? After an update of the driver the machine must be restarted.");
  }
  int version = 0, needed = convc_cuda_version;
  DO(handle, "asking for the driver's version", cuDriverGetVersion(&version));
  if (version < needed)
    return fail(BAD_DRIVER, "Update the NVIDIA driver (`nvidia-smi` tells which one is installed).",
                "The NVIDIA driver supports CUDA %d.%d, and the kernels need %d.%d or later.",
                version / 1000, version % 1000 / 10, needed / 1000, needed % 1000 / 10);
  return OK;
}

static int check_device(Handle *handle) {
  int count = 0, major = 0, minor = 0;
  DO(handle, "counting the devices", cuDeviceGetCount(&count));
  if (!count)
    return fail(NO_DEVICE, "Is CUDA_VISIBLE_DEVICES set so that it hides them?", "There is no NVIDIA GPU here.");
  if (handle->ordinal < 0 || handle->ordinal >= count)
    return fail(NO_DEVICE, "Devices count from 0, in the order of CUDA_VISIBLE_DEVICES.",
                "There is no device %d: this process sees %d.", handle->ordinal, count);
  DO(handle, "finding the device", cuDeviceGet(&handle->device, handle->ordinal));
  DO(handle, "asking for the device's name", cuDeviceGetName(handle->name, sizeof handle->name, handle->device));
  DO(handle, "asking for the compute capability",
     cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, handle->device));
  DO(handle, "asking for the compute capability",
     cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, handle->device));
  int fits = major == convc_sm_major && (convc_sm_exact ? minor == convc_sm_minor : minor >= convc_sm_minor);
  if (fits) return OK;
  char hint[128];
  snprintf(hint, sizeof hint, "Compile with `--target cuda:sm_%d%d`.", major, minor);
  return fail(WRONG_DEVICE, hint, "Kernels for %s do not run on device %d (%s), which is sm_%d%d.", convc_arch,
              handle->ordinal, handle->name, major, minor);
}

static uint64_t rounded(uint64_t bytes) { return (bytes + 255) & ~(uint64_t)255; }

static uint64_t staging_bytes(void) {
  uint64_t bytes = 0;
  for (int i = 0; i < convc_input_count + convc_output_count; i++) bytes += rounded(convc_operand_bytes[i]);
  return bytes;
}

static int check_memory(Handle *handle) {
  size_t available = 0, total = 0;
  const double mib = 1 << 20;
  DO(handle, "asking for free memory", cuMemGetInfo_v2(&available, &total));
  uint64_t needed = rounded(convc_weights_bytes) + rounded(convc_workspace_bytes) + staging_bytes();
  if (needed <= available) return OK;
  return fail(DEVICE_MEMORY, "Free memory of the device, take another one, or compile for a smaller batch.",
              "The network needs %.1f MiB (weights %.1f, workspace %.1f, inputs and outputs %.1f); device %d (%s) has "
              "%.1f MiB free of %.1f.",
              needed / mib, convc_weights_bytes / mib, convc_workspace_bytes / mib, staging_bytes() / mib,
              handle->ordinal, handle->name, available / mib, total / mib);
}

/* ---- what a module holds on the device ---- */

static int allocate(Handle *handle) {
  uint64_t workspace = rounded(convc_workspace_bytes), arena = workspace + staging_bytes();
  if (convc_weights_bytes)
    DO(handle, "allocating the weights", cuMemAlloc_v2(&handle->weights, convc_weights_bytes));
  if (arena) DO(handle, "allocating the workspace", cuMemAlloc_v2(&handle->arena, arena));
  uint64_t next = handle->arena + workspace;
  for (int i = 0; i < convc_input_count + convc_output_count; i++) {
    handle->staging[i] = handle->bound[i] = next;
    next += rounded(convc_operand_bytes[i]);
  }
  return OK;
}

static int load_code(Handle *handle) {
  for (int i = 0; i < convc_image_count; i++)
    DO_FOR(handle, "loading the code of kernel", convc_images[i].symbol,
           cuModuleLoadData(&handle->modules[i], convc_images[i].data));
  for (int i = 0; i < convc_function_count; i++) {
    const Function *function = &convc_functions[i];
    DO_FOR(handle, "finding the kernel", function->name,
           cuModuleGetFunction(&handle->functions[i], handle->modules[function->image], function->name));
    if (function->shared_bytes > SHARED_BY_DEFAULT)
      DO_FOR(handle, "asking for the shared memory of kernel", function->name,
             cuFuncSetAttribute(handle->functions[i], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                function->shared_bytes));
  }
  return OK;
}

static int make_streams(Handle *handle) {
  DO(handle, "making a stream", cuStreamCreate(&handle->own, CU_STREAM_NON_BLOCKING));
  DO(handle, "making an event", cuEventCreate(&handle->done, CU_EVENT_DISABLE_TIMING));
  DO(handle, "making an event", cuEventCreate(&handle->copied, CU_EVENT_DISABLE_TIMING));
  return OK;
}

static int fill(Handle *handle, const char *path) {
  int status = check_memory(handle);
  if (!status) status = allocate(handle);
  if (!status) status = upload_weights(handle, path);
  if (!status) status = load_code(handle);
  if (!status) status = make_streams(handle);
  return status ? status : build_graph(handle);
}

static int open_device(Handle *handle, const char *path) {
  int status = load_driver(&handle->driver);
  if (!status) status = check_driver(handle);
  if (!status) status = check_device(handle);
  if (status) return status;
  DO(handle, "taking the device's context", cuDevicePrimaryCtxRetain(&handle->context, handle->device));
  handle->retained = 1;
  status = enter(handle);
  if (status) return status;
  status = fill(handle, path);
  leave(handle);
  return status;
}

/* ---- opening and closing ---- */

static void release_host(Handle *handle) {
  free(handle->modules);
  free(handle->functions);
  free(handle->staging);
  free(handle->bound);
  free(handle->values);
  free(handle->params);
  free(handle->nodes);
  free(handle);
}

static Handle *new_handle(int ordinal) {
  Handle *handle = calloc(1, sizeof *handle);
  if (!handle) return 0;
  size_t operands = convc_input_count + convc_output_count + 1; /* never none: calloc may return null for it */
  handle->owner = getpid();
  handle->ordinal = ordinal;
  handle->modules = calloc(convc_image_count + 1, sizeof *handle->modules);
  handle->functions = calloc(convc_function_count + 1, sizeof *handle->functions);
  handle->staging = calloc(operands, sizeof *handle->staging);
  handle->bound = calloc(operands, sizeof *handle->bound);
  handle->values = calloc(convc_place_count + 1, sizeof *handle->values);
  handle->params = calloc(convc_place_count + convc_launch_count + 1, sizeof *handle->params);
  handle->nodes = calloc(convc_launch_count + 1, sizeof *handle->nodes);
  pthread_mutex_init(&handle->lock, 0);
  if (handle->modules && handle->functions && handle->staging && handle->bound && handle->values && handle->params &&
      handle->nodes)
    return handle;
  release_host(handle);
  return 0;
}

/* What fails here has no remedy, and after a fault of the device every call fails. */
static void release_device(Handle *handle) {
  const Driver *driver = &handle->driver;
  driver->cuCtxSynchronize(); /* what still runs may use what is freed next */
  if (handle->exec) driver->cuGraphExecDestroy(handle->exec);
  if (handle->graph) driver->cuGraphDestroy(handle->graph);
  if (handle->copied) driver->cuEventDestroy_v2(handle->copied);
  if (handle->done) driver->cuEventDestroy_v2(handle->done);
  if (handle->own) driver->cuStreamDestroy_v2(handle->own);
  for (int i = 0; i < convc_image_count; i++)
    if (handle->modules[i]) driver->cuModuleUnload(handle->modules[i]);
  if (handle->arena) driver->cuMemFree_v2(handle->arena);
  if (handle->weights) driver->cuMemFree_v2(handle->weights);
}

/* Free everything. In a child of fork only the host's memory is: the parent goes on with the rest. */
__attribute__((visibility("default"))) void convc_cuda_close(Handle *handle) {
  if (handle->owner == getpid()) {
    if (handle->retained) {
      if (!handle->driver.cuCtxPushCurrent_v2(handle->context)) {
        release_device(handle);
        leave(handle);
      }
      handle->driver.cuDevicePrimaryCtxRelease_v2(handle->device);
    }
    unload_driver(&handle->driver);
  }
  release_host(handle);
}

/* Open the module in file `path` on a device. Sets `handle` only when it returns OK. */
__attribute__((visibility("default"))) int convc_cuda_open(const char *path, int ordinal, Handle **handle) {
  Handle *fresh = new_handle(ordinal);
  if (!fresh) return fail(HOST_FAILED, "", "Not enough memory on the host.");
  int status = open_device(fresh, path);
  if (status)
    convc_cuda_close(fresh);
  else
    *handle = fresh;
  return status;
}

__attribute__((visibility("default"))) const char *convc_cuda_name(const Handle *handle) { return handle->name; }
