"""TVM as convc uses it: imported without torch, with a TIR pipeline that keeps small buffers on the stack."""

from __future__ import annotations

import sys
from typing import Any

# tvm_ffi imports torch wherever it finds it, which costs seconds and is never needed here.
_torch_absent = "torch" not in sys.modules
if _torch_absent:
    sys.modules["torch"] = None  # type: ignore[assignment]
import tvm  # noqa: E402
import tvm_ffi  # noqa: E402
from tvm import s_tir, tirx  # noqa: E402

from convc.codegen.shuffles import shuffle_scattered_loads  # noqa: E402
from convc.codegen.values import bared_values, stored_values  # noqa: E402

if _torch_absent:
    del sys.modules["torch"]

__all__ = ["PIPELINE", "cpu_passes", "tvm"]

PIPELINE = "convc"
STACK_LIMIT = 16 << 10
"""Bytes up to which a buffer of constant size lives on the stack, where LLVM turns it into registers.

Larger ones come from the module's arena. A thread's stack is 8 MiB and kernels do not nest.
"""


CPU = 1
"""DLPack's device type; scratch allocations ask for it, and TVM tells it to packed functions only."""


def _on_device(key: str, value: int, body: Any) -> Any:
    return tirx.AttrStmt(0, key, tirx.const(value, "int32"), body)


def _on_stack(allocation: Any) -> Any:
    elements = 1
    for extent in allocation.buffer.shape:
        if not isinstance(extent, tirx.IntImm):
            return allocation
        elements *= int(extent)
    dtype = tvm.DataType(str(allocation.buffer.dtype))
    if elements * ((dtype.bits * dtype.lanes + 7) // 8) > STACK_LIMIT:
        return allocation
    return tirx.AllocBuffer(allocation.buffer, {"disable_lower_builtin": tirx.IntImm("bool", True)})


def _stack_buffers() -> Any:
    @tirx.transform.prim_func_pass(opt_level=0, name="convc.stack_buffers")  # type: ignore[untyped-decorator]
    def transform(func: Any, mod: Any, context: Any) -> Any:
        body = tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, _on_stack))
        return func.with_body(_on_device("device_id", 0, _on_device("device_type", CPU, body)))

    return transform


def cpu_passes() -> Any:
    """TVM's passes for CPUs, `tirx.get_tir_pipeline("s_tir")`, but for those that convc does not need.

    Left out are TVM's own search for common subexpressions, which takes most of the time for long
    straight-line code and finds nothing that LLVM does not find again, and what is for GPUs.
    """
    return tvm.transform.Sequential(
        [
            tirx.transform.ConvertSSA(),  # cutting a loop copied its body, and variables bound in expressions
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.AnnotateIrregularLoop(),
            s_tir.transform.InjectSoftwarePipeline(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.BF16ComputeLegalize(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.ConvertSSA(),  # parts of a loop have the buffers that it declares
            tirx.transform.VectorizeLoop(True),
            s_tir.transform.InjectDoubleBuffer(),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            bared_values(),
            s_tir.transform.RewriteUnsafeSelect(),
            stored_values(),
            tirx.transform.FP8ComputeLegalize(),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
            tirx.transform.FP8StorageLegalize(),
            tirx.transform.BF16StorageLegalize(),
            shuffle_scattered_loads(),
            _stack_buffers(),
        ]
    )


def _pipeline() -> tuple[Any, Any, Any]:
    _, finalize_host, finalize_device = tirx.get_tir_pipeline("s_tir")

    @tvm.transform.module_pass(opt_level=0)  # type: ignore[untyped-decorator]
    def run(mod: Any, context: Any) -> Any:
        return cpu_passes()(mod)

    return run, finalize_host, finalize_device


tirx.register_tir_pipeline(PIPELINE, _pipeline)
