"""Tiny networks for the tests' CUDA driver: launches by hand, with kernels written in C."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fake_driver import compile_c, nbytes, write

from convc.codegen.cuda_link import Access, DeviceProgram, Launch, dependencies
from convc.plan.program import Location
from convc.runtime.manifest import TensorInfo
from convc.types import Array

SHAPE = (2, 4)
BYTES = 32

KERNELS = r"""
#include <string.h>
int convc_emulate(const char *name, const unsigned grid[3], const unsigned block[3], unsigned shared,
                  void **a) {
  unsigned n = grid[0] * block[0];
  float *x = *(float **)a[0], *y = *(float **)a[1], *z = a[2] ? *(float **)a[2] : 0;
  for (unsigned i = 0; i < n; i++) {
    if (!strcmp(name, "double")) y[i] = 2 * x[i];
    else if (!strcmp(name, "square")) y[i] = x[i] * x[i];
    else if (!strcmp(name, "next")) y[i] = x[i] + 1;
    else if (!strcmp(name, "add")) z[i] = x[i] + y[i];
    else if (!strcmp(name, "multiply")) z[i] = x[i] * y[i];
    else if (!strcmp(name, "greedy")) y[i] = shared >= 100000 ? x[i] : 0;
    else if (!strcmp(name, "overrun")) y[i + 1] = x[i];
    else return 1;
  }
  return 0;
}
"""

IN = [Location("input", i) for i in range(2)]
OUT = [Location("output", i) for i in range(2)]
WEIGHTS = [Location("weights", 0, i * 64) for i in range(2)]


def space(number: int) -> Location:
    """The place of an array in the workspace; they lie side by side."""
    return Location("workspace", 0, BYTES * number)


@dataclass
class Case:
    """A program, its inputs and outputs, and what it computes."""

    program: DeviceProgram
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    compute: Callable[..., tuple[Array, ...]]

    def write(self, folder: Path, cache: Path, name: str = "net.so") -> Path:
        return write(self.program, self.inputs, self.outputs, folder / name, cache)


@lru_cache(maxsize=1)
def cubin() -> bytes:
    """All kernels."""
    with TemporaryDirectory() as name:
        source, library = Path(name) / "kernels.c", Path(name) / "kernels.so"
        source.write_text(KERNELS)
        compile_c(library, [source], "-Wno-unused-parameter")
        return library.read_bytes()


def case(
    rows: list[tuple[str, list[Location]]],
    compute: Callable[..., tuple[Array, ...]],
    *,
    inputs: int = 1,
    outputs: int = 1,
    workspace: int = 0,
    weights: tuple[Array, ...] = (),
) -> Case:
    """Each row is a kernel with its arguments, the last of which it writes; row i is step i // 2."""
    accesses = [[Access(place, BYTES, place is places[-1]) for place in places] for _, places in rows]
    launches = [
        Launch("kernels", name, (2, 1, 1), (4, 1, 1), 0, tuple(places), after, index // 2)
        for index, ((name, places), after) in enumerate(zip(rows, dependencies(accesses), strict=True))
    ]
    ins = [TensorInfo(f"x{i}", SHAPE, "float32") for i in range(inputs)]
    outs = [TensorInfo(f"y{i}", SHAPE, "float32") for i in range(outputs)]
    program = DeviceProgram(
        "sm_90",
        launches,
        {"kernels": cubin()},
        [(64 * i, array) for i, array in enumerate(weights)],
        64 * len(weights),
        BYTES * workspace,
        nbytes(ins),
        nbytes(outs),
    )
    return Case(program, ins, outs, compute)


def chain() -> Case:
    """Layer after layer, two of them with weights, in two places by turns."""
    w = [np.arange(8, dtype="float32").reshape(SHAPE), np.full(SHAPE, 3, "float32")]
    return case(
        [
            ("multiply", [IN[0], WEIGHTS[0], space(0)]),
            ("square", [space(0), space(1)]),
            ("add", [space(1), WEIGHTS[1], space(0)]),
            ("double", [space(0), OUT[0]]),
        ],
        lambda x: (2 * ((x * w[0]) ** 2 + w[1]),),
        workspace=2,
        weights=tuple(w),
    )


def diamond() -> Case:
    """Two branches side by side; their sum overwrites what both of them read."""
    return case(
        [
            ("double", [IN[0], space(0)]),
            ("square", [space(0), space(1)]),
            ("next", [space(0), space(2)]),
            ("add", [space(1), space(2), space(0)]),
            ("next", [space(0), OUT[0]]),
        ],
        lambda x: (4 * x * x + 2 * x + 2,),
        workspace=3,
    )


def pair() -> Case:
    """Two inputs and two outputs, the second of which is computed from the first."""
    return case(
        [
            ("add", [IN[0], IN[1], OUT[0]]),
            ("multiply", [IN[0], IN[1], space(0)]),
            ("multiply", [OUT[0], space(0), OUT[1]]),
        ],
        lambda x, y: (x + y, (x + y) * x * y),
        inputs=2,
        outputs=2,
        workspace=1,
    )
