/* What this machine's cores and caches can do, measured: the one "network" of the calibration module.
 *
 * It is linked with the runtime like any other network; its steps write the figures of the enum below into the
 * only output. All cores run at once, on the threads that modules use, unless a figure says
 * otherwise. A region is repeated for some time and its shortest run counts, since whatever else the machine does
 * can only make it longer. Loops are written with vector types of the target's width; the empty assembly
 * statements make values opaque, so that no compiler may drop or hoist what is being measured.
 *
 * LANES, THREADS, and L1, L2, L3 and WORKSPACE in bytes come from the command line.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "network.h"
#include "services.h"

enum { /* figures, in cycles, FLOP, vector loads or bytes a second, and seconds */
  CLOCK,      /* one core alone */
  CORE_FLOPS, /* likewise */
  FLOPS,      /* one core while all run, as all that follow */
  BROADCAST_FLOPS,
  UNPACKED_FLOPS,
  L1_LOADS,
  L2_BANDWIDTH,
  L2_COPY_BANDWIDTH,
  L3_BANDWIDTH,
  L3_COPY_BANDWIDTH,
  CORE_MEMORY_BANDWIDTH, /* one core alone */
  MEMORY_BANDWIDTH,      /* all cores together */
  MEMORY_COPY_BANDWIDTH,
  LAUNCH_SECONDS,
  FIGURES
};

#define BUDGET 0.08 /* seconds for each figure */
#define SLICE 0.04  /* seconds for those that are measured several times, each time */
#define REPEATS 10  /* at least, however long they take: the process may be suspended meanwhile */

typedef float Vector __attribute__((vector_size(4 * LANES), may_alias));
typedef int Words __attribute__((vector_size(4 * LANES), may_alias));
enum { WIDTH = sizeof(Vector), CHAIN = 24, UNPACKED_SUMS = 8, ROUNDS = 8192, LAUNCHES = 50, PAGE = 4096 };
enum { VOLUME = 64 << 20, CHUNK = 4 << 20 }; /* bytes that a region reads from caches and from memory */

#if defined(__AVX512F__)
#define REGISTER "v"
#define SUMS 12 /* two units, each with a latency of four cycles, or five */
#elif defined(__x86_64__)
#define REGISTER "x"
#define SUMS 12 /* and two factors, in 16 registers */
#elif defined(__aarch64__)
#define REGISTER "w"
#define SUMS 24 /* up to four units, each with a latency of four cycles */
#else
#error "no name for vector registers"
#endif
#if defined(__x86_64__)
#define cpu_relax() __asm__ volatile("pause")
#define ADD_AND_ROTATE "add %1, %0\n\trol $7, %0"
#else
#define cpu_relax() __asm__ volatile("yield")
#define ADD_AND_ROTATE "add %0, %0, %1\n\tror %0, %0, #7"
#endif
#define USE(value) __asm__ volatile("" : : REGISTER(value))
#define OPAQUE(value) __asm__ volatile("" : "+" REGISTER(value))
#define FORGET_MEMORY() __asm__ volatile("" : : : "memory")

/* What a region works on: each thread goes `sweeps` times over `bytes` of its own share of the buffer. After `stay`
 * regions the next bytes of the share take their turn: which pages of memory they are decides how well they fit
 * a cache. */
typedef struct {
  char *buffer;
  size_t bytes;
  int sweeps, stay, turn;
  Task task;
  atomic_int arrived;
  struct {
    double start, end;
  } threads[THREADS];
} Job;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Threads wait for each other before they begin: on a busy machine some regions then find them all running. */
static int in_step(int id, TaskEnvironment *environment, void *data) {
  Job *job = data;
  atomic_fetch_add(&job->arrived, 1);
  while (atomic_load(&job->arrived) < environment->num_task) cpu_relax();
  job->threads[id].start = now();
  int status = job->task(id, environment, data);
  job->threads[id].end = now();
  return status;
}

static int alone(Task task, Job *job) {
  TaskEnvironment environment = {0, 1};
  return task(0, &environment, job);
}

static int together(Task task, Job *job) { return services->launch(task, job, 0); }

/* Seconds from the first thread's start to the last one's end. */
static double seconds(int (*launch)(Task, Job *), Task task, Job *job) {
  job->task = task;
  atomic_store(&job->arrived, 0);
  launch(in_step, job);
  double start = job->threads[0].start, end = job->threads[0].end;
  for (int id = 1; id < atomic_load(&job->arrived); id++) {
    if (job->threads[id].start < start) start = job->threads[id].start;
    if (job->threads[id].end > end) end = job->threads[id].end;
  }
  return end - start;
}

/* Seconds of the fastest repetition within a budget of time. */
static double fastest_within(double budget, int (*launch)(Task, Job *), Task task, Job *job) {
  double best = 1e9, limit = now() + budget;
  for (int repeats = 0; repeats < REPEATS || now() < limit; repeats++) {
    double took = seconds(launch, task, job);
    if (took < best) best = took;
    job->turn++;
  }
  return best;
}

static double fastest(int (*launch)(Task, Job *), Task task, Job *job) {
  return fastest_within(BUDGET, launch, task, job);
}

/* A chain of additions and rotations, a cycle each on every processor that there is. Constants would not do:
 * since Golden Cove additions of small ones take no time at all, the register renamer does them. It cannot know a
 * register's value, nor join two kinds of instruction into one. */
static int add_and_rotate(int id, TaskEnvironment *environment, void *data) {
  (void)id, (void)environment;
  size_t sum = 0, step = (size_t)data;
  for (int round = 0; round < ROUNDS; round++) {
#pragma GCC unroll 24
    for (int i = 0; i < CHAIN / 2; i++) __asm__ volatile(ADD_AND_ROTATE : "+r"(sum) : "r"(step));
  }
  return 0;
}

/* Independent multiply-adds on registers, more than latency times throughput. */
static int multiply_add(int id, TaskEnvironment *environment, void *data) {
  (void)id, (void)environment, (void)data;
  Vector sums[SUMS] = {{0}}, x = {1e-3f}, y = {1e-3f};
#pragma GCC unroll 24
  for (int i = 0; i < SUMS; i++) OPAQUE(sums[i]); /* equal sums would be computed once */
  for (int round = 0; round < ROUNDS; round++) {
    OPAQUE(x);
    OPAQUE(y);
#pragma GCC unroll 24
    for (int i = 0; i < SUMS; i++) sums[i] = sums[i] * x + y;
  }
#pragma GCC unroll 24
  for (int i = 0; i < SUMS; i++) USE(sums[i]);
  return 0;
}

/* The same with one factor broadcast from memory for each: the inner loop of a register tile of one block. */
static int multiply_add_broadcast(int id, TaskEnvironment *environment, void *data) {
  (void)id, (void)environment, (void)data;
  float factors[SUMS] = {1e-3f}, *y = factors;
  Vector sums[SUMS] = {{0}}, x = {1e-3f};
  __asm__ volatile("" : "+r"(y));
#pragma GCC unroll 24
  for (int i = 0; i < SUMS; i++) OPAQUE(sums[i]);
  for (int round = 0; round < ROUNDS; round++) {
    OPAQUE(x);
    FORGET_MEMORY();
#pragma GCC unroll 24
    for (int i = 0; i < SUMS; i++) sums[i] += x * y[i];
  }
#pragma GCC unroll 24
  for (int i = 0; i < SUMS; i++) USE(sums[i]);
  return 0;
}

/* The same with weights in 24 bits, unpacked for UNPACKED_SUMS multiply-adds each: the inner loop of a register
 * tile whose weights are stored so. Words are as `convc.lowering.weights` describes them. */
static int multiply_add_unpacked(int id, TaskEnvironment *environment, void *data) {
  (void)id, (void)environment, (void)data;
  float factors[4 * UNPACKED_SUMS] = {1e-3f}, *y = factors;
  Words stored[3] = {{0}}, *words = stored;
  Vector sums[UNPACKED_SUMS] = {{0}};
  __asm__ volatile("" : "+r"(y), "+r"(words));
#pragma GCC unroll 8
  for (int i = 0; i < UNPACKED_SUMS; i++) OPAQUE(sums[i]);
  for (int round = 0; round < ROUNDS; round++) {
    FORGET_MEMORY();
    Words last = words[0] << 24 | (words[1] << 16 & 0xff0000) | (words[2] << 8 & 0xff00);
    Words rows[4] = {words[0], words[1], words[2], last};
#pragma GCC unroll 4
    for (int row = 0; row < 4; row++) {
      Vector x = (Vector)((rows[row] >> 3 & (int)0x8fffffff) | 0x30000000);
#pragma GCC unroll 8
      for (int i = 0; i < UNPACKED_SUMS; i++) sums[i] += x * y[4 * i + row];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < UNPACKED_SUMS; i++) USE(sums[i]);
  return 0;
}

/* Where the bytes of a thread begin. */
static char *place(const Job *job, int id, const TaskEnvironment *environment) {
  size_t share = WORKSPACE / environment->num_task / PAGE * PAGE;
  return job->buffer + id * share + job->turn / job->stay % (share / job->bytes) * job->bytes;
}

/* Not with zeros: Ice Lake and its kin drop stores of zeros to lines of zeros, and copies would seem faster. */
static int touch(int id, TaskEnvironment *environment, void *data) {
  const Job *job = data;
  memset(place(job, id, environment), 0x5a, job->bytes);
  return 0;
}

static int read_all(int id, TaskEnvironment *environment, void *data) {
  const Job *job = data;
  const Vector *x = (const Vector *)place(job, id, environment);
  for (int sweep = 0; sweep < job->sweeps; sweep++)
    for (size_t i = 0; i < job->bytes / WIDTH; i += 8) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) USE(x[i + j]);
    }
  return 0;
}

/* The first half of the bytes into the second. */
static int copy(int id, TaskEnvironment *environment, void *data) {
  const Job *job = data;
  const Vector *x = (const Vector *)place(job, id, environment);
  Vector *y = (Vector *)x + job->bytes / 2 / WIDTH;
  for (int sweep = 0; sweep < job->sweeps; sweep++)
    for (size_t i = 0; i < job->bytes / 2 / WIDTH; i += 8) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) y[i + j] = x[i + j];
      FORGET_MEMORY(); /* keeps the loop from becoming a call of memcpy */
    }
  return 0;
}

static int nothing(int id, TaskEnvironment *environment, void *data) {
  (void)id, (void)environment, (void)data;
  return 0;
}

/* ---- the steps: each writes its figures into the module's only output ---- */

static double *figures(const Call *call) { return (double *)call->outputs[0]; }

static int prepare(const Call *call) {
  Job all = {.buffer = call->workspace, .bytes = WORKSPACE / THREADS / PAGE * PAGE, .sweeps = 1, .stay = 1};
  for (int i = 0; i < FIGURES; i++) figures(call)[i] = 0;
  return together(touch, &all);
}

static int measure_arithmetic(const Call *call) {
  Job job = {.sweeps = 1};
  const double operations = 2.0 * LANES * SUMS * ROUNDS;
  figures(call)[CLOCK] = (double)CHAIN * ROUNDS / fastest(alone, add_and_rotate, &job);
  figures(call)[CORE_FLOPS] = operations / fastest(alone, multiply_add, &job);
  figures(call)[FLOPS] = operations / fastest(together, multiply_add, &job);
  figures(call)[BROADCAST_FLOPS] = operations / fastest(together, multiply_add_broadcast, &job);
  const double unpacked = 2.0 * LANES * 4 * UNPACKED_SUMS * ROUNDS;
  figures(call)[UNPACKED_FLOPS] = unpacked / fastest(together, multiply_add_unpacked, &job);
  return 0;
}

/* Bytes a second and core over a working set of `bytes` that stays where it is. */
static double cached(const Call *call, Task task, size_t bytes) {
  bytes = bytes / PAGE * PAGE;
  Job job = {.buffer = call->workspace, .bytes = bytes, .sweeps = VOLUME / bytes + 1, .stay = 4};
  return (double)job.sweeps * bytes / fastest(together, task, &job);
}

static int measure_caches(const Call *call) {
  size_t most = WORKSPACE / THREADS / 2, l3 = L3 / 2 / THREADS; /* a core's part of L3, but more than its L2 */
  l3 = l3 < L2 * 3 / 2 ? L2 * 3 / 2 : l3 > most ? most : l3;
  figures(call)[L1_LOADS] = cached(call, read_all, L1 / 2) / WIDTH;
  figures(call)[L2_BANDWIDTH] = cached(call, read_all, L2 / 4);
  figures(call)[L2_COPY_BANDWIDTH] = cached(call, copy, L2 / 4);
  figures(call)[L3_BANDWIDTH] = cached(call, read_all, l3);
  figures(call)[L3_COPY_BANDWIDTH] = cached(call, copy, l3);
  return 0;
}

static void keep_larger(double *figure, double value) {
  if (value > *figure) *figure = value;
}

static void keep_smaller(double *figure, double value) {
  if (!*figure || value < *figure) *figure = value;
}

static int launch_often(int id, TaskEnvironment *environment, void *data) {
  (void)id, (void)environment;
  for (int i = 0; i < LAUNCHES; i++) together(nothing, data);
  return 0;
}

/* What cores share. A hypervisor may run two cores on one chiplet or on two, and move them within seconds: apart
 * they have twice the bandwidth to memory, and a launch takes six times longer. So these are measured several
 * times in between the others, and the slower of the states that were met counts for each. */
static int measure_shared(const Call *call) {
  double *figure = figures(call);
  Job all = {.buffer = call->workspace, .bytes = WORKSPACE / PAGE * PAGE, .sweeps = 1, .stay = 1};
  Job job = {.buffer = call->workspace, .bytes = CHUNK, .sweeps = 1, .stay = 1};
  alone(read_all, &all); /* drives from the caches what earlier steps left there */
  keep_smaller(&figure[CORE_MEMORY_BANDWIDTH], CHUNK / fastest_within(SLICE, alone, read_all, &job));
  keep_smaller(&figure[MEMORY_BANDWIDTH], THREADS * CHUNK / fastest_within(SLICE, together, read_all, &job));
  keep_smaller(&figure[MEMORY_COPY_BANDWIDTH], THREADS * CHUNK / fastest_within(SLICE, together, copy, &job));
  keep_larger(&figure[LAUNCH_SECONDS], fastest_within(SLICE, alone, launch_often, &job) / LAUNCHES);
  return 0;
}

const Step convc_steps[] = {prepare, measure_shared, measure_arithmetic, measure_shared, measure_caches, measure_shared};
const int convc_step_count = 6;
const int convc_keeps_denormals = 0;
const size_t convc_workspace_bytes = WORKSPACE, convc_weights_bytes = 0;
