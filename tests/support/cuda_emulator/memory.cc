// The shared memory of a block, in its 32-bit addresses, and asynchronous copies into it.
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"

extern "C" char __start_convc_shared[], __stop_convc_shared[];

namespace convc {

namespace {

constexpr size_t PAGE = 4096;
constexpr uint32_t FIRST_ADDRESS = 1024;  // the hardware's own part comes first
// Exists so that the section does, in sources without static shared memory.
CONVC_SHARED alignas(1024) char first_shared[16];

size_t dynamic_bytes;
char *dynamic_memory;

size_t slack() { return (dynamic_bytes + PAGE - 1) / PAGE * PAGE - dynamic_bytes; }

}  // namespace

void poison_shared() {
  poison(__start_convc_shared, __stop_convc_shared - __start_convc_shared);
  poison(dynamic_shared(), dynamic_bytes + slack());
}

void allow_shared(size_t bytes) {
  dynamic_bytes = bytes;
  mprotect(dynamic_shared(), SHARED_LIMIT, PROT_NONE);
  mprotect(dynamic_shared(), bytes + slack(), PROT_READ | PROT_WRITE);
}

size_t written_behind_shared() {
  for (size_t i = slack(); i > 0; --i)
    if (dynamic_memory[dynamic_bytes + i - 1] != '\xFF') return i;
  return 0;
}

char *dynamic_shared() {
  if (!dynamic_memory) {
    void *memory = mmap(nullptr, SHARED_LIMIT + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    dynamic_memory = static_cast<char *>(memory) + PAGE;
  }
  return dynamic_memory;
}

void free_shared() {
  if (dynamic_memory) munmap(dynamic_memory - PAGE, SHARED_LIMIT + 2 * PAGE);
  dynamic_memory = nullptr;
}

static uint32_t first_dynamic_address() {
  uint32_t bytes = static_cast<uint32_t>(__stop_convc_shared - __start_convc_shared);
  return FIRST_ADDRESS + (bytes + 1023) / 1024 * 1024;
}

uint32_t shared_address(const void *pointer) {
  auto *p = static_cast<const char *>(pointer);
  if (p >= __start_convc_shared && p < __stop_convc_shared)
    return FIRST_ADDRESS + static_cast<uint32_t>(p - __start_convc_shared);
  // An address may be computed and never used, so the end is checked where it is.
  if (p >= dynamic_shared() && p <= dynamic_shared() + SHARED_LIMIT)
    return first_dynamic_address() + static_cast<uint32_t>(p - dynamic_shared());
  fail("%p is not in shared memory, but is converted to an address of it", pointer);
}

char *shared_pointer(uint32_t address, unsigned bytes, unsigned alignment, const char *name) {
  if (address % alignment) fail("%s: shared address %#x is not a multiple of %u", name, address, alignment);
  uint32_t dynamic = first_dynamic_address(), fixed = dynamic - FIRST_ADDRESS;
  if (address >= FIRST_ADDRESS && address + bytes <= FIRST_ADDRESS + fixed)
    return __start_convc_shared + (address - FIRST_ADDRESS);
  if (address < dynamic || address + uint64_t{bytes} > dynamic + dynamic_bytes)
    fail("%s: %u bytes at %d of %zu bytes of dynamic shared memory are out of bounds", name, bytes,
         static_cast<int>(address - dynamic), dynamic_bytes);
  return dynamic_shared() + (address - dynamic);
}

void *global_pointer(uint64_t address, unsigned alignment, const char *name) {
  if (address % alignment)
    fail("%s: address %#llx is not a multiple of %u", name, static_cast<unsigned long long>(address), alignment);
  return reinterpret_cast<void *>(address);
}

// Until it is waited for, a copy has any value at its destination: NaN. That shows both a read that comes
// before the wait and a copy that is issued while other threads still read what was there.
void copy_async(uint32_t to, uint64_t from, unsigned bytes, unsigned valid, const char *name) {
  if (bytes != 4 && bytes != 8 && bytes != 16) fail("%s copies 4, 8 or 16 bytes, not %u", name, bytes);
  if (valid > bytes) fail("%s: %u of %u bytes are valid", name, valid, bytes);
  char *target = shared_pointer(to, bytes, bytes, name);
  poison(target, bytes);
  current->copies.push_back({target, global_pointer(from, bytes, name), bytes, valid});
}

void commit_copies() { current->groups.push_back(current->copies.size()); }

static void complete(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const Copy &copy = current->copies[i];
    memset(copy.to, 0, copy.bytes);
    memcpy(copy.to, copy.from, copy.valid);
  }
  current->copies.erase(current->copies.begin(), current->copies.begin() + count);
  for (size_t &end : current->groups) end -= count;
}

void wait_copies(size_t groups_left_pending) {
  auto &groups = current->groups;
  if (groups.size() <= groups_left_pending) return;
  size_t done = groups.size() - groups_left_pending;
  size_t count = groups[done - 1];
  groups.erase(groups.begin(), groups.begin() + done);
  complete(count);
}

void wait_all_copies() {
  size_t count = current->copies.size();
  current->groups.clear();
  complete(count);
}

}  // namespace convc
