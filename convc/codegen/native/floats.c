/* How a network computes with floating-point numbers, whatever its caller has set: it rounds to nearest, raises no
 * traps, and takes denormal numbers for zero and makes none, unless it was compiled to keep them.
 *
 * Processors take some hundred cycles for an operation on denormals, which saturated activations are full of. The
 * mode belongs to a thread: the caller gets its own back after the call, a worker after each task, since it serves
 * other modules too.
 */
#include "network.h"
#include "services.h"

#if defined(__x86_64__)
#include <immintrin.h>
enum { ROUND_TO_NEAREST_WITHOUT_TRAPS = 0x1f80, DENORMALS_ARE_ZERO = 1 << 6, FLUSH_TO_ZERO = 1 << 15 };

static FloatMode mode(void) { return _mm_getcsr(); }
static void set_mode(FloatMode wanted) { _mm_setcsr(wanted); }
static FloatMode own_mode(void) {
  return ROUND_TO_NEAREST_WITHOUT_TRAPS | (convc_keeps_denormals ? 0 : DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
}
#elif defined(__aarch64__)
enum { FLUSH_TO_ZERO = 1 << 24 }; /* of inputs and results, but for those of 16 bits */

static FloatMode mode(void) {
  FloatMode found;
  __asm__ volatile("mrs %0, fpcr" : "=r"(found));
  return found;
}
static void set_mode(FloatMode wanted) { __asm__ volatile("msr fpcr, %0" ::"r"(wanted) : "memory"); }
static FloatMode own_mode(void) { return convc_keeps_denormals ? 0 : FLUSH_TO_ZERO; }
#else
static FloatMode mode(void) { return 0; }
static void set_mode(FloatMode wanted) { (void)wanted; }
static FloatMode own_mode(void) { return 0; }
#endif

FloatMode enter_own_mode(void) {
  FloatMode before = mode();
  set_mode(own_mode());
  return before;
}

void leave_own_mode(FloatMode before) { set_mode(before); }

typedef struct {
  Task task;
  void *data;
} Wrapped;

static int in_own_mode(int id, TaskEnvironment *environment, void *data) {
  const Wrapped *wrapped = data;
  FloatMode before = enter_own_mode();
  int status = wrapped->task(id, environment, wrapped->data);
  leave_own_mode(before);
  return status;
}

int launch_in_own_mode(Task task, void *data, int num_task) {
  Wrapped wrapped = {task, data};
  return services->launch(in_own_mode, &wrapped, num_task);
}
