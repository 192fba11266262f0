"""Windows over the spatial axes: every tap written out, rows and columns beyond the border masked.

An address beyond the border is moved to the nearest element inside, so that every load is legal; what was
read there is then replaced by the neutral element. Where the window lies inside, which the schedule
arranges for all but the outermost columns, both disappear when the expression is simplified. A maximum
without dilation needs no mask: an element inside the window counts twice, which changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tvm import te, tirx

from convc.lowering.formula import At, Call, follow, formula, spatial
from convc.lowering.functions import absolute, constant, let, masked

Expr = Any
Combine = Callable[[Expr, Expr], Expr]

_UNROLLED = 81
"""Largest number of taps that are written out; larger windows become reduction loops."""


def _combine(
    call: Call, combine: Combine, reducer: Any, neutral: Expr, mask: bool, value: Callable[[Expr], Expr]
) -> At:
    """`combine` over the window of each output, of `value(x)`."""
    layout, attrs = call.out.layout, call.attrs
    sizes = call.x.kind.shape[2:]

    def over(
        head: Sequence[Expr], out: Sequence[Expr], lane: Sequence[Expr], taps: Sequence[Expr] | None
    ) -> Expr:
        def axis(position: int, places: list[Expr]) -> Expr:
            if position == len(sizes):
                return value(call.x(*head, *places, *lane))
            size, k, s, d = (
                sizes[position],
                attrs.kernel[position],
                attrs.strides[position],
                attrs.dilations[position],
            )
            before, after = attrs.pads[position][0], _reach(call, position)

            def tap(t: Expr) -> Expr:
                place = out[position] * s + t * d - before
                inside = place
                if before:
                    inside = te.max(inside, 0)
                if after >= size:
                    inside = te.min(inside, size - 1)
                found = axis(position + 1, [*places, inside])
                if not mask or inside is place:
                    return found
                return masked(te.all(place >= 0, place < size), found, neutral)

            if taps is not None:
                return tap(taps[position])
            return reduce(combine, (tap(t) for t in range(k)))

        return axis(0, [])

    if math.prod(attrs.kernel) <= _UNROLLED:
        return lambda *i: over(*spatial(i, layout), None)
    axes = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(attrs.kernel)]
    whole = te.compute(
        call.out.physical, lambda *i: reducer(over(*spatial(i, layout), axes), axis=axes), name="window"
    )
    return lambda *i: whole(*i)


def _reach(call: Call, position: int) -> int:
    """The furthest place that a window touches along one axis, counted from the first element."""
    a = call.attrs
    last = (call.out.shape[2 + position] - 1) * a.strides[position]
    return int(last + (a.kernel[position] - 1) * a.dilations[position] - a.pads[position][0])


@formula("max_pool", layouts=follow)
def _max_pool(call: Call) -> Sequence[At]:
    lowest = tirx.min_value(call.out.dtype)
    if call.out.is_float:
        lowest = tirx.const(-math.inf, call.out.dtype)
    return [_combine(call, te.max, te.max, lowest, max(call.attrs.dilations) > 1, lambda x: x)]


@formula("average_pool", layouts=follow)
def _average_pool(call: Call) -> Sequence[At]:
    total = _combine(call, lambda a, b: a + b, te.sum, tirx.const(0, call.out.dtype), True, lambda x: x)

    def at(*index: Expr) -> Expr:
        places = spatial(index, call.out.layout)[1]
        count = reduce(lambda a, b: a * b, (_counted(call, p, place) for p, place in enumerate(places)))
        return total(*index) / tirx.Cast(call.out.dtype, count)

    return [at]


def _counted(call: Call, position: int, out: Expr) -> Expr:
    """How many taps along one axis count for the average at output coordinate `out`."""
    a, size = call.attrs, call.x.kind.shape[2 + position]
    before, after = a.pads[position]
    low, high = (-before, size + after) if a.count_include_pad else (0, size)
    k, s, d = a.kernel[position], a.strides[position], a.dilations[position]
    if -before >= low and _reach(call, position) < high:
        return tirx.const(k, "int32")
    first = out * s - before
    if d == 1:
        return te.min(first + k, high) - te.max(first, low)
    inside = (te.all(first + t * d >= low, first + t * d < high) for t in range(k))
    return reduce(lambda a, b: a + b, (tirx.Cast("int32", c) for c in inside))


@formula("lp_pool", layouts=follow)
def _lp_pool(call: Call) -> Sequence[At]:
    total = _combine(
        call,
        lambda a, b: a + b,
        te.sum,
        tirx.const(0, call.out.dtype),
        True,
        lambda x: power_of_magnitude(x, call.attrs.p),
    )
    return [lambda *i: root(total(*i), call.attrs.p)]


def power_of_magnitude(x: Expr, p: int) -> Expr:
    """|x| ** p."""
    if p == 1:
        return absolute(x)
    return let(absolute(x), lambda t: reduce(lambda a, b: a * b, [t] * p))


def root(x: Expr, p: int) -> Expr:
    """x ** (1 / p) for x >= 0."""
    if p == 1:
        return x
    return tirx.sqrt(x) if p == 2 else tirx.pow(x, constant(1 / p, x))
