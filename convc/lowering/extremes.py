"""Maxima and minima as IEEE 754-2019 defines them (9.6): NaN where an operand is NaN.

Neither x86's `maxps`, which returns its second operand where one is NaN, nor `fmaxf` of a GPU, which returns
the other one, does that. NaN is looked for apart, beside the maxima: two values take one comparison, a
window of nine 5 beside its 8 maxima. `te.max` as a reduction is no help: it begins with the least finite
number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import tvm_ffi
from tvm import te, tirx

from convc.lowering.functions import constant, dtype_of, is_float, let, select

Expr = Any
Pairwise = Callable[[Expr, Expr], Expr]


def largest(values: Sequence[Expr]) -> Expr:
    """The largest of some numbers; NaN if one of them is."""
    return _unless_nan(te.max, values)


def smallest(values: Sequence[Expr]) -> Expr:
    """The smallest of some numbers; NaN if one of them is."""
    return _unless_nan(te.min, values)


def _unless_nan(whole: Pairwise, values: Sequence[Expr], bound: Sequence[Expr] = ()) -> Expr:
    """Fold by `whole`, which may make anything of NaN, and choose NaN where there is one."""
    if len(values) == 1 or not is_float(values[0]):
        return reduce(whole, values)
    if len(bound) < len(values):
        return let(values[len(bound)], lambda t: _unless_nan(whole, values, [*bound, t]))
    unordered = [tirx.isnan(v) for v in bound]
    pairs = [tirx.Or(a, b) for a, b in zip(unordered[::2], unordered[1::2], strict=False)]
    found = reduce(tirx.Or, [*pairs, *unordered[2 * len(pairs) :]])
    return select(found, constant(math.nan, values[0]), reduce(whole, bound))


def maximum(a: Expr, b: Expr) -> Expr:
    """The larger of two numbers; NaN if one of them is."""
    return largest([a, b])


def minimum(a: Expr, b: Expr) -> Expr:
    """The smaller of two numbers; NaN if one of them is."""
    return smallest([a, b])


def lowest(dtype: str) -> Expr:
    """What the maximum of nothing is."""
    return tirx.const(-math.inf, dtype) if "float" in dtype else tirx.min_value(dtype)


def highest(dtype: str) -> Expr:
    """What the minimum of nothing is."""
    return tirx.const(math.inf, dtype) if "float" in dtype else tirx.max_value(dtype)


_reduce_max = te.comm_reducer(maximum, lowest, name="maximum")
_reduce_min = te.comm_reducer(minimum, highest, name="minimum")


def _may_be_shared_by_threads(combine: Pairwise, neutral: Callable[[str], Expr]) -> None:
    """Let TVM recognise a reduction by its combination: on a GPU it splits only those that it knows."""
    tvm_ffi.get_global_func("s_tir.schedule.RegisterReducer")(
        1, lambda a, b: [combine(a[0], b[0])], lambda values: [neutral(dtype_of(values[0]))]
    )


_may_be_shared_by_threads(maximum, lowest)
_may_be_shared_by_threads(minimum, highest)


def maximum_over(value: Expr, axis: Sequence[Any]) -> Expr:
    """The maximum over reduction axes, -inf over none; NaN if one of the values is."""
    return _reduce_max(value, axis=axis) if is_float(value) else te.max(value, axis=axis)


def minimum_over(value: Expr, axis: Sequence[Any]) -> Expr:
    """The minimum over reduction axes, inf over none; NaN if one of the values is."""
    return _reduce_min(value, axis=axis) if is_float(value) else te.min(value, axis=axis)
