// Switching between stacks of one operating system thread, in a few nanoseconds: swapcontext would enter the
// kernel at each switch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace convc {

#if defined(__x86_64__) || defined(__aarch64__)

// Saves where it is in *save and goes on where `load` was saved.
extern "C" void convc_switch(void **save, void *load) __attribute__((visibility("hidden")));

#if defined(__x86_64__)
constexpr size_t SAVED = 6;  // rbp, rbx, r12 to r15
asm(R"(
.text
.globl convc_switch
.hidden convc_switch
.type convc_switch, @function
convc_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size convc_switch, .-convc_switch
)");

// A stack that runs `entry` when it is switched to; the call finds the alignment that the ABI prescribes.
inline void *prepare(char *top, void (*entry)()) {
  auto **place = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--place = nullptr;
  *--place = reinterpret_cast<void *>(entry);
  for (size_t i = 0; i < SAVED; ++i) *--place = nullptr;
  return place;
}
#else
constexpr size_t SAVED = 20;  // x19 to x30, d8 to d15
asm(R"(
.text
.globl convc_switch
.hidden convc_switch
.type convc_switch, %function
convc_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size convc_switch, .-convc_switch
)");

inline void *prepare(char *top, void (*entry)()) {
  auto **place = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  for (size_t i = 0; i < SAVED; ++i) *--place = nullptr;
  place[11] = reinterpret_cast<void *>(entry);  // x30
  return place;
}
#endif

#else  // any other processor: slow, but it works

}  // namespace convc
#include <ucontext.h>

#include <deque>
namespace convc {

inline ucontext_t *new_context() {
  static std::deque<ucontext_t> contexts;  // never freed: the process runs tests and ends
  contexts.emplace_back();
  return &contexts.back();
}

inline void convc_switch(void **save, void *load) {
  auto *from = new_context();
  *save = from;
  swapcontext(from, static_cast<ucontext_t *>(load));
}

inline void *prepare(char *top, void (*entry)()) {
  constexpr size_t size = 64 << 10;
  auto *context = new_context();
  getcontext(context);
  context->uc_stack.ss_sp = top - size;
  context->uc_stack.ss_size = size;
  makecontext(context, entry, 0);
  return context;
}

#endif

}  // namespace convc
