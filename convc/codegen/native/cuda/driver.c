/* Finding the driver, and words for what fails.
 *
 * The driver is part of the NVIDIA driver's installation, not of the toolkit: libcuda.so.1. CONVC_LIBCUDA may name
 * another library with the same interface.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "failure.h"

static __thread char message[1024], advice[512];

__attribute__((visibility("default"))) const char *convc_cuda_message(void) { return message; }
__attribute__((visibility("default"))) const char *convc_cuda_hint(void) { return advice; }

int fail(int code, const char *hint, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  snprintf(advice, sizeof advice, "%s", hint);
  return code;
}

int fail_as(int code, const char *hint) {
  snprintf(advice, sizeof advice, "%s", hint);
  return code;
}

int driver_failed(const Driver *driver, CUresult result, const char *what, const char *function) {
  const char *name = 0, *text = 0, *quote = function ? "'" : "";
  if (driver->cuGetErrorName(result, &name) || !name) name = "an error without a name";
  if (driver->cuGetErrorString(result, &text) || !text) text = "no description";
  if (!function) function = "";
  const char *space = *function ? " " : "";
  if (result == CUDA_ERROR_OUT_OF_MEMORY)
    return fail(DEVICE_MEMORY, "Free memory of the device, or compile for a smaller batch.",
                "Not enough memory on the device: %s%s%s%s%s failed with %s (%s).", what, space, quote, function, quote,
                name, text);
  return fail(DEVICE_FAILED, "After a fault of the device nothing works in this process: try again in a new one.",
              "On the device, %s%s%s%s%s failed with %s (%s).", what, space, quote, function, quote, name, text);
}

int load_driver(Driver *driver) {
  const char *name = getenv("CONVC_LIBCUDA");
  if (!name || !*name) name = "libcuda.so.1";
  driver->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!driver->library)
    return fail(NO_DEVICE, "Install the NVIDIA driver, or compile for the CPU with `--target host`.",
                "The NVIDIA driver was not found: %s.", dlerror());
  const char *missing = 0;
#define FIND(name, parameters)                                        \
  *(void **)(&driver->name) = dlsym(driver->library, #name);          \
  if (!driver->name && !missing) missing = #name;
  DRIVER_FUNCTIONS(FIND)
#undef FIND
  if (!missing) return OK;
  unload_driver(driver);
  return fail(BAD_DRIVER, "Update the NVIDIA driver.", "The driver library '%s' lacks the function %s.", name, missing);
}

void unload_driver(Driver *driver) {
  if (driver->library) dlclose(driver->library);
  driver->library = 0;
}
