"""Maxima and minima as IEEE 754-2019 defines them (9.6): NaN where an operand is NaN.

Neither x86's `maxps`, which returns its second operand where one is NaN, nor `fmaxf` of a GPU, which returns
the other one, does that. NaN is looked for apart, beside the maxima: two values take one comparison, a
window of nine 5 beside its 8 maxima. Reductions are those of integers in the order of floats: of floats,
`te.max` begins with the least finite number, and a reducer of our own would not be shared among threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

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


# ---- reductions: of integers, which TVM knows how to share among threads


def key_dtype(dtype: str) -> str:
    """The integers that stand for floats of a dtype."""
    return f"int{tirx.const(0, dtype).ty.dtype.bits}"


def least_key(integers: str) -> Expr:
    """Before the keys of all numbers. The least integer is left out: in CUDA it is no int."""
    return tirx.min_value(integers) + 1


def key(x: Expr, *, nan_last: bool) -> Expr:
    """An integer in the order of floats: the bits, those of a negative number but the sign inverted.

    NaN comes after all numbers or before them.
    """
    integers = key_dtype(dtype_of(x))
    nan = tirx.max_value(integers) if nan_last else least_key(integers)

    def of(x: Expr) -> Expr:
        return select(tirx.isnan(x), nan, _ordered(tirx.reinterpret(integers, x)))

    return let(x, of)


def of_key(value: Expr, dtype: str) -> Expr:
    """The float that a key stands for; those of NaN stand for NaN."""
    return tirx.reinterpret(dtype, let(value, _ordered))


def _ordered(bits: Expr) -> Expr:
    """Its own inverse: negative numbers in reverse."""
    dtype = dtype_of(bits)
    sign = tirx.shift_right(bits, tirx.const(tirx.const(0, dtype).ty.dtype.bits - 1, dtype))
    return bits ^ (sign & tirx.max_value(dtype))
