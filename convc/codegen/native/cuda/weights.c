/* From the module's file to the device, whose end says where the weights are (see runtime/container.py). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handle.h"

typedef struct {
  uint64_t offset, bytes, manifest_bytes;
  char magic[8];
} Trailer;

static int find_weights(int file, const char *path, Trailer *trailer) {
  struct stat status;
  off_t size = sizeof *trailer;
  if (!fstat(file, &status) && status.st_size > size &&
      pread(file, trailer, size, status.st_size - size) == size && !memcmp(trailer->magic, "CONVCMOD", 8) &&
      trailer->bytes == convc_weights_bytes && trailer->offset < (uint64_t)status.st_size &&
      trailer->bytes < status.st_size - trailer->offset)
    return OK;
  return fail(HOST_FAILED, "Copy or compile the file again.", "The weights of '%s' are not in the file.", path);
}

static int copy_weights(Handle *handle, int file, const char *path) {
  Trailer trailer;
  int status = find_weights(file, path, &trailer);
  if (status) return status;
  size_t bytes = convc_weights_bytes;
  void *mapped = mmap(0, bytes, PROT_READ, MAP_PRIVATE, file, trailer.offset);
  if (mapped == MAP_FAILED)
    return fail(HOST_FAILED, "Load the file again.", "The weights of '%s' could not be mapped: %s.", path, strerror(errno));
  CUresult result = handle->driver.cuMemcpyHtoD_v2(handle->weights, mapped, bytes);
  /* The file's pages have been read when that returns, but may not have arrived, and our streams wait for no other. */
  if (!result) result = handle->driver.cuCtxSynchronize();
  munmap(mapped, bytes);
  return result ? driver_failed(&handle->driver, result, "copying the weights to the device", 0) : OK;
}

int upload_weights(Handle *handle, const char *path) {
  if (!convc_weights_bytes) return OK;
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return fail(HOST_FAILED, "Load the file again.", "The weights of '%s' cannot be read: %s.", path, strerror(errno));
  int status = copy_weights(handle, file, path);
  close(file);
  return status;
}
