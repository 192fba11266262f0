// Runs a kernel's grid: block after block, each CUDA thread as a fiber. Which warp goes on, and which of its
// threads, is drawn by chance wherever several can; a warp goes on for as long as any of its threads can, far
// ahead of the others. A result that depends on the order (a missing barrier) then shows.
#include "runtime.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <map>
#include <memory>
#include <string>

#include "fiber.h"

// The translator writes it behind each source.
extern "C" const convc::Kernel convc_kernels[];

namespace convc {

Thread *current;
uint3 block_index;
dim3 block_size, grid_size;

namespace {

constexpr size_t STACK = 128 << 10, POISONED_STACK = 4 << 10, PAGE = 4096;

struct Barrier {
  unsigned expected = 0;
  std::vector<Thread *> arrived;
};
struct Gathering {
  uint32_t mask;
  const char *name;
  unsigned count;
  void *operands[WARPGROUP];
  Thread *threads[WARPGROUP];
};
struct Ready {
  unsigned count;
  Thread *threads[WARP];
};
constexpr unsigned MAX_THREADS = 1024;

const Kernel *kernel;
void **kernel_arguments;
std::vector<std::unique_ptr<Thread>> threads;
Ready ready[MAX_THREADS / WARP];
uint32_t ready_warps;                 // a bit for each warp that has any
uint32_t living[MAX_THREADS / WARP];  // a bit for each lane that has not ended
std::map<unsigned, Barrier> barriers;
// Parts of one warp may be in different operations, when their masks have no lane in common: by first lane.
Gathering of_lanes[MAX_THREADS];
Gathering of_warpgroups[MAX_THREADS / WARPGROUP];
unsigned thread_count, ended_count;
void *scheduler;
bool failed;
char message[2048];
uint64_t fault_address;
uint64_t seed = 1, random_state;
sigjmp_buf after_fault;

unsigned draw(unsigned below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<unsigned>((random_state >> 32) * below >> 32);
}

void describe(const char *format, va_list values) {
  size_t used = 0;
  if (current)
    used = snprintf(message, sizeof message, "thread (%u, %u, %u) of block (%u, %u, %u) of '%s': ",
                    current->index.x, current->index.y, current->index.z, block_index.x, block_index.y,
                    block_index.z, kernel->name);
  vsnprintf(message + used, sizeof message - used, format, values);
  failed = true;
}

void report(const char *format, ...) {
  va_list values;
  va_start(values, format);
  describe(format, values);
  va_end(values);
}

void release(Thread *thread) {
  thread->waits_for = nullptr;
  Ready &warp = ready[thread->linear / WARP];
  warp.threads[warp.count++] = thread;
  ready_warps |= 1u << thread->linear / WARP;
}

// The next thread that goes on: of the warp `last`, if one can.
Thread *choose(unsigned last) {
  unsigned warp = last;
  if (!(ready_warps >> last & 1)) {
    uint32_t others = ready_warps;
    for (unsigned skip = draw(__builtin_popcount(ready_warps)); skip > 0; --skip) others &= others - 1;
    warp = __builtin_ctz(others);
  }
  Ready &candidates = ready[warp];
  std::swap(candidates.threads[draw(candidates.count)], candidates.threads[candidates.count - 1]);
  if (--candidates.count == 0) ready_warps &= ~(1u << warp);
  return candidates.threads[candidates.count];
}

// Goes on with another thread, or with the scheduler where none can go on.
void leave() {
  Thread *here = current;
  if (failed || !ready_warps) return convc_switch(&here->stack_pointer, scheduler);
  current = choose(here->linear / WARP);
  if (current != here) convc_switch(&here->stack_pointer, current->stack_pointer);
}

void thread_main() {
  kernel->call(kernel_arguments);
  current->ended = true;
  living[current->linear / WARP] &= ~(1u << current->linear % WARP);
  ++ended_count;
  leave();
  __builtin_unreachable();
}

// "0-31, 40" of the threads that wait for that (null: that have ended)
std::string numbers(const char *waits_for) {
  std::string text;
  for (unsigned i = 0; i < thread_count; ++i) {
    auto belongs = [&](unsigned k) {
      const Thread &t = *threads[k];
      return waits_for ? !t.ended && t.waits_for && !strcmp(t.waits_for, waits_for) : t.ended;
    };
    if (!belongs(i)) continue;
    unsigned last = i;
    while (last + 1 < thread_count && belongs(last + 1)) ++last;
    text += (text.empty() ? "" : ", ") + std::to_string(i);
    if (last > i) text += "-" + std::to_string(last);
    i = last;
  }
  return text;
}

void report_deadlock() {
  current = nullptr;
  std::map<std::string, bool> reasons;
  for (unsigned i = 0; i < thread_count; ++i)
    if (threads[i]->waits_for) reasons[threads[i]->waits_for] = true;
  std::string text;
  for (const auto &reason : reasons)
    text += (text.empty() ? "threads " : "; threads ") + numbers(reason.first.c_str()) + " wait in " + reason.first;
  std::string gone = numbers(nullptr);
  if (!gone.empty()) text += "; threads " + gone + " have ended";
  report("deadlock in block (%u, %u, %u) of '%s': %s (numbers are x + y * blockDim.x + ...)", block_index.x,
         block_index.y, block_index.z, kernel->name, text.c_str());
}

// A process may have 65530 mappings and hundreds of emulated kernels: none keeps its stacks.
void free_stacks() {
  for (auto &thread : threads) munmap(thread->stack - PAGE, STACK + PAGE);
  threads.clear();
}

void prepare_threads() {
  while (threads.size() < thread_count) {
    void *memory = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, PAGE, PROT_NONE)) {
      report("there is no memory for the stacks of %u threads", thread_count);
      siglongjmp(after_fault, 1);
    }
    threads.push_back(std::make_unique<Thread>());
    threads.back()->stack = static_cast<char *>(memory) + PAGE;
  }
  for (auto &warp : ready) warp.count = 0;
  memset(living, 0, sizeof living);
  ready_warps = 0;
  barriers.clear();
  ended_count = 0;
  for (unsigned i = 0; i < thread_count; ++i) {
    Thread &t = *threads[i];
    poison(t.stack + STACK - POISONED_STACK, POISONED_STACK);
    t.stack_pointer = prepare(t.stack + STACK, thread_main);
    t.index = {i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y};
    t.linear = i;
    t.ended = false;
    t.copies.clear();
    t.groups.clear();
    living[i / WARP] |= 1u << i % WARP;
    release(&t);
  }
}

void run_block() {
  poison_shared();
  prepare_threads();
  current = choose(draw((thread_count + WARP - 1) / WARP));
  convc_switch(&scheduler, current->stack_pointer);
  if (failed) return;
  current = nullptr;
  if (ended_count != thread_count) return report_deadlock();
  if (size_t behind = written_behind_shared(); behind) {
    current = nullptr;
    report("block (%u, %u, %u) of '%s' wrote behind its dynamic shared memory, up to %zu bytes", block_index.x,
           block_index.y, block_index.z, kernel->name, behind);
  }
}

void on_fault(int number, siginfo_t *info, void *) {
  if (!current) {  // not in a kernel: a defect of this file, to be shown as such
    signal(number, SIG_DFL);
    return;
  }
  fault_address = reinterpret_cast<uint64_t>(info->si_addr);
  const char *stack = current->stack;
  const char *address = static_cast<const char *>(info->si_addr);
  if (number == SIGFPE)
    report("an integer division by zero");
  else if (address >= stack - PAGE && address < stack)
    report("more than %zu bytes of stack are used", STACK);
  else
    report("an access out of bounds, at address %p", info->si_addr);
  siglongjmp(after_fault, 1);
}

// Catches faults while a grid runs; what was there before comes back afterwards.
struct FaultHandlers {
  static constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction before[3];
  stack_t stack_before;
  std::vector<char> memory = std::vector<char>(64 << 10);

  FaultHandlers() {
    stack_t own = {};
    own.ss_sp = memory.data();
    own.ss_size = memory.size();
    sigaltstack(&own, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &action, &before[i]);
  }
  ~FaultHandlers() {
    for (int i = 0; i < 3; ++i) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

void run_grid() {
  for (unsigned z = 0; z < grid_size.z; ++z)
    for (unsigned y = 0; y < grid_size.y; ++y)
      for (unsigned x = 0; x < grid_size.x; ++x) {
        block_index = {x, y, z};
        run_block();
        if (failed) return;
      }
}

}  // namespace

void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  describe(format, values);
  va_end(values);
  leave();
  __builtin_unreachable();
}

void barrier(unsigned id, unsigned count, const char *name) {
  unsigned expected = count ? count : thread_count;
  Barrier &here = barriers[id];
  if (here.arrived.empty()) here.expected = expected;
  if (here.expected != expected)
    fail("barrier %u is waited for with %u threads and with %u", id, here.expected, expected);
  here.arrived.push_back(current);
  current->waits_for = name;
  if (here.arrived.size() == expected) {
    for (Thread *thread : here.arrived) release(thread);
    here.arrived.clear();
  }
  leave();
}

uint32_t active_lanes() { return living[current->linear / WARP]; }

void collective(unsigned lanes, uint32_t mask, const char *name, void *operands, Together together) {
  unsigned lane = current->linear % lanes, group = current->linear / lanes;
  unsigned present = thread_count - group * lanes < lanes ? thread_count - group * lanes : lanes;
  if (lanes == WARP && present < WARP) mask &= (1u << present) - 1;
  if (lanes == WARP && !(mask >> lane & 1)) fail("%s: lane %u is not in its own mask %#x", name, lane, mask);
  if (lanes != WARP && present < lanes) fail("%s needs %u threads, the block has fewer", name, lanes);
  unsigned expected = lanes == WARP ? __builtin_popcount(mask) : lanes;
  Gathering &here = lanes == WARP ? of_lanes[group * WARP + __builtin_ctz(mask)] : of_warpgroups[group];
  if (here.count == 0) {
    here.mask = mask;
    here.name = name;
    memset(here.operands, 0, lanes * sizeof here.operands[0]);
  }
  if (here.mask != mask || (here.name != name && strcmp(here.name, name)))
    fail("%s (mask %#x), while other lanes of the same warp are in %s (mask %#x)", name, mask, here.name,
         here.mask);
  here.operands[lane] = operands;
  here.threads[here.count++] = current;
  current->waits_for = name;
  if (here.count == expected) {
    together(here.operands);
    for (unsigned i = 0; i < expected; ++i) release(here.threads[i]);
    here.count = 0;
  }
  leave();
}

}  // namespace convc

using namespace convc;

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char *convc_message() { return message; }
EXPORTED uint64_t convc_fault_address() { return fault_address; }
EXPORTED void convc_set_seed(uint64_t value) { seed = value; }

// 0: done; 1: no such function; 2: failed, see convc_message (and convc_fault_address, 0 if there was none).
EXPORTED int convc_emulate(const char *function, const unsigned grid[3], const unsigned block[3],
                           unsigned shared_bytes, void **arguments) {
  failed = false;
  current = nullptr;
  fault_address = 0;
  for (kernel = convc_kernels; kernel->name && strcmp(kernel->name, function);) ++kernel;
  if (!kernel->name) return 1;
  kernel_arguments = arguments;
  grid_size = {grid[0], grid[1], grid[2]};
  block_size = {block[0], block[1], block[2]};
  thread_count = block[0] * block[1] * block[2];
  random_state = seed * 0x9E3779B97F4A7C15u | 1;
  if (thread_count == 0 || thread_count > kernel->max_threads || thread_count > MAX_THREADS)
    report("'%s' is launched with %u threads; its launch bounds are %u", function, thread_count,
           kernel->max_threads);
  else if (shared_bytes > SHARED_LIMIT)
    report("'%s' is launched with %u bytes of shared memory; there are %zu", function, shared_bytes,
           SHARED_LIMIT);
  if (failed) return 2;
  // A block that ends leaves none behind; one that failed may have.
  for (auto &gathering : of_lanes) gathering.count = 0;
  for (auto &gathering : of_warpgroups) gathering.count = 0;
  allow_shared(shared_bytes);
  FaultHandlers handlers;
  if (!sigsetjmp(after_fault, 1)) run_grid();
  free_stacks();
  free_shared();
  return failed ? 2 : 0;
}
