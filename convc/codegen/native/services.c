/* One pool of threads for all convc modules of a process: the first one that is loaded serves the others.
 *
 * Modules find each other by an ELF note that points to their table of services. That needs no symbol in the
 * global namespace and no environment variable, and works for modules that were loaded with RTLD_LOCAL, from
 * Python or from C. Constructors run one at a time, under the loader's lock, so that the first is well defined.
 * Modules are linked with `-z nodelete`: workers and the handlers of thread exit run their code to the end.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <string.h>

#include "services.h"

#define NOTE_NAME "convc"
enum { NOTE_TYPE = 1 };

static const Services own = {sizeof own, begin_call, end_call, parallel_launch, workspace_alloc, workspace_free};
__attribute__((visibility("hidden"))) const Services *services;

/* The note: its name, and how far behind the descriptor `services` lies. */
__asm__(
    ".pushsection .note.convc, \"a\", %note\n"
    ".balign 4\n"
    ".long 6, 4, 1\n"
    ".asciz \"convc\"\n"
    ".balign 4\n"
    ".long services - .\n"
    ".popsection\n");

static const Services *services_of(const char *note, const char *end, size_t align) {
  while (note + sizeof(ElfW(Nhdr)) <= end) {
    const ElfW(Nhdr) *header = (const void *)note;
    const char *name = note + sizeof *header;
    const char *content = note + ((sizeof *header + header->n_namesz + align - 1) & -align);
    if (header->n_type == NOTE_TYPE && header->n_namesz == sizeof NOTE_NAME && !memcmp(name, NOTE_NAME, sizeof NOTE_NAME))
      return *(const Services *const *)(content + *(const int32_t *)content);
    note = content + ((header->n_descsz + align - 1) & -align);
  }
  return 0;
}

static int look(struct dl_phdr_info *object, size_t size, void *found) {
  (void)size;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = object->dlpi_phdr + i;
    if (segment->p_type != PT_NOTE) continue;
    const char *notes = (const char *)object->dlpi_addr + segment->p_vaddr;
    const Services *theirs = services_of(notes, notes + segment->p_memsz, segment->p_align == 8 ? 8 : 4);
    if (!theirs) continue; /* no module of ours, or one that is being loaded: this one, for instance */
    *(const Services **)found = theirs;
    return 1;
  }
  return 0;
}

static int parallel_barrier(int id, TaskEnvironment *environment) {
  (void)id, (void)environment;
  return -1; /* no schedule uses barriers */
}

/* What generated code refers to; TVM's own runtime would fill these pointers at load time. */
void *__TVMBackendParallelLaunch;
void *__TVMBackendParallelBarrier = (void *)parallel_barrier;
void *__TVMBackendAllocWorkspace;
void *__TVMBackendFreeWorkspace;

__attribute__((constructor)) static void find_services(void) {
  const Services *found = &own;
  dl_iterate_phdr(look, &found);
  services = found;
  __TVMBackendParallelLaunch = (void *)launch_in_own_mode;
  __TVMBackendAllocWorkspace = (void *)services->alloc;
  __TVMBackendFreeWorkspace = (void *)services->free;
}
