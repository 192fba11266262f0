"""What the assembler makes of kernels: registers, spills, memory. Few calls for many, since each is slow."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from device_batch import merged

from convc.codegen import nvcc
from convc.codegen.device import DeviceCode
from convc.target import Gpu

has_nvcc = nvcc._find_nvcc() is not None
has_nvrtc = nvcc._load_nvrtc(tuple(sys.path)) is not None
needs_cuda_compiler = pytest.mark.skipif(not (has_nvcc or has_nvrtc), reason="no CUDA compiler")


def compiled(codes: Sequence[DeviceCode], arch: str) -> list[nvcc.Cubin]:
    """Machine code of all codes, whose functions have different names; few files for many."""
    return [nvcc.compile_cubin(source, arch) for source, _ in merged(codes)]


def reports(codes: Sequence[DeviceCode], arch: str) -> list[list[nvcc.FunctionReport]]:
    """For each code what is said of the functions that it launches."""
    found = {report.name: report for cubin in compiled(codes, arch) for report in cubin.functions}
    return [[found[entry.function] for entry in code.launches] for code in codes]


def faults(codes: Sequence[DeviceCode], cubins: Sequence[nvcc.Cubin], gpu: Gpu, stack: int = 0) -> list[str]:
    """What is wrong with the functions that the codes launch; a thread may have `stack` bytes of stack."""
    known = {report.name: report for cubin in cubins for report in cubin.functions}
    found = []
    for entry in (entry for code in codes for entry in code.launches):
        report, threads = known[entry.function], entry.block[0] * entry.block[1] * entry.block[2]
        # The hardware gives registers to warps, in units of 256: 8 for each thread.
        registers = -(-report.registers // 8) * 8 * threads
        if report.spill_stores or report.spill_loads or report.stack_bytes > stack:
            found.append(f"{entry.function} spills or has a stack: {report}")
        if registers > gpu.registers:
            found.append(f"{entry.function}: {report.registers} registers for each of {threads} threads")
        if report.shared_bytes + entry.shared_bytes > gpu.block_shared_memory:
            found.append(
                f"{entry.function}: {report.shared_bytes} + {entry.shared_bytes} bytes of shared memory"
            )
    return found
