"""Runs kernels on tensors between inaccessible pages; the last line printed names the one that crashed.

python guarded.py OP ...
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
from cases import cases
from generic_jobs import WIDE, build, jobs_of

from convc.types import Array

PAGE = mmap.PAGESIZE
_kept: list[mmap.mmap] = []


def guarded(array: Array, *, at_end: bool) -> Array:
    """A copy that starts right after an inaccessible page, or ends (within 64 bytes) right before one."""
    pages = -(-max(array.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    _kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (start, start + (pages + 1) * PAGE):
        if ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), PAGE, 0):
            raise OSError("mprotect failed")
    offset = PAGE + ((pages * PAGE - array.nbytes) // 64 * 64 if at_end else 0)
    copy = np.frombuffer(memory, np.uint8, array.nbytes, offset).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def main(ops: list[str]) -> None:
    """Run every case of the operators twice."""
    jobs = [job for job in jobs_of(cases(*ops), WIDE) if all(kind.size for kind in job.w.outputs)]
    for job, kernel in zip(jobs, build([job.function() for job in jobs]), strict=True):
        print(job.w, flush=True)
        arguments = [a.numpy() for a in job.arguments()]
        for at_end in (False, True):
            kernel(*(guarded(a, at_end=at_end) for a in arguments))
    print("done")


if __name__ == "__main__":
    main(sys.argv[1:])
