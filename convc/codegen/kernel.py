"""One kernel: a workload and a choice in, a scheduled PrimFunc and then an object file out.

A kernel's C signature is `int32_t name(T0 *param0, T1 *param1, ...)`, one pointer for each tensor. Tensors
may be views of larger buffers: strides are compiled in, offsets are added by the caller.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from convc import schedules
from convc.codegen.cache import ObjectCache
from convc.codegen.pipeline import PIPELINE
from convc.codegen.schedule import Schedule
from convc.errors import CompileError
from convc.ir import opdef
from convc.lowering.base import Lowering
from convc.schedules.base import Config
from convc.target import Target
from convc.types import Shape
from convc.workload import Workload

import tvm  # isort: skip
import tvm_ffi  # isort: skip
from tvm import tirx  # isort: skip
from tvm.ir import PointerType, PrimType  # isort: skip


@dataclass(frozen=True)
class View:
    """How a kernel finds one tensor: strides in elements (None: contiguous) and the alignment in bytes."""

    strides: Shape | None = None
    alignment: int = 64


@dataclass(frozen=True)
class Kernel:
    """All that determines a kernel's code, besides convc itself."""

    lowering: str
    schedule: str
    workload: Workload
    config: Config
    views: tuple[View, ...]
    target: Target

    @property
    def symbol(self) -> str:
        """The C name: the lowering and a digest of everything that the code depends on."""
        content = json.dumps(
            [
                self.lowering,
                self.schedule,
                repr(self.workload),
                repr(self.config),
                repr(self.views),
                repr(self.target),
            ]
        )
        digest = hashlib.sha256((_sources_digest() + content).encode()).hexdigest()
        return f"convc_{self.lowering}_{digest[:24]}"


APART = {"cli", "frontends", "report", "tune"}
"""Rooms that no kernel depends on: any other one is taken for a source of kernels."""


@lru_cache(maxsize=1)
def _sources_digest() -> str:
    """Digest of convc's own sources and of TVM's version: a change makes cached kernels stale."""
    digest = hashlib.sha256(tvm.__version__.encode())
    for package in (Path(__file__).parents[1], Path(schedules.__file__).parent):
        for file in sorted(package.rglob("*.py")):
            if not APART.intersection(file.relative_to(package).parts):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def llvm_target(target: Target, *, sums: bool = True) -> Any:
    """The TVM target that stands for ours; whether `sums` may be added up in any order."""
    return tvm.target.Target(
        {
            "kind": "llvm",
            "mtriple": target.triple,
            "mcpu": target.mcpu,
            "num-cores": target.threads,
            # Lets a reduction over a vector of lanes be vectorised; free where they are in registers.
            # Factors would be multiplied in any order too: of x * a * b first a * b, beyond what floats hold.
            "fast-math-reassoc": sums,
        }
    )


def scheduled(kernel: Kernel, lowering: Lowering, schedule: Any) -> Any:
    """The kernel's PrimFunc after its schedule, with natural strides."""
    sch = Schedule(lowering.compute_for(kernel.workload, kernel.target, kernel.config))
    schedule.apply(sch, kernel.workload, kernel.target, kernel.config)
    return sch.mod["main"]


def _with_views(func: Any, views: tuple[View, ...]) -> Any:
    """Give the parameters the strides and alignments of the buffers that they are views of."""
    if len(views) != len(func.params):
        raise CompileError(f"A kernel has {len(func.params)} parameters but {len(views)} tensors.")
    changed = {}
    for param, view in zip(func.params, views, strict=True):
        if view == View():
            continue
        kind = param.ty
        strides = [] if view.strides is None else [tirx.const(s, "int32") for s in view.strides]
        changed[param] = tirx.decl_buffer(
            kind.shape,
            kind.dtype,
            param.name,
            None,
            strides,
            kind.elem_offset,
            "global",
            view.alignment,
            kind.offset_factor,
        )
    if not changed:
        return func
    body = tvm_ffi.structural_map(func.body, [(tirx.Var, lambda v: changed.get(v, v))], order="post")
    return tirx.PrimFunc([changed.get(p, p) for p in func.params], body, func.ret_type, func.attrs)


def _as_c_function(func: Any, symbol: str) -> Any:
    """Turn buffer parameters into pointers and export the function under a plain C name.

    A calling convention that is already set keeps TVM from wrapping the function into its packed form.
    """
    pointers, declarations = [], []
    for buffer in func.params:
        pointer = tirx.Var(f"{buffer.name}_p", PointerType(PrimType(str(buffer.dtype)), "global"))
        pointers.append(pointer)
        declarations.append(tirx.DeclBuffer(buffer, data=pointer))
    body = tirx.SeqStmt([*declarations, func.body])
    exported = tirx.PrimFunc(pointers, body, ret_type=PrimType("int32"), attrs=func.attrs)
    return exported.with_attr("global_symbol", symbol).with_attr("calling_conv", 1)


def viewed(kernel: Kernel, lowering: Lowering, schedule: Any) -> Any:
    """The kernel's PrimFunc after its schedule, on tensors that lie where the program has them."""
    return _with_views(scheduled(kernel, lowering, schedule), kernel.views)


def lower(kernel: Kernel, lowering: Lowering, schedule: Any) -> Any:
    """The kernel as an IRModule that is ready to be built."""
    func = viewed(kernel, lowering, schedule)
    return tvm.IRModule({kernel.symbol: _as_c_function(func, kernel.symbol)})


def build(kernel: Kernel, lowering: Lowering, schedule: Any) -> Any:
    """The kernel as a TVM runtime module, whose source can be inspected."""
    target = llvm_target(kernel.target, sums=not opdef(kernel.workload.op).elementwise)
    return tvm.tirx.build(lower(kernel, lowering, schedule), target=target, pipeline=PIPELINE)


def object_file(kernel: Kernel, lowering: Lowering, schedule: Any, cache: ObjectCache) -> Path:
    """The kernel as an object file, from the cache where it has been built before."""
    symbol = kernel.symbol

    def write(path: Path) -> None:
        built = build(kernel, lowering, schedule)
        # LLVM ends the process when a disk is full: it writes to memory, and Python to the disk.
        with open(os.memfd_create(symbol[:200]), "rb") as memory:
            built.write_to_file(f"/proc/self/fd/{memory.fileno()}", "o")
            path.write_bytes(memory.read())

    return cache.get(f"{symbol}.o", write)
