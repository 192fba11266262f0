"""Kernels whose scratch memory is full of NaN before they begin, so that what was never written shows.

Scratch memory usually holds what an earlier call left there, which is often right. Filled with NaN, an
element that is read before it is written turns results into NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import convc.codegen.pipeline as pipeline

tvm = pipeline.tvm
tirx, tvm_ffi = tvm.tirx, pipeline.tvm_ffi


def _filled(allocation: Any) -> Any:
    """An allocation and a loop that fills it: with NaN, or the least integer."""
    buffer = allocation.buffer
    if any(not isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        raise AssertionError(f"{buffer} has no constant size")
    dtype = tvm.DataType(str(buffer.dtype))
    scalar = str(buffer.dtype).split("x")[0]
    value = tirx.const(math.nan, scalar) if "float" in scalar else tirx.min_value(scalar)
    if dtype.lanes > 1:
        value = tirx.Broadcast(value, dtype.lanes)
    place = tirx.Var("place", "int32")
    (extent,) = buffer.shape
    fill = tirx.For(place, 0, extent, tirx.ForKind.SERIAL, tirx.BufferStore(buffer, value, [place]))
    return tirx.SeqStmt([allocation, fill])


@contextmanager
def poisoned() -> Iterator[list[int]]:
    """Fill each buffer where it is allocated; gives the number of buffers filled in each function built.

    Done before buffers that are not alive at the same time are put in one place.
    """
    own, counts = tirx.transform.StorageRewrite, []

    def rewrite() -> Any:
        @tirx.transform.prim_func_pass(opt_level=0, name="poison")
        def fill(func: Any, mod: Any, context: Any) -> Any:
            count = 0

            def filled(allocation: Any) -> Any:
                nonlocal count
                count += 1
                return _filled(allocation)

            body = tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, filled))
            counts.append(count)
            return func.with_body(body)

        return tvm.transform.Sequential([fill, own()])

    tirx.transform.StorageRewrite = rewrite
    try:
        yield counts
    finally:
        tirx.transform.StorageRewrite = own
