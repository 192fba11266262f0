"""Tensor intrinsics of the tensor cores: what one warp does with `ldmatrix` and `mma.sync`.

A warp multiplies a 16 x K by a K x 16 matrix, K being two chunks of 16 bytes: 16 of float16 or bfloat16, 8 of
float32 (which the cores read as tf32). Operands lie in shared memory as `[chunk][row][element]`, so that
eight rows of a chunk are 128 bytes in a row: `ldmatrix` reads them, and asynchronous copies write them,
without a bank conflict and without padding.

A fragment is a buffer `[32, registers]` in scope "warp": first the thread, then its elements. Which thread
holds which element is fixed by the hardware (PTX ISA 9.0, "Matrix Fragments for mma.m16n8k16" and
"mma.m16n8k8"; both agree once elements are counted in chunks):

    A(row, chunk, k)    thread 4 (row % 8) + k / h       register h (2 chunk + row / 8) + k % h
    B(column, chunk, k) thread 4 (column % 8) + k / h    register h (2 (column / 8) + chunk) + k % h
    C(row, column)      thread 4 (row % 8) + column % 8 / 2
                        register 4 (column / 8) + 2 (row / 8) + column % 2

with h elements of 4 bytes. Each description below says the same in loops, so that a program whose intrinsics
are left out computes the same on a CPU. The instructions themselves are functions of
`codegen/native/prelude.cuh`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from convc.dtype import FLOAT32, DType

SHARED = "shared.dyn"
WARP = 32
SIDE = 16
"""Rows and columns of the result of one intrinsic: two instructions of 8 columns each."""
SUMS = SIDE * SIDE // WARP
"""Registers in which a thread holds its part of a result."""
CHUNK = 16
"""Bytes of a row of `ldmatrix`, and of one asynchronous copy."""

Map = Callable[..., tuple[Any, Any]]


@dataclass(frozen=True)
class Fragments:
    """The intrinsics for operands of a dtype, by the names under which they are registered."""

    dtype: str

    @property
    def lanes(self) -> int:
        """Elements of a chunk."""
        return CHUNK // DType.of(self.dtype).nbytes

    @property
    def registers(self) -> int:
        """Elements of an operand that a thread holds."""
        return SIDE * 2 * self.lanes // WARP

    @property
    def pair(self) -> int:
        """Elements of 4 bytes."""
        return self.lanes // 4

    def a(self, row: Any, chunk: Any, k: Any) -> tuple[Any, Any]:
        """Thread and register of an element of the left operand."""
        return row % 8 * 4 + k // self.pair, self.pair * (chunk * 2 + row // 8) + k % self.pair

    def b(self, column: Any, chunk: Any, k: Any) -> tuple[Any, Any]:
        """Thread and register of an element of the right operand."""
        return column % 8 * 4 + k // self.pair, self.pair * (column // 8 * 2 + chunk) + k % self.pair

    def c(self, row: Any, column: Any) -> tuple[Any, Any]:
        """Thread and register of a sum."""
        return row % 8 * 4 + column % 8 // 2, column // 8 * 4 + row // 8 * 2 + column % 2

    @property
    def load_a(self) -> str:
        """Shared memory to a fragment of the left operand."""
        return f"convc.ldmatrix_a.{self.dtype}"

    @property
    def load_b(self) -> str:
        """Shared memory to a fragment of the right operand."""
        return f"convc.ldmatrix_b.{self.dtype}"

    @property
    def multiply(self) -> str:
        """sums += a b"""
        return f"convc.mma.{self.dtype}"

    @property
    def zero(self) -> str:
        """sums = 0"""
        return f"convc.zero.{self.dtype}"


@cache
def fragments(dtype: str) -> Fragments:
    """The intrinsics for a dtype, registered with TVM."""
    f = Fragments(dtype)
    # Rows of the four 8 x 8 matrices that ldmatrix reads, in the order of the registers above.
    _register_load(f, f.load_a, f.a, lambda thread: (thread // 16, thread % 16))
    _register_load(f, f.load_b, f.b, lambda thread: (thread // 8 % 2, thread // 16 * 8 + thread % 8))
    register_zero(f.zero, WARP, SIDE, SIDE, f.c)
    _register_multiply(f)
    return f


def _register_load(f: Fragments, name: str, place: Map, row_of: Map) -> None:
    dtype, lanes, registers, scope = f.dtype, f.lanes, f.registers, SHARED

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(source: T.handle, result: T.handle) -> None:
        S = T.match_buffer(source, (2, SIDE, lanes), dtype, align=CHUNK, offset_factor=lanes, scope=scope)
        F = T.match_buffer(
            result, (WARP, registers), dtype, align=CHUNK, offset_factor=registers, scope="warp"
        )
        with T.sblock("root"):
            T.reads(S[0:2, 0:SIDE, 0:lanes])
            T.writes(F[0:WARP, 0:registers])
            for i, c, k in T.grid(SIDE, 2, lanes):
                with T.sblock("load"):
                    vc, vi, vk = T.axis.remap("SSS", [c, i, k])
                    thread, register = T.meta_var(place(vi, vc, vk))
                    T.reads(S[vc, vi, vk])
                    T.writes(F[thread, register])
                    F[thread, register] = S[vc, vi, vk]

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def instruction(source: T.handle, result: T.handle) -> None:
        s0 = T.int32()
        s1 = T.int32()
        S = T.match_buffer(
            source,
            (2, SIDE, lanes),
            dtype,
            align=CHUNK,
            offset_factor=lanes,
            scope=scope,
            strides=[s0, s1, 1],
        )
        F = T.match_buffer(
            result, (WARP, registers), dtype, align=CHUNK, offset_factor=registers, scope="warp"
        )
        with T.sblock("root"):
            T.reads(S[0:2, 0:SIDE, 0:lanes])
            T.writes(F[0:WARP, 0:registers])
            for tx in T.thread_binding(0, WARP, "threadIdx.x"):
                chunk, row = T.meta_var(row_of(tx))
                # access_ptr, and not address_of: TVM places barriers by the accesses that it sees
                T.evaluate(
                    T.call_extern(
                        "void",
                        "convc_ldmatrix_x4",
                        T.address_of(F[tx, 0]),
                        S.access_ptr("r"),
                        chunk * s0 + row * s1,
                    )
                )

    TensorIntrin.register(name, description, instruction, override=True)


def register_zero(name: str, threads: int, rows: int, columns: int, place: Map) -> None:
    """Register sums = 0, for a fragment of so many threads with an element at `place(row, column)`."""
    sums = rows * columns // threads

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(result: T.handle) -> None:
        C = T.match_buffer(result, (threads, sums), FLOAT32, align=CHUNK, offset_factor=sums, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:threads, 0:sums])
            for i, j in T.grid(rows, columns):
                with T.sblock("zero"):
                    vi, vj = T.axis.remap("SS", [i, j])
                    thread, register = T.meta_var(place(vi, vj))
                    T.reads()
                    T.writes(C[thread, register])
                    C[thread, register] = T.float32(0)

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def instruction(result: T.handle) -> None:
        C = T.match_buffer(result, (threads, sums), FLOAT32, align=CHUNK, offset_factor=sums, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:threads, 0:sums])
            for tx in T.thread_binding(0, threads, "threadIdx.x"):
                for quad in T.unroll(sums // 4):
                    C[tx, T.ramp(quad * 4, 1, 4)] = T.broadcast(T.float32(0), 4)

    TensorIntrin.register(name, description, instruction, override=True)


def _register_multiply(f: Fragments) -> None:
    dtype, lanes, registers, place_a, place_b, place_c = f.dtype, f.lanes, f.registers, f.a, f.b, f.c
    function = f"convc_mma_{dtype}"

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(left: T.handle, right: T.handle, result: T.handle) -> None:
        A = T.match_buffer(left, (WARP, registers), dtype, align=CHUNK, offset_factor=registers, scope="warp")
        B = T.match_buffer(
            right, (WARP, registers), dtype, align=CHUNK, offset_factor=registers, scope="warp"
        )
        C = T.match_buffer(result, (WARP, SUMS), FLOAT32, align=CHUNK, offset_factor=SUMS, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:WARP, 0:SUMS], A[0:WARP, 0:registers], B[0:WARP, 0:registers])
            T.writes(C[0:WARP, 0:SUMS])
            for i, j, c, k in T.grid(SIDE, SIDE, 2, lanes):
                with T.sblock("multiply"):
                    vi, vj, vc, vk = T.axis.remap("SSRR", [i, j, c, k])
                    ta, ra = T.meta_var(place_a(vi, vc, vk))
                    tb, rb = T.meta_var(place_b(vj, vc, vk))
                    tc, rc = T.meta_var(place_c(vi, vj))
                    T.reads(C[tc, rc], A[ta, ra], B[tb, rb])
                    T.writes(C[tc, rc])
                    C[tc, rc] = C[tc, rc] + T.Cast(FLOAT32, A[ta, ra]) * T.Cast(FLOAT32, B[tb, rb])

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def instruction(left: T.handle, right: T.handle, result: T.handle) -> None:
        A = T.match_buffer(left, (WARP, registers), dtype, align=CHUNK, offset_factor=registers, scope="warp")
        B = T.match_buffer(
            right, (WARP, registers), dtype, align=CHUNK, offset_factor=registers, scope="warp"
        )
        C = T.match_buffer(result, (WARP, SUMS), FLOAT32, align=CHUNK, offset_factor=SUMS, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:WARP, 0:SUMS], A[0:WARP, 0:registers], B[0:WARP, 0:registers])
            T.writes(C[0:WARP, 0:SUMS])
            for tx in T.thread_binding(0, WARP, "threadIdx.x"):
                for half in T.unroll(2):
                    T.evaluate(
                        T.call_extern(
                            "void",
                            function,
                            T.address_of(C[tx, half * 4]),
                            T.address_of(A[tx, 0]),
                            T.address_of(B[tx, half * (registers // 2)]),
                        )
                    )

    TensorIntrin.register(f.multiply, description, instruction, override=True)
