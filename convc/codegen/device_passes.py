"""From a scheduled program to device functions: TVM's passes in the order that convc needs.

Two things differ from TVM's own pipeline. A fragment, the part of a matrix that the 32 threads of a warp hold
together for the tensor cores, is a buffer `[..., 32, registers]` in scope "warp" up to here, so that programs
mean the same with loops in place of threads; `fragments_to_registers` leaves each thread its own registers.
(TVM's LowerWarpMemory looks for shuffles instead and gives up on addresses with a constant in them.) And the
host's part is not compiled: the launches are read off it, see `device`.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from convc.codegen.pipeline import tvm
from convc.codegen.values import bared_values, stored_values
from convc.dtype import FLOAT64
from convc.errors import CompileError

import tvm_ffi  # isort: skip
from tvm import s_tir, tirx  # isort: skip
from tvm.ir.expr import TensorLoad  # isort: skip
from tvm.sym import Analyzer  # isort: skip

WARP = 32


def device_passes() -> Any:
    """Lower a module with one scheduled function to a host function and its device functions."""
    passes = [
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerCrossThreadReduction(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LiftThreadBinding(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.UnifyThreadBinding(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.InjectSoftwarePipeline(),
        s_tir.transform.LowerOpaqueBlock(),
        fragments_to_registers(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.BF16ComputeLegalize(),
        tirx.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        bared_values(),
        s_tir.transform.RewriteUnsafeSelect(),
        stored_values(),
        tirx.transform.VerifyMemory(),
        tirx.transform.AnnotateEntryFunc(),
        s_tir.transform.ThreadSync("shared"),
        s_tir.transform.ThreadSync("shared.dyn"),
        s_tir.transform.LowerThreadAllreduce(),
        s_tir.transform.InjectPTXAsyncCopy(),
        s_tir.transform.MergeSharedMemoryAllocations(),
        tirx.transform.SplitHostDevice(),
        tirx.transform.BF16StorageLegalize(),
    ]
    return tvm.transform.Sequential(passes)


def finish_device() -> Any:
    """What is left to do on device functions before their source is printed."""
    return tvm.transform.Sequential(
        [tirx.transform.StmtSimplify(), tirx.transform.LowerIntrin(), exact_doubles()]
    )


def exact_doubles() -> Any:
    """Write float64 constants by their bits: TVM prints 15 decimals, which 4 / 9 is not."""

    def by_bits(value: Any) -> Any:
        number = float(value.value)
        exact = not math.isfinite(number) or float(f"{number:.15f}") == number
        if exact or str(value.ty.dtype) != FLOAT64:
            return value
        (bits,) = struct.unpack("<q", struct.pack("<d", number))
        return tirx.call_pure_extern(FLOAT64, "__longlong_as_double", tirx.const(bits, "int64"))

    @tirx.transform.prim_func_pass(opt_level=0, name="convc.exact_doubles")  # type: ignore[untyped-decorator]
    def transform(func: Any, mod: Any, context: Any) -> Any:
        return func.with_body(tvm_ffi.structural_map(func.body, [(tirx.FloatImm, by_bits)], order="post"))

    return transform


def fragments_to_registers() -> Any:
    """Replace buffers `[..., 32, n]` in scope "warp" by `[..., 1, n]` in scope "local".

    Every access has to be a thread's own: its index on the axis of 32 must equal threadIdx.x, or CompileError
    says which does not.
    """

    @tirx.transform.prim_func_pass(opt_level=0, name="convc.fragments_to_registers")  # type: ignore[untyped-decorator]
    def transform(func: Any, mod: Any, context: Any) -> Any:
        return func.with_body(_Registers(func.body).body)

    return transform


class _Registers:
    """The rewriting of one function's body."""

    def __init__(self, body: Any) -> None:
        self._analyzer = Analyzer()
        self._threads: list[Any] = []  # threadIdx.x of each kernel
        self._local: dict[Any, Any] = {}
        self._foreign: list[str] = []
        tvm_ffi.structural_walk(body, [(tirx.AttrStmt, self._note_thread)])
        self.body = tvm_ffi.structural_map(
            body,
            [(tirx.BufferStore, self._store), (TensorLoad, self._load), (tirx.Var, self._buffer)],
            order="post",
        )
        if self._foreign:  # not raised where it was found: TVM does not survive errors in these callbacks
            raise CompileError(self._foreign[0])

    def _note_thread(self, statement: Any) -> None:
        if statement.attr_key == "thread_extent" and statement.node.thread_tag == "threadIdx.x":
            self._threads.append(statement.node.var)
            self._analyzer.bind(statement.node.var, tvm.ir.Range(0, statement.value))

    def _buffer(self, variable: Any) -> Any:
        if not tirx.is_buffer_var(variable) or variable.scope() != "warp":
            return variable
        if variable not in self._local:
            kind = variable.ty
            shape = [*kind.shape[:-2], 1, kind.shape[-1]]
            self._local[variable] = tirx.decl_buffer(shape, kind.dtype, variable.name, scope="local")
        return self._local[variable]

    def _own(self, name: str, indices: Any) -> list[Any]:
        if not any(self._analyzer.can_prove_equal(indices[-2], thread) for thread in self._threads):
            self._foreign.append(f"Element {indices[-2]} of fragment '{name}' is not the thread's own.")
        return [*indices[:-2], tirx.const(0, "int32"), indices[-1]]

    def _is_mine(self, buffer: Any) -> bool:
        return any(buffer.same_as(b) for b in self._local.values()) or buffer.scope() == "warp"

    def _store(self, node: Any) -> Any:
        if not self._is_mine(node.buffer):
            return node
        indices = self._own(node.buffer.name, node.indices)
        return tirx.BufferStore(self._buffer(node.buffer), node.value, indices)

    def _load(self, node: Any) -> Any:
        if not self._is_mine(node.source):
            return node
        return tirx.BufferLoad(self._buffer(node.source), self._own(node.source.name, node.indices))
