/* Code: a "cubin" is a shared object, see fake_cuda.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include "fake_cuda.h"

typedef int (*Emulate)(const char *, const unsigned *, const unsigned *, unsigned, void **);
typedef struct CUfunc_st {
  struct CUfunc_st *next;
  char name[256];
  Emulate emulate;
  unsigned shared_bytes;
} Function;
typedef struct CUmod_st {
  void *library;
  Function *functions;
} Module;

static size_t elf_size(const void *image) {
  const Elf64_Ehdr *header = image;
  if (memcmp(header->e_ident, ELFMAG, SELFMAG)) return 0;
  const Elf64_Shdr *sections = (const void *)((const char *)image + header->e_shoff);
  size_t size = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
  for (int i = 0; i < header->e_shnum; i++)
    if (sections[i].sh_type != SHT_NOBITS && sections[i].sh_offset + sections[i].sh_size > size)
      size = sections[i].sh_offset + sections[i].sh_size;
  return size;
}

static void *open_image(const void *image) {
  char path[] = "/tmp/fake_cubin_XXXXXX";
  size_t size = elf_size(image);
  int file = size ? mkstemp(path) : -1;
  if (file < 0) return 0;
  void *library = write(file, image, size) == (ssize_t)size ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : 0;
  if (!library) fprintf(stderr, "fake_cuda: %s\n", dlerror());
  close(file);
  unlink(path);
  return library;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  CALL(CONTEXT_AND_DEVICE);
  void *library = open_image(image);
  if (!library || !dlsym(library, "convc_emulate")) return INVALID_IMAGE;
  *module = calloc(1, sizeof **module);
  (*module)->library = library;
  live[MODULE]++;
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
  CALL(RELEASE);
  for (Function *next, *function = module->functions; function; function = next) {
    next = function->next;
    free(function);
  }
  dlclose(module->library);
  free(module);
  live[MODULE]--;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  CALL(CONTEXT_AND_DEVICE);
  *function = calloc(1, sizeof **function);
  snprintf((*function)->name, sizeof (*function)->name, "%s", name);
  *(void **)&(*function)->emulate = dlsym(module->library, "convc_emulate");
  (*function)->shared_bytes = 48 << 10;
  (*function)->next = module->functions;
  module->functions = *function;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  CALL(CONTEXT_AND_DEVICE);
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > 227 << 10) return INVALID_VALUE;
  function->shared_bytes = value;
  return CUDA_SUCCESS;
}

CUresult take_kernel(Kernel *kernel, const CUDA_KERNEL_NODE_PARAMS *params) {
  *kernel = (Kernel){.function = params->func, .shared_bytes = params->sharedMemBytes};
  memcpy(kernel->grid, (unsigned[]){params->gridDimX, params->gridDimY, params->gridDimZ}, sizeof kernel->grid);
  memcpy(kernel->block, (unsigned[]){params->blockDimX, params->blockDimY, params->blockDimZ}, sizeof kernel->block);
  for (; params->kernelParams[kernel->count]; kernel->count++)
    kernel->values[kernel->count] = *(CUdeviceptr *)params->kernelParams[kernel->count];
  unsigned threads = kernel->block[0] * kernel->block[1] * kernel->block[2];
  unsigned blocks = kernel->grid[0] * kernel->grid[1] * kernel->grid[2];
  int sound = threads && threads <= 1024 && blocks && kernel->shared_bytes <= kernel->function->shared_bytes;
  return sound ? CUDA_SUCCESS : INVALID_VALUE;
}

CUresult execute_kernel(Kernel *kernel) {
  void *arguments[MAX_ARGUMENTS];
  const char *name = kernel->function->name;
  for (int i = 0; i < kernel->count; i++) {
    if (!is_device_memory(kernel->values[i], 0)) return fault(ILLEGAL_ADDRESS, "an argument is no address of the device", name);
    arguments[i] = &kernel->values[i];
  }
  arguments[kernel->count] = 0;
  if (kernel->function->emulate(name, kernel->grid, kernel->block, kernel->shared_bytes, arguments))
    return fault(LAUNCH_FAILED, "the emulated kernel failed", name);
  return check_fences(name);
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream handle, void **arguments, void **extra) {
  CALL(CONTEXT_AND_DEVICE);
  CUDA_KERNEL_NODE_PARAMS params = {function, gx, gy, gz, bx, by, bz, shared, arguments, extra, 0, 0};
  Kernel kernel;
  CUresult result = take_kernel(&kernel, &params);
  return result ? result : put_kernel(handle, &kernel);
}

