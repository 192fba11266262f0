// What a translated kernel needs of the machine that runs it: its place in the launch, barriers,
// operations of a whole warp, shared memory and asynchronous copies. See runtime.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct uint3 {
  unsigned x, y, z;
};

namespace convc {

struct Kernel {  // one row of the table that the translator writes behind a source; a null name ends it
  const char *name;
  void (*call)(void **arguments);
  unsigned max_threads;  // of __launch_bounds__, or 1024
};

struct Copy {  // a cp.async that was issued and has not been waited for
  void *to;
  const void *from;
  unsigned bytes, valid;  // of `bytes`, those behind `valid` become zero
};

struct Thread {
  void *stack_pointer;
  char *stack;
  uint3 index;
  unsigned linear;
  bool ended;
  const char *waits_for;  // null while it can run
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // ends of the committed groups, as counts of `copies`
};

extern Thread *current;
extern uint3 block_index;
extern dim3 block_size, grid_size;

// Ends the launch with a message; the thread and block are added.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Waits until `count` threads (0: all of the block) have come to the barrier of that number.
void barrier(unsigned id, unsigned count, const char *name);

// Lane operations. Every lane of `mask` calls with a pointer to its operands; the last one calls `together`
// with all of them (null for lanes outside the mask), and then all go on.
using Together = void (*)(void **operands);
void collective(unsigned lanes, uint32_t mask, const char *name, void *operands, Together together);
constexpr unsigned WARP = 32, WARPGROUP = 128;
uint32_t active_lanes();

// Shared memory has 32-bit addresses of its own; 0 is none of them.
constexpr size_t SHARED_LIMIT = 228 << 10;  // of compute capability 9.0, the largest there is
void allow_shared(size_t bytes);
void poison_shared();
size_t written_behind_shared();
char *dynamic_shared();
void free_shared();
uint32_t shared_address(const void *pointer);
char *shared_pointer(uint32_t address, unsigned bytes, unsigned alignment, const char *name);
void *global_pointer(uint64_t address, unsigned alignment, const char *name);

void copy_async(uint32_t to, uint64_t from, unsigned bytes, unsigned valid, const char *name);
void commit_copies();
void wait_copies(size_t groups_left_pending);
void wait_all_copies();

// What was never written reads as NaN in every format of 8, 16 and 32 bits.
inline void poison(void *memory, size_t bytes) { __builtin_memset(memory, 0xFF, bytes); }

// Operands of inline assembly: a C++ value into the register that its constraint names, and back.
template <class Register, class T>
Register to_register(T value) {
  if constexpr (std::is_pointer_v<T>) {
    static_assert(sizeof(Register) == 8, "a pointer needs constraint \"l\"");
    return reinterpret_cast<Register>(value);
  } else {
    static_assert(std::is_floating_point_v<T> == std::is_floating_point_v<Register>,
                  "float operands need constraint \"f\" or \"d\", integers \"r\", \"l\" or \"h\"");
    static_assert(sizeof(T) <= sizeof(Register) || std::is_integral_v<T>, "the operand is too wide");
    return static_cast<Register>(value);
  }
}
template <class T, class Register>
void from_register(T &value, Register r) {
  if constexpr (std::is_pointer_v<T>)
    value = reinterpret_cast<T>(r);
  else
    value = static_cast<T>(r);
}

}  // namespace convc

#define CONVC_SHARED __attribute__((section("convc_shared"), used))
#define threadIdx (convc::current->index)
#define blockIdx (convc::block_index)
#define blockDim (convc::block_size)
#define gridDim (convc::grid_size)
