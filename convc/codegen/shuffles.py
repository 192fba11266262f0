"""Loads of scattered lanes turned into a vector load and a permutation.

A vectorised read such as x[base + lane // 4 * 4 + 1] has an index that is no run of elements. TVM loads
every lane by itself, and LLVM leaves that so. Where all lanes lie in one aligned vector, as they do when a
lane reads another lane of its channel block, one load and one shuffle with constant indices do the same.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.sym import Analyzer

Expr = Any


def shuffle_scattered_loads() -> Any:
    """The pass, for functions whose loops are vectorised and unrolled and whose buffers are flat."""

    @tirx.transform.prim_func_pass(opt_level=0, name="convc.shuffles")  # type: ignore[untyped-decorator]
    def transform(func: Any, mod: Any, context: Any) -> Any:
        return func.with_body(tvm_ffi.structural_map(func.body, (TensorLoad, _shuffled)))

    return transform


def _shuffled(load: Any) -> Any:
    """`load`, or the shuffle that takes its place."""
    if len(load.indices) != 1 or isinstance(load.indices[0], (tirx.Ramp, tirx.Broadcast)):
        return load
    dtype = str(load.ty.dtype)
    lanes = tvm.DataType(dtype).lanes
    split = _split(load.indices[0], lanes) if lanes > 1 else None
    if split is None:
        return load
    base, offsets = split
    known = Analyzer().modular_set(base)
    if known.coeff % lanes:  # the start of the vector is not known
        return load
    shift = known.base % lanes
    offsets = [offset + shift for offset in offsets]
    if min(offsets) < 0 or max(offsets) >= lanes:
        return load
    vector = load.source.vload([base - shift], dtype)
    return tirx.Shuffle([vector], [tirx.const(offset, "int32") for offset in offsets])


_FOLDED: tuple[tuple[Any, Callable[[int, int], int]], ...] = (
    (tirx.FloorDiv, operator.floordiv),
    (tirx.FloorMod, operator.mod),
)


def _split(index: Expr, lanes: int) -> tuple[Expr, list[int]] | None:
    """An index as a scalar expression and a constant offset for each lane; None where it is not their sum."""
    zero = tirx.const(0, "int32")
    if isinstance(index, tirx.Broadcast):
        return index.value, [0] * lanes
    if isinstance(index, tirx.Ramp):
        if not isinstance(index.stride, tirx.IntImm):
            return None
        return index.base, [int(index.stride) * lane for lane in range(lanes)]
    if isinstance(index, tirx.Add):
        a, b = _split(index.a, lanes), _split(index.b, lanes)
        return None if a is None or b is None else (a[0] + b[0], list(map(operator.add, a[1], b[1])))
    if isinstance(index, tirx.Mul):
        a, factors = _split(index.a, lanes), _constants(index.b, lanes)
        if a is None or factors is None or len(set(factors)) > 1:
            return None
        return a[0] * factors[0], [factors[0] * offset for offset in a[1]]
    for kind, function in _FOLDED:
        if isinstance(index, kind):
            operands = [_constants(operand, lanes) for operand in (index.a, index.b)]
            if operands[0] is not None and operands[1] is not None:
                return zero, list(map(function, operands[0], operands[1]))
    return None


def _constants(index: Expr, lanes: int) -> list[int] | None:
    """The values of the lanes, where all are constants."""
    split = _split(index, lanes)
    if split is None or not isinstance(split[0], tirx.IntImm):
        return None
    return [int(split[0]) + offset for offset in split[1]]
