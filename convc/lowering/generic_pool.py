"""Windows over the spatial axes: taps written out, rows and columns beyond the border masked.

Small windows are one expression; of large ones an axis is done after the other, the last first, each into a
tensor of its own (maxima and sums are separable).

An address beyond the border is moved to the nearest element inside, so that every load is legal; what was
read there is then replaced by the neutral element. Where the window lies inside, which the schedule
arranges for all but the outermost columns, both disappear when the expression is simplified. A maximum
without dilation needs no mask: an element inside the window counts twice, which changes nothing. Without
masks all taps of a small window are combined at once, whatever their axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from tvm import te, tirx

from convc.lowering import extremes
from convc.lowering.formula import At, Call, follow, formula, spatial
from convc.lowering.functions import absolute, constant, let, masked

Expr = Any
Combine = Callable[[Sequence[Expr]], Expr]
"""One value of those that taps have seen."""

_TOGETHER = 25
"""Largest number of taps that are written out in one expression; of larger windows one axis is done after the
other: a maximum over 13 x 13 takes 26 comparisons instead of 169."""
_UNROLLED = 32
"""Largest number of taps along one axis that are written out; longer ones become reduction loops."""

Read = Callable[[Sequence[Expr]], Expr]
"""The value at coordinates along the spatial axes."""


@dataclass(frozen=True)
class _Window:
    """A window and what is done with its elements; beyond the border lies `neutral` if `mask` is set."""

    call: Call
    combine: Combine
    reducer: Any
    neutral: Expr
    mask: bool

    def place(self, position: int, out: Sequence[Expr], t: Expr) -> tuple[list[Expr], Expr | None]:
        """Where tap `t` along an axis reads: `out` with the input's coordinate on that axis, moved inside.

        Beside it what must hold for it to lie inside unmoved, or None where it always does.
        """
        a, size = self.call.attrs, self.call.x.kind.shape[2 + position]
        before = a.pads[position][0]
        place = out[position] * a.strides[position] + t * a.dilations[position] - before
        inside = place
        if before:
            inside = te.max(inside, 0)
        if _reach(self.call, position) >= size:
            inside = te.min(inside, size - 1)
        within = None if inside is place else te.all(place >= 0, place < size)
        return [*out[:position], inside, *out[position + 1 :]], within

    def tap(self, position: int, out: Sequence[Expr], t: Expr, read: Read) -> Expr:
        """What tap `t` along an axis sees: `read` at `out`, which on that axis is an output coordinate."""
        places, within = self.place(position, out, t)
        found = read(places)
        return found if not self.mask or within is None else masked(within, found, self.neutral)

    def along(self, position: int, out: Sequence[Expr], read: Read) -> Expr:
        """All taps along an axis, written out."""
        taps = range(self.call.attrs.kernel[position])
        return self.combine([self.tap(position, out, t, read) for t in taps])

    def within(self, out: Sequence[Expr], read: Read) -> Expr:
        """All taps along all axes, written out."""
        rank = len(self.call.attrs.kernel)
        if self.mask:  # of an axis at a time: a mask for each row, and not for each tap

            def inner(position: int, places: Sequence[Expr]) -> Expr:
                if position == rank:
                    return read(places)
                return self.along(position, places, lambda moved: inner(position + 1, moved))

            return inner(0, out)
        seen = [list(out)]
        for position, count in enumerate(self.call.attrs.kernel):
            seen = [self.place(position, places, t)[0] for places in seen for t in range(count)]
        return self.combine([read(places) for places in seen])


def _combine(call: Call, combine: Combine, reducer: Any, neutral: Expr, mask: bool, source: At) -> At:
    """`combine` over the window of each output, of what `source` has in the input's places."""
    window = _Window(call, combine, reducer, neutral, mask)
    rank = len(call.attrs.kernel)

    if math.prod(call.attrs.kernel) > _TOGETHER:
        for position in reversed(range(1, rank)):
            source = _stage(window, position, source)
        return _along_axis(window, 0, source, call.out.physical)

    def at(*index: Expr) -> Expr:
        head, out, lane = spatial(index, call.out.layout)
        return window.within(out, lambda places: source(*head, *places, *lane))

    return at


def _stage(window: _Window, position: int, source: At) -> At:
    """A tensor of its own whose windows extend along one axis; axes before it are still the input's."""
    call = window.call
    shape = list(call.out.physical)
    shape[2 : 2 + position] = call.x.kind.shape[2 : 2 + position]
    at = _along_axis(window, position, source, shape)
    tensor = te.compute(tuple(shape), at, name=f"window{position}")
    return lambda *index: tensor(*index)


def _along_axis(window: _Window, position: int, source: At, shape: Sequence[int]) -> At:
    """The combination along one axis, at indices of a tensor of that shape."""
    layout, count = window.call.out.layout, window.call.attrs.kernel[position]

    def seen(index: Sequence[Expr], taps: Callable[[Sequence[Expr], Read], Expr]) -> Expr:
        head, out, lane = spatial(index, layout)
        return taps(out, lambda places: source(*head, *places, *lane))

    if count <= _UNROLLED:
        return lambda *index: seen(index, lambda out, read: window.along(position, out, read))
    axis = te.reduce_axis((0, count), f"k{position}")

    def total(*index: Expr) -> Expr:
        found = seen(index, lambda out, read: window.tap(position, out, axis, read))
        return window.reducer(found, axis=[axis])

    tensor = te.compute(tuple(shape), total, name=f"sum{position}")
    return lambda *index: tensor(*index)


def _reach(call: Call, position: int) -> int:
    """The furthest place that a window touches along one axis, counted from the first element."""
    a = call.attrs
    last = (call.out.shape[2 + position] - 1) * a.strides[position]
    return int(last + (a.kernel[position] - 1) * a.dilations[position] - a.pads[position][0])


@formula("max_pool", layouts=follow)
def _max_pool(call: Call) -> Sequence[At]:
    dtype = call.out.dtype
    masks = max(call.attrs.dilations) > 1
    if math.prod(call.attrs.kernel) <= _TOGETHER or not call.out.is_float:
        return [_combine(call, extremes.largest, te.max, extremes.lowest(dtype), masks, call.x)]
    least = extremes.least_key(extremes.key_dtype(dtype))
    # A tensor of their own: each is read by as many windows as there are taps along an axis.
    keys = te.compute(call.x.kind.physical, lambda *i: extremes.key(call.x(*i), nan_last=True), name="keys")
    found = _combine(call, extremes.largest, te.max, least, masks, keys)
    return [lambda *i: extremes.of_key(found(*i), dtype)]


def added(values: Sequence[Expr]) -> Expr:
    """The sum of some values."""
    return reduce(lambda a, b: a + b, values)


@formula("average_pool", layouts=follow)
def _average_pool(call: Call) -> Sequence[At]:
    total = _combine(call, added, te.sum, tirx.const(0, call.out.dtype), True, call.x)

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
        added,
        te.sum,
        tirx.const(0, call.out.dtype),
        True,
        lambda *place: power_of_magnitude(call.x(*place), call.attrs.p),
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
