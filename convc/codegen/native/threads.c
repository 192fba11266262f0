/* Threads: workers that all calls of the process share, and the hook behind generated parallel loops.
 *
 * A call takes workers at its first parallel loop and keeps them to its end, so that a small network, whose loops
 * are all serial, never pays for them. A parallel loop is divided evenly; thread k of a call has the same part of
 * every loop of that length, and finds in its caches what it wrote before.
 *
 * A call alone has exactly the threads that it asks for. Calls at the same time (of one module or several, from
 * several threads) have together no more than there are processors: see `share`. A call that is joined by another
 * gives workers back at its next parallel loop; it never takes more than it began with.
 *
 * The caller's affinity is never touched. Workers run where their caller may; where a call takes every processor,
 * each worker is bound to one, apart from the caller's: left to itself, the kernel may keep two threads on one
 * processor for many milliseconds.
 *
 * OpenMP's and TVM's pool behind the same hook (benchmarks/pools.py, ResNet-18, 20 fresh processes each, as below;
 * medians in ms, in brackets the smallest and the largest of a process): calls in a row 4.5 (4.3 to 6.5), OpenMP
 * 4.7 (4.3 to 7.1), TVM 4.7 (4.2 to 6.0), which follows the machine: in the same seconds all are alike. With NumPy
 * products between the calls, whose threads spin on: 8.9 (8.2 to 11.1), OpenMP 11.5 (11.1 to 13.4), TVM 8.3 to
 * 103, 8 of 20 above 65. Spinning threads that never yield get their half of a core whatever a pool does.
 *
 * What was measured (ResNet-18, 2 threads unless said otherwise, 2 cores of an AMD EPYC (Zen 5), 2026-11-21):
 *   A parallel loop with nothing to do takes 0.10 us where both cores share a cache, 0.51 us where they do not:
 *   as long as a message between the cores and its answer. A call's first one takes 1.2 us.
 *   Two callers side by side: 86 + 89 calls a second, half of them within 11.3 ms; each with 2 threads all the
 *   time 74 + 73 and 13.1 ms; one at a time 77 + 76 and 12.4 ms, but 118 + 46 in other runs. Alone: 170, 5.6 ms.
 *   With 4 and 8 threads a call takes 6.0 and 6.4 ms (43 and 114 ms where waiting threads yield late).
 *   Beside a program that keeps one core busy a call takes 12 to 14 ms: the kernel (250 Hz) takes the core away
 *   for 4 ms at a time, some ten parallel loops, and a worker that is stopped has always begun its part. So it
 *   does not help that other threads take over parts that nobody has begun (8 and 32 parts instead of 2: 12.3
 *   and 11.9 ms against 12.3), that the caller sleeps to make room for the worker (13.7 ms, and 20 ms beside
 *   spinning BLAS threads against 12), or that waiting threads yield early (16 to 19 ms): all that was left out.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#define cpu_relax() _mm_pause()
#elif defined(__aarch64__)
#define cpu_relax() __asm__ volatile("yield")
#else
#define cpu_relax() ((void)0)
#endif

#include "services.h"

enum {
  MAX_THREADS = 256,
  LINE = 128,       /* processors fetch lines of 64 bytes in pairs */
  LINGER = 1 << 12, /* spins of a worker after its call, in expectation of the next: some 100 us (beside NumPy's
                     * products 400 take 10.3 ms a call and 50 take 9.7: what it spins is taken from its next turn) */
  /* Spins before other threads are let run: few with more threads than processors, where it is they that are
   * waited for; many otherwise, since who yields to another program gives its share of the processor away. */
  FEW = 64,
  MANY = 1 << 14,
};

enum { FREE, TAKEN, DISMISSED /* free, and not to spin */ };

/* A worker. For each parallel loop one line goes from the caller to it, and one comes back. */
typedef struct {
  _Alignas(LINE) atomic_uint posted; /* counts the tasks that it was given */
  atomic_int hold;                   /* FREE, TAKEN or DISMISSED */
  atomic_int patience;               /* FEW or MANY */
  int id;
  TaskEnvironment environment;
  Task task;
  void *data;
  _Alignas(LINE) atomic_uint done; /* counts the tasks that it has finished */
  int status;                      /* of the last one */
  atomic_int asleep;
  _Alignas(LINE) pthread_t thread;
  cpu_set_t cpus; /* where it may run */
} Worker;

static Worker workers[MAX_THREADS]; /* the first is unused: a caller is the first thread of its call */
static int started = 1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards who takes which worker */

/* Calls under way, and the threads that they ask for: the former in the upper half. */
static _Alignas(LINE) atomic_ulong load;
#define ONE_CALL (1ul << 32)

/* What the running call of this thread has asked for and holds. */
static __thread struct {
  int wanted;              /* threads that the call may use */
  int width;               /* threads of its parallel loops, the caller included; 0 before the first one */
  unsigned long load;      /* when that was decided */
  int patience;            /* FEW or MANY */
  short crew[MAX_THREADS]; /* its workers, from 1 */
} call;

/* ---- workers ---- */

static void futex(atomic_int *word, int operation, int value) {
  syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, 0, 0, 0);
}

static void sleep_until_taken(Worker *self) {
  atomic_store(&self->asleep, 1); /* before `hold` is read; `take` writes and reads in the opposite order */
  for (int hold; (hold = atomic_load(&self->hold)) != TAKEN;) futex(&self->hold, FUTEX_WAIT, hold);
  atomic_store(&self->asleep, 0);
}

/* One turn of a waiting loop. */
static void rest(int spins, int patience) {
  cpu_relax();
  if (spins % patience == patience - 1) sched_yield();
}

static void wait_for_task(Worker *self, unsigned seen) {
  for (int spins = 0; atomic_load_explicit(&self->posted, memory_order_acquire) == seen; spins++) {
    int hold = atomic_load_explicit(&self->hold, memory_order_relaxed);
    if (hold == DISMISSED || (hold == FREE && spins >= LINGER)) {
      sleep_until_taken(self);
      spins = 0;
    } else {
      rest(spins, atomic_load_explicit(&self->patience, memory_order_relaxed));
    }
  }
}

static void *work(void *argument) {
  Worker *self = argument;
  for (unsigned seen = 0;; seen++) {
    wait_for_task(self, seen);
    self->status = self->task(self->id, &self->environment, self->data);
    atomic_store_explicit(&self->done, seen + 1, memory_order_release);
  }
  return 0;
}

static void take(Worker *worker) {
  atomic_store(&worker->hold, TAKEN);
  if (atomic_load(&worker->asleep)) futex(&worker->hold, FUTEX_WAKE, INT_MAX);
}

static void release_from(int position, int how) {
  for (int i = position; i < call.width; i++) atomic_store(&workers[call.crew[i]].hold, how);
  call.width = position;
}

/* Start one more worker, which belongs to the caller; signals stay with the program's own threads. */
static int start_worker(void) {
  Worker *worker = &workers[started];
  pthread_attr_t attributes;
  sigset_t all, before;
  atomic_store(&worker->hold, TAKEN);
  atomic_store(&worker->patience, MANY);
  CPU_ZERO(&worker->cpus);
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&worker->thread, &attributes, work, worker);
  pthread_sigmask(SIG_SETMASK, &before, 0);
  pthread_attr_destroy(&attributes);
  if (failed) return 0;
  pthread_setname_np(worker->thread, "convc");
  return started++;
}

/* A child of fork inherits no threads, and its first one is in no call. */
static void forked(void) {
  pthread_mutex_init(&lock, 0);
  memset(workers, 0, sizeof *workers * started);
  started = 1;
  atomic_store(&load, 0);
}

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(0, 0, forked); }

/* ---- calls ---- */

/* How many threads a call may use: all that it asks for when it is alone or when there are processors for all
 * calls; else what the others leave, at least its even part, at least one. */
static int share(unsigned long now) {
  cpu_set_t set;
  int calls = now >> 32, all_wanted = now & (ONE_CALL - 1);
  if (calls < 2 || call.wanted < 2) return call.wanted;
  if (sched_getaffinity(getpid(), sizeof set, &set)) return 1;
  int cpus = CPU_COUNT(&set), left = cpus - (all_wanted - call.wanted), even = cpus / calls;
  int most = left > even ? left : even;
  return most < 1 ? 1 : most < call.wanted ? most : call.wanted;
}

static void may_run_on(Worker *worker, const cpu_set_t *cpus) {
  if (CPU_EQUAL(&worker->cpus, cpus)) return;
  worker->cpus = *cpus;
  pthread_setaffinity_np(worker->thread, sizeof *cpus, cpus);
}

/* Say where the workers of this call may run, and how long they may spin. */
static void place(void) {
  cpu_set_t set, one;
  call.patience = MANY;
  if (sched_getaffinity(0, sizeof set, &set)) return;
  int cpus = CPU_COUNT(&set), bound = cpus == call.width, here = sched_getcpu();
  if (cpus < call.width) call.patience = FEW;
  for (int i = 1, cpu = 0; i < call.width; i++, cpu++) {
    Worker *worker = &workers[call.crew[i]];
    atomic_store_explicit(&worker->patience, call.patience, memory_order_relaxed);
    while (bound && (cpu == here || !CPU_ISSET(cpu, &set))) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    may_run_on(worker, bound ? &one : &set);
  }
}

/* Take workers for this call, those with the lowest numbers: in the next call they will be the same. There are
 * fewer of them where the system or MAX_THREADS refuses more. */
static void gather(int width) {
  call.width = 1;
  if (width < 2) return;
  pthread_mutex_lock(&lock);
  for (int i = 1; i < started && call.width < width; i++)
    if (atomic_load_explicit(&workers[i].hold, memory_order_relaxed) != TAKEN) {
      take(&workers[i]);
      call.crew[call.width++] = i;
    }
  while (call.width < width && started < MAX_THREADS) {
    int fresh = start_worker();
    if (!fresh) break;
    call.crew[call.width++] = fresh;
  }
  pthread_mutex_unlock(&lock);
  place();
}

/* Bring the width of this call up to date with what other calls began or ended. */
static void adjust(unsigned long now) {
  int width = share(now);
  if (!call.width) gather(width);
  if (width < call.width) release_from(width, DISMISSED);
  call.load = now;
}

void begin_call(int threads) {
  call.wanted = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
  atomic_fetch_add_explicit(&load, ONE_CALL + call.wanted, memory_order_relaxed);
}

void end_call(void) {
  if (call.width) release_from(1, FREE);
  atomic_fetch_sub_explicit(&load, ONE_CALL + call.wanted, memory_order_relaxed);
  call.width = call.wanted = 0;
}

static void post(Worker *worker, int id, Task task, void *data) {
  worker->id = id;
  worker->environment.num_task = call.width;
  worker->task = task;
  worker->data = data;
  unsigned next = atomic_load_explicit(&worker->posted, memory_order_relaxed) + 1;
  atomic_store_explicit(&worker->posted, next, memory_order_release);
}

static int join(Worker *worker) {
  unsigned posted = atomic_load_explicit(&worker->posted, memory_order_relaxed);
  for (int spins = 0; atomic_load_explicit(&worker->done, memory_order_acquire) != posted; spins++)
    rest(spins, call.patience);
  return worker->status;
}

int parallel_launch(Task task, void *data, int num_task) {
  (void)num_task;
  unsigned long now = atomic_load_explicit(&load, memory_order_relaxed);
  if (!call.width || call.load != now) adjust(now);
  int width = call.width;
  TaskEnvironment environment = {0, width};
  if (width < 2) {
    environment.num_task = 1;
    return task(0, &environment, data);
  }
  for (int i = 1; i < width; i++) post(&workers[call.crew[i]], i, task, data);
  int status = task(0, &environment, data);
  for (int i = 1; i < width; i++) status |= join(&workers[call.crew[i]]);
  return status;
}
