/* The runtime inside every convc module: a thread pool, scratch memory, and the loop over the network's steps.
 *
 * Generated kernels are plain C functions over pointers. Their parallel loops call TVMBackendParallelLaunch and
 * their larger buffers TVMBackendAllocWorkspace; the definitions below take the place of TVM's runtime library,
 * so that a module needs nothing but libc.
 *
 * The code generator makes the rest, see network.h. This file is compiled once and then kept.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define cpu_relax() _mm_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

#include "network.h"

/* ---- threads: one pool a module; a call that finds it taken runs its parallel loops by itself ---- */

typedef struct {
  void *sync;
  int32_t num_task;
} TaskEnvironment;
typedef int (*Task)(int id, TaskEnvironment *environment, void *data);

enum { MAX_THREADS = 256, SPINS = 1 << 14 };

static struct {
  pthread_mutex_t owner; /* held by the call that uses the pool */
  pthread_mutex_t lock;  /* guards the start and the sleep of workers */
  pthread_cond_t wake;
  int started; /* workers alive */
  int born[MAX_THREADS]; /* the generation at which each worker started; it waits for the next */
  pid_t process;
  cpu_set_t cpus; /* where the process may run, read when the first worker starts */
  atomic_int generation; /* counts parallel regions */
  atomic_int pending;    /* tasks of the present region that other threads still run */
  atomic_int failed;
  atomic_int awake; /* a call is under way: workers spin rather than sleep */
  int width;        /* threads of the present call, the caller included */
  Task task;
  void *data;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* What the running call of this thread has asked for and holds. The pool is taken at the first parallel loop, so
 * that a small network, whose loops are all serial, never pays for it. */
static __thread struct {
  int wanted;  /* threads that the call may use */
  int threads; /* threads of its parallel loops: 0 before the first one, 1 where another call has the pool */
  int bound;   /* whether the caller has been bound to a processor for the time of the call */
  cpu_set_t cpus; /* where the caller may run otherwise */
} session;

static int cpu_at(const cpu_set_t *set, int index) {
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, set) && index-- == 0) return cpu;
  return -1;
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof set, &set);
}

static void *work(void *argument) {
  int id = (int)(intptr_t)argument;
  int seen = pool.born[id];
  if (CPU_COUNT(&pool.cpus) == pool.width) pin(cpu_at(&pool.cpus, id));
  for (;;) {
    int spins = 0;
    while (atomic_load_explicit(&pool.generation, memory_order_acquire) == seen) {
      cpu_relax();
      if (++spins < SPINS) continue;
      spins = 0;
      if (atomic_load_explicit(&pool.awake, memory_order_relaxed)) {
        sched_yield(); /* more threads than processors: let the one that is waited for run */
        continue;
      }
      pthread_mutex_lock(&pool.lock);
      while (atomic_load(&pool.generation) == seen && !atomic_load(&pool.awake))
        pthread_cond_wait(&pool.wake, &pool.lock);
      pthread_mutex_unlock(&pool.lock);
    }
    seen = atomic_load_explicit(&pool.generation, memory_order_acquire);
    if (id >= pool.width) continue;
    TaskEnvironment environment = {0, pool.width};
    if (pool.task(id, &environment, pool.data)) atomic_store(&pool.failed, 1);
    atomic_fetch_sub_explicit(&pool.pending, 1, memory_order_release);
  }
  return 0;
}

/* Start what is missing of `threads - 1` workers; returns how many threads a call may use.
 *
 * Where a call takes every processor that the process may use, each thread is bound to its own: left to
 * itself, the kernel may keep two of them on one processor for many milliseconds. With processors to spare
 * nothing is bound. */
static int start_workers(int threads) {
  if (pool.process != getpid()) { /* first use, or the child of a fork, which inherits no threads */
    pool.process = getpid();
    pool.started = 0;
    pool.width = threads;
    sched_getaffinity(0, sizeof pool.cpus, &pool.cpus);
  }
  while (pool.started < threads - 1) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pool.born[pool.started + 1] = atomic_load(&pool.generation);
    int failed = pthread_create(&thread, &attributes, work, (void *)(intptr_t)(pool.started + 1));
    pthread_attr_destroy(&attributes);
    if (failed) break;
    pool.started++;
  }
  return pool.started + 1 < threads ? pool.started + 1 : threads;
}

static void enter_pool(void) {
  session.threads = 1;
  if (session.wanted < 2 || pthread_mutex_trylock(&pool.owner)) return;
  pthread_mutex_lock(&pool.lock);
  session.threads = pool.width = start_workers(session.wanted);
  atomic_store(&pool.awake, 1);
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.lock);
  if (session.threads == 1) { /* no worker could be started */
    atomic_store(&pool.awake, 0);
    pthread_mutex_unlock(&pool.owner);
    return;
  }
  session.bound =
      CPU_COUNT(&pool.cpus) == session.threads && !sched_getaffinity(0, sizeof session.cpus, &session.cpus);
  if (session.bound) pin(cpu_at(&pool.cpus, 0));
}

static void leave_pool(void) {
  if (session.threads > 1) {
    atomic_store(&pool.awake, 0);
    if (session.bound) sched_setaffinity(0, sizeof session.cpus, &session.cpus);
    pthread_mutex_unlock(&pool.owner);
  }
  session.threads = session.bound = 0;
}

static int parallel_launch(Task task, void *data, int num_task) {
  (void)num_task;
  if (!session.threads) enter_pool();
  int threads = session.threads;
  if (threads == 1) {
    TaskEnvironment environment = {0, 1};
    return task(0, &environment, data);
  }
  pool.task = task;
  pool.data = data;
  atomic_store_explicit(&pool.pending, threads - 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&pool.generation, 1, memory_order_release);
  TaskEnvironment environment = {0, threads};
  int status = task(0, &environment, data);
  for (int spins = 0; atomic_load_explicit(&pool.pending, memory_order_acquire) > 0;) {
    cpu_relax();
    if (++spins >= SPINS) sched_yield(), spins = 0;
  }
  return status | atomic_exchange(&pool.failed, 0);
}

static int parallel_barrier(int id, TaskEnvironment *environment) {
  (void)id, (void)environment;
  return -1; /* no schedule uses barriers */
}

/* ---- scratch memory for kernels: blocks are kept by the thread that used them ---- */

enum { SCRATCH_SLOTS = 8 };
typedef struct {
  struct {
    void *block;
    size_t bytes;
    int used;
  } slots[SCRATCH_SLOTS];
} Scratch;

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static __thread Scratch *scratch;

static void free_scratch(void *pointer) {
  Scratch *own = pointer;
  for (int i = 0; i < SCRATCH_SLOTS; i++) free(own->slots[i].block);
  free(own);
}

static void make_scratch_key(void) { pthread_key_create(&scratch_key, free_scratch); }

static void *workspace_alloc(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  if (!scratch) {
    pthread_once(&scratch_once, make_scratch_key);
    scratch = calloc(1, sizeof *scratch);
    if (!scratch) return 0;
    pthread_setspecific(scratch_key, scratch);
  }
  int best = -1, spare = -1;
  for (int i = 0; i < SCRATCH_SLOTS; i++) {
    if (scratch->slots[i].used) continue;
    /* The smallest makes room for a larger one: the large ones are what is costly to map again. */
    if (spare < 0 || scratch->slots[i].bytes < scratch->slots[spare].bytes) spare = i;
    if (scratch->slots[i].bytes >= bytes && (best < 0 || scratch->slots[i].bytes < scratch->slots[best].bytes)) best = i;
  }
  if (best < 0 && spare >= 0) {
    void *block;
    if (posix_memalign(&block, 4096, bytes)) return 0;
    free(scratch->slots[spare].block);
    scratch->slots[spare].block = block;
    scratch->slots[spare].bytes = bytes;
    best = spare;
  }
  if (best < 0) {
    void *block;
    return posix_memalign(&block, 64, bytes) ? 0 : block;
  }
  scratch->slots[best].used = 1;
  return scratch->slots[best].block;
}

static int workspace_free(int device_type, int device_id, void *pointer) {
  (void)device_type, (void)device_id;
  for (int i = 0; scratch && i < SCRATCH_SLOTS; i++)
    if (scratch->slots[i].block == pointer) return scratch->slots[i].used = 0;
  free(pointer);
  return 0;
}

/* What generated code refers to; TVM's own runtime would fill these pointers at load time. */
void *__TVMBackendParallelLaunch = (void *)parallel_launch;
void *__TVMBackendParallelBarrier = (void *)parallel_barrier;
void *__TVMBackendAllocWorkspace = (void *)workspace_alloc;
void *__TVMBackendFreeWorkspace = (void *)workspace_free;

/* ---- zero borders ---- */

void zero_border(char *box, int64_t outer, int rank, const int64_t *extent, const int64_t *before,
                 const int64_t *after, int64_t inner) {
  int64_t row = inner;
  for (int axis = 1; axis < rank; axis++) row *= extent[axis];
  for (int64_t o = 0; o < outer; o++, box += row * extent[0]) {
    memset(box, 0, before[0] * row);
    memset(box + (extent[0] - after[0]) * row, 0, after[0] * row);
    if (rank > 1)
      zero_border(box + before[0] * row, extent[0] - before[0] - after[0], rank - 1, extent + 1, before + 1, after + 1,
                  inner);
  }
}

/* ---- weights: mapped from this very file, whose end says where they are (see runtime/manifest.py) ---- */

typedef struct {
  uint64_t weights_offset, weights_bytes, manifest_bytes;
  char magic[8];
} Trailer;

static const char *weights;

__attribute__((constructor)) static void map_weights(void) {
  Dl_info self;
  Trailer trailer;
  struct stat status;
  if (!dladdr((void *)map_weights, &self)) return;
  int file = open(self.dli_fname, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  if (!fstat(file, &status) && status.st_size > (off_t)sizeof trailer &&
      pread(file, &trailer, sizeof trailer, status.st_size - sizeof trailer) == sizeof trailer &&
      !memcmp(trailer.magic, "CONVCMOD", sizeof trailer.magic)) {
    /* one byte more than needed: a network may have no weights at all */
    void *mapped = mmap(0, trailer.weights_bytes + 1, PROT_READ, MAP_PRIVATE, file, trailer.weights_offset);
    if (mapped != MAP_FAILED) weights = mapped;
  }
  close(file);
}

/* ---- running the network ---- */

/* Workspaces are kept for later calls; as many exist as calls ever ran at once. */
typedef struct Spare {
  struct Spare *next;
} Spare;
static Spare *spares;
static pthread_mutex_t spares_lock = PTHREAD_MUTEX_INITIALIZER;

static char *take_workspace(void) {
  pthread_mutex_lock(&spares_lock);
  Spare *spare = spares;
  if (spare) spares = spare->next;
  pthread_mutex_unlock(&spares_lock);
  void *block = spare;
  if (!block && posix_memalign(&block, 4096, convc_workspace_bytes + 4096)) return 0;
  return block;
}

static void give_workspace(char *block) {
  Spare *spare = (Spare *)block;
  pthread_mutex_lock(&spares_lock);
  spare->next = spares;
  spares = spare;
  pthread_mutex_unlock(&spares_lock);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

enum { OK = 0, OUT_OF_MEMORY = -1, NO_WEIGHTS = -2, STEP_FAILED = 1 };

/* Run all steps on `threads` threads; `seconds`, if given, receives the time of each step. Returns OK,
 * OUT_OF_MEMORY, NO_WEIGHTS, or STEP_FAILED + the index of the step that failed. */
__attribute__((visibility("default"))) int convc_run(char *const *inputs, char *const *outputs, int threads,
                                                      double *seconds) {
  if (!weights) return NO_WEIGHTS;
  char *workspace = take_workspace();
  if (!workspace) return OUT_OF_MEMORY;
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  session.wanted = threads;
  Call call = {inputs, outputs, workspace, weights};
  int status = OK;
  for (int i = 0; i < convc_step_count && status == OK; i++) {
    double start = seconds ? now() : 0;
    if (convc_steps[i](&call)) status = STEP_FAILED + i;
    if (seconds) seconds[i] = now() - start;
  }
  leave_pool();
  give_workspace(workspace);
  return status;
}
