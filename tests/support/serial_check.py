"""A scheduled GPU function as one that the CPU runs: threads one after another, every buffer global.

That is exact, because the loops of TensorIR carry the meaning of their blocks until they are lowered: what
the schedule computes does not depend on which loops are threads. A tile of shared memory is merely filled
again for each outer thread. It does not hold for bodies that were tensorized with PTX: leave that step out
here, and run the generated source with `cuda_emulator` instead.
"""

from __future__ import annotations

from typing import Any

from convc.codegen.pipeline import PIPELINE, tvm  # first, so that tvm_ffi does not import torch

import tvm_ffi  # isort: skip
from tvm import tirx  # isort: skip

QUICK = tvm.target.Target({"kind": "llvm", "opt-level": 0})
"""Compiling takes longer than running."""

ASYNC = "async"
"""Part of the names of annotations that lowering turns into asynchronous copies; a CPU has none."""


def serial(func: Any) -> Any:
    """The scheduled PrimFunc with serial loops and global buffers, software pipelines included."""
    moved: dict[Any, Any] = {}

    def in_global_memory(var: Any) -> Any:
        if not tirx.is_buffer_var(var) or var.scope() in ("", "global"):
            return var
        if var not in moved:
            kind = var.ty
            layout = (kind.strides, kind.elem_offset, "global", kind.data_alignment, kind.offset_factor)
            moved[var] = tirx.decl_buffer(kind.shape, kind.dtype, var.name, None, *layout)
        return moved[var]

    rewrites = [(tirx.For, _serial_loop), (tirx.Var, in_global_memory)]
    return func.with_body(tvm_ffi.structural_map(func.body, rewrites, order="post"))


def build_serial(func: Any) -> Any:
    """The same, compiled: a callable that takes one tensor for each parameter."""
    return tvm.tirx.build(serial(func), target=QUICK, pipeline=PIPELINE)["main"]


def _serial_loop(loop: Any) -> Any:
    # Unrolled loops too, which LLVM takes long to compile.
    threads = loop.kind in (tirx.ForKind.THREAD_BINDING, tirx.ForKind.UNROLLED)
    annotations = {name: value for name, value in loop.annotations.items() if ASYNC not in name}
    if not threads and len(annotations) == len(loop.annotations):
        return loop
    kind = tirx.ForKind.SERIAL if threads else loop.kind
    return tirx.For(loop.loop_var, loop.min, loop.extent, kind, loop.body, None, annotations, loop.step)
