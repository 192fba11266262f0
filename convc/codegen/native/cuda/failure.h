/* What went wrong, for the caller: a code, and for this thread a message and a hint as whole sentences. */
#include "driver.h"

enum { /* runtime/device.py makes errors of these */
  OK = 0,
  NO_DEVICE = 1,     /* no driver, no GPU, or not that many */
  WRONG_DEVICE = 2,  /* the kernels were compiled for another one */
  BAD_DRIVER = 3,    /* too old, or it does not work */
  DEVICE_MEMORY = 4, /* not enough of it */
  DEVICE_FAILED = 5, /* any other call of the driver */
  HOST_FAILED = 6,   /* the file or the host's memory */
};

/* Keep a message; returns `code`. */
__attribute__((format(printf, 3, 4))) int fail(int code, const char *hint, const char *format, ...);

/* Keep the last message under another code and with another hint. */
int fail_as(int code, const char *hint);

/* The same as `fail` for a call of the driver: what it was to do, and what the driver says of it. */
int driver_failed(const Driver *driver, CUresult result, const char *what, const char *function);
