/* Running candidates on another machine: what a TVM RPC server finds in a module and calls for tune/rpc_runner.py.
 *
 *   convc_fill(tensor, first, count, byte)           so many of its bytes
 *   convc_bind(threads, strip, inputs, tensors...)   a candidate with its memory, as a number
 *   convc_time(limit, runs, seconds, numbers...)     0, a signal, or -1 for too little memory
 *
 * The candidates of several modules run in turns within one call, so that no network lies between two runs. One
 * that crashes or does not end in time is left by a jump out of the signal's handler: a server whose session ends
 * by a signal serves no other (tvm/rpc/server.py of 0.27 raises in its only thread), one that is told does.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "network.h"

/* ---- the calling convention: tvm/ffi/c_api.h of apache-tvm-ffi 0.1.14, dlpack/dlpack.h of DLPack 1 ---- */

typedef struct {
  void *data;
  int32_t device_type, device_id, dimensions;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} Tensor;

enum { TYPE_INT = 1 };
typedef struct {
  int32_t type;
  uint32_t padding;
  union {
    int64_t number;
    const Tensor *tensor;
  };
} Any;

#define EXPORT __attribute__((visibility("default")))

static char *address(const Any *argument) { return (char *)argument->tensor->data + argument->tensor->byte_offset; }

static int return_number(Any *result, int64_t number) {
  *result = (Any){.type = TYPE_INT, .number = number};
  return 0;
}

EXPORT int __tvm_ffi_convc_fill(void *self, const Any *arguments, int32_t count, Any *result) {
  (void)self, (void)count;
  memset(address(arguments) + arguments[1].number, (int)arguments[3].number, (size_t)arguments[2].number);
  return return_number(result, 0);
}

/* ---- candidates ---- */

int convc_run(char *const *inputs, char *const *outputs, int threads, double *seconds);

/* `run` is that of the candidate's module, which need not be the one that is called. */
typedef struct {
  int (*run)(char *const *inputs, char *const *outputs, int threads, double *seconds);
  int threads, steps;
  char **inputs, **outputs;
  double *seconds;
} Candidate;

/* The first `inputs` of the tensors are inputs. The others are outputs, which begin `strip` bytes behind the
 * tensor's own beginning. What is allocated lives as long as the server's session. */
EXPORT int __tvm_ffi_convc_bind(void *self, const Any *arguments, int32_t count, Any *result) {
  (void)self;
  const Any *tensors = arguments + 3;
  int64_t strip = arguments[1].number, inputs = arguments[2].number;
  Candidate *candidate = malloc(sizeof *candidate);
  char **pointers = malloc(count * sizeof *pointers);
  double *seconds = calloc(convc_step_count + 1, sizeof *seconds);
  if (!candidate || !pointers || !seconds) return return_number(result, 0);
  for (int i = 0; i < count - 3; i++) pointers[i] = address(tensors + i) + (i < inputs ? 0 : strip);
  *candidate = (Candidate){convc_run, arguments[0].number, convc_step_count, pointers, pointers + inputs, seconds};
  return return_number(result, (intptr_t)candidate);
}

/* ---- runs that may go wrong ---- */

enum { QUIT_SECONDS = 5, SIGNAL_STACK = 1 << 16 };
static const int watched[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};
static sigjmp_buf out;
static pthread_t caller;
static volatile sig_atomic_t running;

/* A crash of the caller or of a worker, or the end of the time. Between runs it is what a stray write has led to,
 * or the time of a session that was to be closed; the exit status is one that the server goes on after. */
static void leave(int signal_number) {
  if (!running) _exit(0);
  if (!pthread_equal(pthread_self(), caller)) {
    pthread_kill(caller, signal_number);
    for (;;) pause();
  }
  running = 0;
  siglongjmp(out, signal_number);
}

static void watch(void) {
  static char stack[SIGNAL_STACK]; /* the caller's own may have overflowed */
  sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, 0);
  struct sigaction action = {.sa_handler = leave, .sa_flags = SA_ONSTACK};
  for (unsigned i = 0; i < sizeof watched / sizeof *watched; i++) sigaction(watched[i], &action, 0);
}

static void set_timer(int seconds) { setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_sec = seconds}, 0); }

/* Run each candidate `runs` times, in turns. A run may take `limit` seconds; `seconds`, a tensor of `runs` rows,
 * receives the time of its last step. After a signal nothing can be trusted: the session must be closed, and ends
 * by itself if it is not. */
EXPORT int __tvm_ffi_convc_time(void *self, const Any *arguments, int32_t count, Any *result) {
  (void)self;
  int64_t limit = arguments[0].number, runs = arguments[1].number;
  double *seconds = (double *)address(arguments + 2);
  caller = pthread_self();
  watch();
  int signal_number = sigsetjmp(out, 1);
  if (signal_number) {
    set_timer(QUIT_SECONDS);
    return return_number(result, signal_number);
  }
  for (int64_t run = 0; run < runs; run++)
    for (int i = 3; i < count; i++) {
      const Candidate *candidate = (const Candidate *)(intptr_t)arguments[i].number;
      running = 1;
      set_timer(limit);
      int failed = candidate->run(candidate->inputs, candidate->outputs, candidate->threads, candidate->seconds);
      set_timer(0);
      running = 0;
      if (failed) return return_number(result, -1);
      *seconds++ = candidate->seconds[candidate->steps - 1];
    }
  return return_number(result, 0);
}
