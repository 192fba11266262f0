/* A CUDA driver for tests: device memory is the host's, kernels are functions of a shared object.
 *
 * It is as unhelpful as the real one may be. Work that is put on a stream is not done before somebody waits for it,
 * streams know each other's work only through events, a graph's nodes run in reverse order where its edges allow
 * it, new memory is full of NaNs, and memory has fences on both sides that are looked at after every kernel.
 *
 * A "cubin" is an ELF shared object with
 *   int convc_emulate(const char *function, const unsigned grid[3], const unsigned block[3], unsigned shared_bytes,
 *                     void **arguments);
 * which returns nonzero for a function that it does not know. The arguments of a launch end with a null pointer
 * here, because the driver reads from a real cubin how many there are. All are pointers.
 *
 * FAKE_CUDA_DEVICES (1), FAKE_CUDA_SM (90), FAKE_CUDA_FREE (bytes, 8 GiB), FAKE_CUDA_DRIVER (13000), and
 * FAKE_CUDA_FAIL=NAME:N: the Nth call of a function since `fake_cuda_reset` fails. They are read at each call.
 * The functions named fake_cuda_... at the end tell tests what happened.
 */
#include <sched.h>
#include <unistd.h>

#include "fake_cuda.h"

enum { MAX_DEVICES = 8, MAX_NAMES = 64 };

long live[KINDS];
CUresult broken;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t owner;

/* ---- calls: counted, made to fail, and refused after a fork ---- */

static struct {
  const char *name;
  int calls;
} counts[MAX_NAMES];

static int count(const char *name) {
  int i = 0;
  while (counts[i].name && strcmp(counts[i].name, name)) i++;
  counts[i].name = name;
  return ++counts[i].calls;
}

static int is_to_fail(const char *name, int calls) {
  const char *wanted = getenv("FAKE_CUDA_FAIL"), *colon = wanted ? strchr(wanted, ':') : 0;
  size_t length = strlen(name);
  return colon && (size_t)(colon - wanted) == length && !strncmp(wanted, name, length) && atoi(colon + 1) == calls;
}

static __thread int depth, stack[64]; /* devices of the current contexts */

CUresult begin(const char *name, int needs) {
  pthread_mutex_lock(&lock);
  if (owner && owner != getpid()) {
    fprintf(stderr, "fake_cuda: %s was called in a child of fork\n", name);
    abort();
  }
  owner = getpid();
  if (is_to_fail(name, count(name))) return UNKNOWN;
  if (needs != NOTHING && !depth) return INVALID_CONTEXT;
  return needs == CONTEXT_AND_DEVICE ? broken : CUDA_SUCCESS;
}

void leave_call(CUresult *result) {
  (void)result;
  pthread_mutex_unlock(&lock);
  sched_yield(); /* another thread's call may come in between any two */
}

int current_device(void) { return stack[depth - 1]; }

long long setting(const char *name, long long otherwise) {
  const char *text = getenv(name);
  return text && *text ? atoll(text) : otherwise;
}

CUresult fault(CUresult error, const char *why, const char *function) {
  fprintf(stderr, "fake_cuda: %s%s%s\n", function ? function : "", function ? ": " : "", why);
  return broken = error;
}

/* ---- the driver, devices, contexts ---- */

static int initialised;
static int retained[MAX_DEVICES];

CUresult cuInit(unsigned flags) {
  CALL(NOTHING);
  (void)flags;
  if (!setting("FAKE_CUDA_DEVICES", 1)) return CUDA_ERROR_NO_DEVICE;
  initialised = 1;
  return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
  CALL(NOTHING);
  *version = setting("FAKE_CUDA_DRIVER", 13000);
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name) {
  CALL(NOTHING);
  *name = error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == ILLEGAL_ADDRESS        ? "CUDA_ERROR_ILLEGAL_ADDRESS"
          : error == UNKNOWN                ? "CUDA_ERROR_UNKNOWN"
                                            : "CUDA_ERROR_OTHER";
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
  CALL(NOTHING);
  static __thread char words[64];
  snprintf(words, sizeof words, "error %d of the tests' driver", error);
  *text = words;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *number) {
  CALL(NOTHING);
  if (!initialised) return 3;
  *number = setting("FAKE_CUDA_DEVICES", 1);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  CALL(NOTHING);
  if (ordinal < 0 || ordinal >= setting("FAKE_CUDA_DEVICES", 1)) return INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  CALL(NOTHING);
  snprintf(name, size, "Fake GPU %d", device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  CALL(NOTHING);
  (void)device;
  int sm = setting("FAKE_CUDA_SM", 90);
  *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? sm / 10 : sm % 10;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  CALL(NOTHING);
  retained[device]++;
  live[CONTEXT]++;
  *context = (CUcontext)(uintptr_t)(0x1000 + device);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  CALL(NOTHING);
  if (!retained[device]) return INVALID_CONTEXT;
  retained[device]--;
  live[CONTEXT]--;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  CALL(NOTHING);
  int device = (uintptr_t)context - 0x1000;
  if (!retained[device]) return INVALID_CONTEXT;
  stack[depth++] = device;
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  CALL(NOTHING);
  if (!depth) return INVALID_CONTEXT;
  *context = (CUcontext)(uintptr_t)(0x1000 + stack[--depth]);
  return CUDA_SUCCESS;
}

/* ---- what tests ask ---- */

/* How many things were made and not destroyed: memory, modules, streams, events, graphs, contexts. */
long fake_cuda_live(void) {
  long sum = 0;
  for (int i = 0; i < KINDS; i++) sum += live[i];
  return sum;
}

/* How many contexts are on this thread's stack. */
int fake_cuda_depth(void) { return depth; }

/* Calls of a function since the last reset. */
int fake_cuda_calls(const char *name) {
  for (int i = 0; i < MAX_NAMES && counts[i].name; i++)
    if (!strcmp(counts[i].name, name)) return counts[i].calls;
  return 0;
}

/* Forget calls and faults. */
void fake_cuda_reset(void) {
  for (int i = 0; i < MAX_NAMES; i++) counts[i].calls = 0;
  broken = CUDA_SUCCESS;
}

/* How much work lies on streams that nobody has waited for. */
long fake_cuda_pending(void) { return pending(); }
