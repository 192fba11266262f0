/* Running the network on a stream.
 *
 * There is one workspace, so calls follow each other: each waits on the device, not on the host, for the event that
 * the last one recorded, on whatever stream that was. The lock covers putting a call on its stream only.
 */
#include <stdlib.h>

#include "handle.h"

/* `addresses` has those of all inputs and then of all outputs. An output's address is 0 where it is to stay in the
 * module's own room for it. */
typedef struct {
  const uint64_t *addresses;
  const unsigned char *on_host; /* for each address */
  CUstream stream;
} Operands;

static int copies_inputs(const Operands *operands) {
  for (int i = 0; i < convc_input_count; i++)
    if (operands->on_host[i]) return 1;
  return 0;
}

static int start(Handle *handle, const Operands *operands) {
  DO(handle, "waiting for the last call", cuStreamWaitEvent(operands->stream, handle->done, 0));
  for (int i = 0; i < convc_input_count; i++)
    if (operands->on_host[i] && convc_operand_bytes[i])
      DO(handle, "copying an input to the device",
         cuMemcpyHtoDAsync_v2(handle->staging[i], (const void *)(uintptr_t)operands->addresses[i],
                              convc_operand_bytes[i], operands->stream));
  if (copies_inputs(operands)) DO(handle, "recording an event", cuEventRecord(handle->copied, operands->stream));
  return OK;
}

static int bind(Handle *handle, const Operands *operands) {
  int count = convc_input_count + convc_output_count;
  CUdeviceptr places[count + 1];
  for (int i = 0; i < count; i++)
    places[i] = operands->on_host[i] || !operands->addresses[i] ? handle->staging[i] : operands->addresses[i];
  return bind_operands(handle, places);
}

static int finish(Handle *handle, const Operands *operands) {
  for (int i = convc_input_count; i < convc_input_count + convc_output_count; i++)
    if (operands->on_host[i] && convc_operand_bytes[i])
      DO(handle, "copying an output from the device",
         cuMemcpyDtoHAsync_v2((void *)(uintptr_t)operands->addresses[i], handle->staging[i], convc_operand_bytes[i],
                              operands->stream));
  DO(handle, "recording an event", cuEventRecord(handle->done, operands->stream));
  return OK;
}

static int launch_all(Handle *handle, const Operands *operands) {
  int status = start(handle, operands);
  if (!status) status = bind(handle, operands);
  if (status) return status;
  if (convc_launch_count) DO(handle, "launching the network", cuGraphLaunch(handle->exec, operands->stream));
  return finish(handle, operands);
}

/* Run on a stream (0: the module's own). With `synchronise` everything is done when this returns; otherwise arrays
 * on the device follow the stream's order, and only what is on the host has been read. */
__attribute__((visibility("default"))) int convc_cuda_run(Handle *handle, const uint64_t *addresses,
                                                           const unsigned char *on_host, CUstream stream,
                                                           int synchronise) {
  int status = enter(handle);
  if (status) return status;
  Operands operands = {addresses, on_host, stream ? stream : handle->own};
  pthread_mutex_lock(&handle->lock);
  status = launch_all(handle, &operands);
  /* What was put on the stream must not outlive the arrays of a caller who was told of a failure. */
  if (status) handle->driver.cuStreamSynchronize(operands.stream);
  pthread_mutex_unlock(&handle->lock);
  CUresult result = 0;
  if (!status && synchronise)
    result = handle->driver.cuStreamSynchronize(operands.stream);
  else if (!status && copies_inputs(&operands))
    result = handle->driver.cuEventSynchronize(handle->copied);
  if (result) status = driver_failed(&handle->driver, result, "running the network", 0);
  leave(handle);
  return status;
}

/* ---- profiling ---- */

/* One launch after the other with events in between, for the graph tells no times. */
static int launch_each(Handle *handle, CUstream stream, CUevent *events) {
  DO(handle, "recording an event", cuEventRecord(events[0], stream));
  for (int i = 0; i < convc_launch_count; i++) {
    CUDA_KERNEL_NODE_PARAMS p;
    launch_params(handle, i, &p);
    DO_FOR(handle, "launching kernel", convc_functions[convc_launches[i].function].name,
           cuLaunchKernel(p.func, p.gridDimX, p.gridDimY, p.gridDimZ, p.blockDimX, p.blockDimY, p.blockDimZ,
                          p.sharedMemBytes, stream, p.kernelParams, 0));
    DO(handle, "recording an event", cuEventRecord(events[i + 1], stream));
  }
  return OK;
}

static int time_each(Handle *handle, const Operands *operands, CUevent *events, float *milliseconds) {
  int status = start(handle, operands);
  if (!status) status = bind(handle, operands);
  if (!status) status = launch_each(handle, operands->stream, events);
  if (!status) status = finish(handle, operands);
  if (status) return status;
  DO(handle, "running the network", cuStreamSynchronize(operands->stream));
  for (int i = 0; i < convc_launch_count; i++)
    DO(handle, "reading the time of a launch", cuEventElapsedTime(&milliseconds[i], events[i], events[i + 1]));
  return OK;
}

static int make_events(Handle *handle, CUevent *events) {
  for (int i = 0; i <= convc_launch_count; i++) DO(handle, "making an event", cuEventCreate(&events[i], 0));
  return OK;
}

/* Run on the module's own stream, launch by launch, and write the milliseconds of each. */
__attribute__((visibility("default"))) int convc_cuda_profile(Handle *handle, const uint64_t *addresses,
                                                               const unsigned char *on_host, float *milliseconds) {
  CUevent *events = calloc(convc_launch_count + 1, sizeof *events);
  if (!events) return fail(HOST_FAILED, "", "Not enough memory on the host.");
  int status = enter(handle);
  if (!status) {
    Operands operands = {addresses, on_host, handle->own};
    pthread_mutex_lock(&handle->lock);
    status = make_events(handle, events);
    if (!status) status = time_each(handle, &operands, events, milliseconds);
    if (status) handle->driver.cuStreamSynchronize(operands.stream);
    pthread_mutex_unlock(&handle->lock);
    for (int i = 0; i <= convc_launch_count; i++)
      if (events[i]) handle->driver.cuEventDestroy_v2(events[i]);
    leave(handle);
  }
  free(events);
  return status;
}

__attribute__((visibility("default"))) int convc_cuda_launches(const int **steps) {
  *steps = convc_launch_steps;
  return convc_launch_count;
}
