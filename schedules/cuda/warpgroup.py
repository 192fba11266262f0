"""Tensor intrinsics of a warpgroup: `wgmma`, which multiplies 64 rows by up to 256 columns from shared
memory.

Both operands lie in shared memory as `[chunk][row][element]`, chunks of 16 bytes, which is the layout without
swizzle that the instruction knows (`codegen/native/warpgroup.cuh`). The sums are a fragment `[128, columns /
2]` in scope "warp" (PTX ISA 9.0, "Register Fragments for wgmma.mma_async.m64nNk16"):

    C(row, column)      thread 32 (row / 16) + 4 (row % 8) + column % 8 / 2
                        register 4 (column / 8) + 2 (row % 16 / 8) + column % 2
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from convc.dtype import FLOAT32, DType
from convc.schedules.cuda.fragments import CHUNK, SHARED, register_zero
from convc.tiling.device_gemm import GROUP, GROUP_ROWS


@dataclass(frozen=True)
class Warpgroup:
    """The intrinsics for operands of a dtype, so many columns, and so many chunks at once."""

    dtype: str
    columns: int
    chunks: int

    @property
    def lanes(self) -> int:
        """Elements of a chunk."""
        return CHUNK // DType.of(self.dtype).nbytes

    @property
    def sums(self) -> int:
        """Registers in which a thread holds its part of the result."""
        return GROUP_ROWS * self.columns // GROUP

    @staticmethod
    def c(row: Any, column: Any) -> tuple[Any, Any]:
        """Thread and register of a sum."""
        thread = row // 16 * 32 + row % 8 * 4 + column % 8 // 2
        return thread, column // 8 * 4 + row % 16 // 8 * 2 + column % 2

    @property
    def multiply(self) -> str:
        """sums += a b"""
        return f"convc.wgmma.{self.dtype}.{self.columns}.{self.chunks}"

    @property
    def zero(self) -> str:
        """sums = 0"""
        return f"convc.wgmma_zero.{self.columns}"


@cache
def warpgroup(dtype: str, columns: int, chunks: int) -> Warpgroup:
    """The intrinsics, registered with TVM."""
    group = Warpgroup(dtype, columns, chunks)
    register_zero(group.zero, GROUP, GROUP_ROWS, columns, group.c)
    _register_multiply(group)
    return group


def _register_multiply(group: Warpgroup) -> None:
    dtype, lanes, columns, chunks, sums = group.dtype, group.lanes, group.columns, group.chunks, group.sums
    place, scope = group.c, SHARED
    function = f"convc_wgmma_{dtype}_n{columns}<{chunks}>"

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(left: T.handle, right: T.handle, result: T.handle) -> None:
        A = T.match_buffer(
            left, (chunks, GROUP_ROWS, lanes), dtype, align=CHUNK, offset_factor=lanes, scope=scope
        )
        B = T.match_buffer(
            right, (chunks, columns, lanes), dtype, align=CHUNK, offset_factor=lanes, scope=scope
        )
        C = T.match_buffer(result, (GROUP, sums), FLOAT32, align=CHUNK, offset_factor=sums, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:GROUP, 0:sums], A[0:chunks, 0:GROUP_ROWS, 0:lanes], B[0:chunks, 0:columns, 0:lanes])
            T.writes(C[0:GROUP, 0:sums])
            for i, j, c, k in T.grid(GROUP_ROWS, columns, chunks, lanes):
                with T.sblock("multiply"):
                    vi, vj, vc, vk = T.axis.remap("SSRR", [i, j, c, k])
                    tc, rc = T.meta_var(place(vi, vj))
                    T.reads(C[tc, rc], A[vc, vi, vk], B[vc, vj, vk])
                    T.writes(C[tc, rc])
                    C[tc, rc] = C[tc, rc] + T.Cast(FLOAT32, A[vc, vi, vk]) * T.Cast(FLOAT32, B[vc, vj, vk])

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def instruction(left: T.handle, right: T.handle, result: T.handle) -> None:
        a0 = T.int32()
        a1 = T.int32()
        b0 = T.int32()
        b1 = T.int32()
        A = T.match_buffer(
            left, (chunks, GROUP_ROWS, lanes), dtype, align=CHUNK, offset_factor=lanes, scope=scope,
            strides=[a0, a1, 1],
        )  # fmt: skip
        B = T.match_buffer(
            right, (chunks, columns, lanes), dtype, align=CHUNK, offset_factor=lanes, scope=scope,
            strides=[b0, b1, 1],
        )  # fmt: skip
        C = T.match_buffer(result, (GROUP, sums), FLOAT32, align=CHUNK, offset_factor=sums, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:GROUP, 0:sums], A[0:chunks, 0:GROUP_ROWS, 0:lanes], B[0:chunks, 0:columns, 0:lanes])
            T.writes(C[0:GROUP, 0:sums])
            for tx in T.thread_binding(0, GROUP, "threadIdx.x"):
                T.evaluate(
                    T.call_extern(
                        "void",
                        function,
                        T.address_of(C[tx, 0]),
                        A.access_ptr("r"),
                        a0 // lanes,
                        B.access_ptr("r"),
                        b0 // lanes,
                    )
                )

    TensorIntrin.register(group.multiply, description, instruction, override=True)
