"""Resampling. Positions and weights are computed by the kernel itself into small tables, one for each axis.

The arithmetic repeats `convc.ops.resize` in float64, operation for operation, since which element is the
nearest may hang on the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from tvm import te, tirx

from convc.dtype import FLOAT64
from convc.lowering.base import Layouts
from convc.lowering.formula import At, Call, follow, formula, plain
from convc.lowering.functions import absolute, let
from convc.ops.resize import ResizeAttrs
from convc.target import Target
from convc.workload import RESAMPLED, Workload

Expr = Any

_WRITTEN_OUT = 16
"""Most taps that are summed in one expression; more along one axis become a reduction loop."""


def _layouts(w: Workload, target: Target) -> Layouts:
    a: Any = w.attrs
    x = w.inputs[0]
    assert x is not None
    untouched = len(a.shape) > 2 and (a.shape[1], a.scales[1]) == (x.shape[1], 1.0)
    return follow(w, target) if untouched else plain(w, target)


def _f64(value: float) -> Expr:
    return tirx.const(value, FLOAT64)


def _position(a: ResizeAttrs, axis: int, size: int, i: Expr) -> Expr:
    """`convc.ops.resize.source_positions` at output coordinate i."""
    out, scale, x = a.shape[axis], a.scales[axis], tirx.Cast(FLOAT64, i)
    if a.coordinates == "asymmetric":
        return x / _f64(scale)
    if a.coordinates == "align_corners":
        return x * _f64(size - 1) / _f64(out - 1) if out > 1 else _f64(0)
    if a.coordinates == "pytorch_half_pixel" and out == 1:
        return _f64(0)
    centred = (x + _f64(0.5)) / _f64(scale)
    if a.coordinates == "half_pixel_symmetric":
        return _f64(size / 2 * (1 - out / (scale * size))) + centred - _f64(0.5)
    return centred - _f64(0.5)


def _nearest(a: ResizeAttrs, x: Expr) -> Expr:
    half = _f64(0.5)
    if a.nearest_mode == "round_prefer_floor":
        return tirx.ceil(x - half)
    if a.nearest_mode == "round_prefer_ceil":
        return tirx.floor(x + half)
    return tirx.floor(x) if a.nearest_mode == "floor" else tirx.ceil(x)


def _clip(value: Expr, size: int) -> Expr:
    return te.min(te.max(tirx.Cast("int32", value), 0), size - 1)


def _resized(call: Call) -> list[int]:
    """The axes that change, or that are resampled at a scale other than 1."""
    a = call.attrs
    return [
        axis for axis, size in enumerate(call.x.kind.shape) if (a.shape[axis], a.scales[axis]) != (size, 1.0)
    ]


@formula("resize", layouts=_layouts)
def _resize(call: Call) -> Sequence[At]:
    """Nearest copies one element; the other modes are sums of products over the taps of each axis."""
    axes = _resized(call)
    if call.attrs.mode == "nearest":
        tables = {axis: _nearest_table(call, axis) for axis in axes}
        return [lambda *i: call.x(*(tables[axis](v) if axis in tables else v for axis, v in enumerate(i)))]
    weights = {axis: _Taps(call, axis) for axis in axes}
    together = math.prod(t.count for t in weights.values()) <= _WRITTEN_OUT
    # In plain layout every tap along the last axis is a load of its own: fewer where that axis goes first.
    if together and (call.out.layout.block > 1 or len(axes) < 2):
        return [_together(call, weights)]
    return [_in_turn(call, weights)]


def _nearest_table(call: Call, axis: int) -> Any:
    size = call.x.kind.shape[axis]

    def source(i: Expr) -> Expr:
        return _clip(_nearest(call.attrs, _position(call.attrs, axis, size, i)), size)

    return te.compute((call.out.shape[axis],), source, name=f"source{axis}")


class _Taps:
    """Which elements along one axis an output element is made of, and their weights, as two tables.

    A table has a row for each tap, so that neighbouring outputs find theirs side by side.
    """

    def __init__(self, call: Call, axis: int) -> None:
        a, size = call.attrs, call.x.kind.shape[axis]
        shrink = min(a.scales[axis], 1.0) if a.antialias else 1.0
        reach = math.ceil((2 if a.mode == "cubic" else 1) / shrink)
        self.count = 2 * reach  # the element `reach` below the floor of the position always weighs nothing
        self.size = size
        out, dtype = call.out.shape[axis], call.out.dtype

        def raw(t: Expr, i: Expr) -> Expr:
            def weight(position: Expr) -> Expr:
                place = tirx.floor(position) + tirx.Cast(FLOAT64, t) - _f64(reach - 1)
                value = _kernel(a, (position - place) * _f64(shrink))
                if a.exclude_outside:
                    return tirx.Select(te.all(place >= _f64(0), place < _f64(size)), value, _f64(0))
                return value

            return let(_position(a, axis, size, i), weight)

        def place(t: Expr, i: Expr) -> Expr:
            first = tirx.Cast("int32", tirx.floor(_position(a, axis, size, i))) - (reach - 1)
            return te.min(te.max(first + t, 0), size - 1)

        def weight(t: Expr, i: Expr) -> Expr:
            total = reduce(lambda s, u: s + u, (values(u, i) for u in range(self.count)))
            return tirx.Cast(dtype, values(t, i) / total)

        self.places = te.compute((self.count, out), place, name=f"places{axis}")
        values = te.compute((self.count, out), raw, name=f"raw{axis}")
        self.weights = te.compute((self.count, out), weight, name=f"weights{axis}")


def _kernel(a: ResizeAttrs, distance: Expr) -> Expr:
    """`convc.ops.resize._kernel`."""

    def hat(d: Expr) -> Expr:
        return te.max(_f64(1) - d, _f64(0))

    def cubic(d: Expr) -> Expr:
        c = a.cubic_coeff
        near = (_f64(c + 2) * d - _f64(c + 3)) * d * d + _f64(1)
        far = ((_f64(c) * d - _f64(5 * c)) * d + _f64(8 * c)) * d - _f64(4 * c)
        return tirx.Select(d <= _f64(1), near, tirx.Select(d < _f64(2), far, _f64(0)))

    return let(absolute(distance), hat if a.mode == "linear" else cubic)


def _together(call: Call, taps: dict[int, _Taps]) -> At:
    """All axes in one expression."""

    def over(axes: Sequence[int], places: list[Expr], index: Sequence[Expr]) -> Expr:
        if not axes:
            return call.x(*places)
        axis, t = axes[0], taps[axes[0]]

        def term(tap: int) -> Expr:
            moved = [t.places(tap, index[axis]) if a == axis else p for a, p in enumerate(places)]
            return over(axes[1:], moved, index) * t.weights(tap, index[axis])

        return reduce(lambda s, u: s + u, (term(tap) for tap in range(t.count)))

    return lambda *index: over(list(taps), list(index), index)


def _in_turn(call: Call, taps: dict[int, _Taps]) -> At:
    """One axis after the other; axes that shrink go first, then the last one."""
    shape, current = list(call.x.kind.physical), call.x.tensor
    *early, final = sorted(taps, key=lambda axis: (call.out.shape[axis] / call.x.kind.shape[axis], -axis))
    for axis in early:
        shape[axis] = call.out.shape[axis]
        current = te.compute(
            tuple(shape), _one_axis(current, shape, axis, taps[axis]), name=f"{RESAMPLED}{axis}"
        )
    shape[final] = call.out.shape[final]
    return _one_axis(current, shape, final, taps[final])


def _one_axis(source: Any, shape: Sequence[int], axis: int, t: _Taps) -> At:
    """The sum over the taps of one axis, at indices of a tensor of that shape."""

    def term(index: Sequence[Expr], tap: Any) -> Expr:
        # the bounds are in the table, too; here they tell a schedule that one map is enough
        bounded = te.min(te.max(t.places(tap, index[axis]), 0), t.size - 1)
        places = [bounded if a == axis else v for a, v in enumerate(index)]
        return source(*places) * t.weights(tap, index[axis])

    if t.count <= _WRITTEN_OUT:
        return lambda *index: reduce(lambda s, u: s + u, (term(index, tap) for tap in range(t.count)))
    tap = te.reduce_axis((0, t.count), "tap")
    whole = te.compute(tuple(shape), lambda *i: te.sum(term(i, tap), axis=[tap]), name=f"sum{axis}")
    return lambda *index: whole(*index)
