/* Streams and events: work is put on a list, and done when somebody waits for it. */
#include <time.h>

#include "fake_cuda.h"

enum { MAX_STREAMS = 4096 };

typedef struct CUstream_st Stream;
typedef struct Operation {
  struct Operation *next;
  enum { COPY, KERNEL, RUN_GRAPH, RECORD, WAIT } kind;
  void *to;
  const void *from;
  size_t bytes;
  void *staged; /* a copy of what is copied, which the operation owns */
  CUdeviceptr checked; /* the side of a copy that is on the device */
  Kernel kernel;
  Graph *graph;
  struct CUevent_st *event;
  Stream *stream;
  unsigned long number;
} Operation;
struct CUstream_st {
  Operation *first, **last;
  unsigned long put, done;
  int blocking, dead;
  unsigned long long id;
};
struct CUevent_st {
  Stream *stream;
  unsigned long number;
  double time;
};

static Stream legacy = {.last = &legacy.first, .blocking = 1, .id = 1};
static Stream for_thread = {.last = &for_thread.first, .blocking = 1, .id = 2};
static Stream *streams[MAX_STREAMS] = {&legacy, &for_thread};
static int stream_count = 2;

static Stream *stream_of(CUstream handle) {
  if ((uintptr_t)handle < 2) return &legacy;
  Stream *stream = (uintptr_t)handle == 2 ? &for_thread : handle;
  return stream->dead ? 0 : stream;
}

static CUresult run_until(Stream *stream, unsigned long number);

static CUresult execute(Operation *operation) {
  struct timespec now;
  switch (operation->kind) {
    case COPY:
      if (!is_device_memory(operation->checked, operation->bytes)) return fault(ILLEGAL_ADDRESS, "a copy leaves its memory", 0);
      memcpy(operation->to, operation->from, operation->bytes);
      return CUDA_SUCCESS;
    case KERNEL: return execute_kernel(&operation->kernel);
    case RUN_GRAPH: return run_graph(operation->graph);
    case WAIT: return run_until(operation->stream, operation->number);
    default:
      clock_gettime(CLOCK_MONOTONIC, &now);
      operation->event->time = now.tv_sec * 1e3 + now.tv_nsec / 1e6;
      return CUDA_SUCCESS;
  }
}

static CUresult run_until(Stream *stream, unsigned long number) {
  CUresult result = broken;
  while (stream->done < number && stream->first) {
    Operation *operation = stream->first;
    stream->first = operation->next;
    if (!stream->first) stream->last = &stream->first;
    if (!result) result = execute(operation);
    free(operation->staged);
    free(operation);
    stream->done++;
  }
  return result;
}

static Operation *append(Stream *stream, int kind) {
  Operation *operation = calloc(1, sizeof *operation);
  operation->kind = kind;
  *stream->last = operation;
  stream->last = &operation->next;
  operation->number = ++stream->put;
  return operation;
}

static void append_wait(Stream *stream, Stream *other, unsigned long number) {
  Operation *wait = append(stream, WAIT);
  wait->stream = other;
  wait->number = number;
}

/* The legacy stream and all others but the non-blocking ones wait for each other. */
static Operation *put(Stream *stream, int kind) {
  if (stream == &legacy) {
    for (int i = 1; i < stream_count; i++)
      if (streams[i]->blocking && streams[i]->done < streams[i]->put) append_wait(stream, streams[i], streams[i]->put);
  } else if (stream->blocking && legacy.done < legacy.put) {
    append_wait(stream, &legacy, legacy.put);
  }
  return append(stream, kind);
}

static CUresult run_all(void) {
  CUresult result = CUDA_SUCCESS;
  for (int i = stream_count - 1; i >= 0; i--) {
    CUresult one = run_until(streams[i], streams[i]->put);
    if (one) result = one;
  }
  return result;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  CALL(CONTEXT_AND_DEVICE);
  *stream = calloc(1, sizeof **stream);
  (*stream)->last = &(*stream)->first;
  (*stream)->blocking = !(flags & CU_STREAM_NON_BLOCKING);
  (*stream)->id = stream_count + 1;
  streams[stream_count++] = *stream;
  live[STREAM]++;
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  CALL(RELEASE);
  if (stream->dead) return INVALID_HANDLE;
  run_until(stream, stream->put);
  stream->dead = 1; /* kept, so that events may go on to refer to it */
  live[STREAM]--;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
  CALL(CONTEXT_AND_DEVICE);
  Stream *stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  if (stream == &legacy) put(stream, WAIT)->stream = &legacy;
  return run_until(stream, stream->put);
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned flags) {
  CALL(CONTEXT_AND_DEVICE);
  Stream *stream = stream_of(handle);
  if (!stream || flags) return INVALID_HANDLE;
  if (event->stream) {
    Operation *wait = put(stream, WAIT);
    wait->stream = event->stream;
    wait->number = event->number;
  }
  return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream handle, unsigned long long *id) {
  CALL(CONTEXT_AND_DEVICE);
  Stream *stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  *id = stream->id;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) {
  CALL(CONTEXT_AND_DEVICE);
  return run_all();
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
  CALL(CONTEXT_AND_DEVICE);
  (void)flags;
  *event = calloc(1, sizeof **event);
  live[EVENT]++;
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
  CALL(RELEASE);
  (void)event; /* kept, since its record may be on a stream still */
  live[EVENT]--;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream handle) {
  CALL(CONTEXT_AND_DEVICE);
  Stream *stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  put(stream, RECORD)->event = event;
  event->stream = stream;
  event->number = stream->put;
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event) {
  CALL(CONTEXT_AND_DEVICE);
  return event->stream ? run_until(event->stream, event->number) : CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  CALL(CONTEXT_AND_DEVICE);
  if (!start->time || !end->time) return NOT_READY;
  *milliseconds = end->time - start->time;
  return CUDA_SUCCESS;
}

static CUresult copy_staged(Stream *stream, void *to, const void *from, size_t bytes, CUdeviceptr checked, void *staged) {
  if (!stream) return INVALID_HANDLE;
  Operation *operation = put(stream, COPY);
  operation->staged = staged;
  operation->to = to;
  operation->from = from;
  operation->bytes = bytes;
  operation->checked = checked;
  return CUDA_SUCCESS;
}

static CUresult copy(Stream *stream, void *to, const void *from, size_t bytes, CUdeviceptr checked) {
  return copy_staged(stream, to, from, bytes, checked, 0);
}

/* Of memory that can be paged out, as all is that is copied so: it has been read on return, but may not have arrived. */
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  CALL(CONTEXT_AND_DEVICE);
  void *staged = memcpy(malloc(bytes + 1), from, bytes);
  return copy_staged(&legacy, (void *)(uintptr_t)to, staged, bytes, to, staged);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  CALL(CONTEXT_AND_DEVICE);
  return copy(stream_of(stream), (void *)(uintptr_t)to, from, bytes, to);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  CALL(CONTEXT_AND_DEVICE);
  return copy(stream_of(stream), to, (const void *)(uintptr_t)from, bytes, from);
}

CUresult put_kernel(CUstream handle, const Kernel *kernel) {
  Stream *stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  put(stream, KERNEL)->kernel = *kernel;
  return CUDA_SUCCESS;
}

CUresult put_graph(CUstream handle, CUgraphExec exec) {
  Stream *stream = stream_of(handle);
  if (!stream) return INVALID_HANDLE;
  put(stream, RUN_GRAPH)->graph = snapshot(exec);
  return CUDA_SUCCESS;
}

long pending(void) {
  long sum = 0;
  for (int i = 0; i < stream_count; i++) sum += streams[i]->put - streams[i]->done;
  return sum;
}
