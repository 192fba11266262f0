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
from tvm import tirx  # noqa: E402

if _torch_absent:
    del sys.modules["torch"]

PIPELINE = "convc"
STACK_LIMIT = 16 << 10
"""Bytes up to which a buffer of constant size lives on the stack, where LLVM turns it into registers.

Larger ones come from the module's arena. A thread's stack is 8 MiB and kernels do not nest.
"""


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
    @tirx.transform.prim_func_pass(opt_level=0, name="convc.stack_buffers")
    def transform(func: Any, mod: Any, context: Any) -> Any:
        return func.with_body(tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, _on_stack)))

    return transform


def _pipeline() -> tuple[Any, Any, Any]:
    base, finalize_host, finalize_device = tirx.get_tir_pipeline("s_tir")

    @tvm.transform.module_pass(opt_level=0)
    def run(mod: Any, context: Any) -> Any:
        return _stack_buffers()(base(mod))

    return run, finalize_host, finalize_device


tirx.register_tir_pipeline(PIPELINE, _pipeline)
