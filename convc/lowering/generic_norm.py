"""Normalisations by statistics of the input: instance, group, layer and local response normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

from tvm import te, tirx

from convc.lowering import functions as f
from convc.lowering.formula import At, Call, follow, formula, logical, unflatten
from convc.lowering.functions import constant, let, masked
from convc.lowering.generic_reduce import SUM, fold_axes

Expr = Any


def _statistics(call: Call, read: At, shape: Sequence[int], axes: Sequence[int]) -> tuple[At, At]:
    """Mean and 1 / sqrt(variance + epsilon) over `axes`, in two passes: functions of a full index."""
    lanes, dtype = call.target.lanes, call.out.dtype
    axes = [axis % len(shape) for axis in axes]
    inverse = tirx.const(1 / math.prod(shape[axis] for axis in axes), dtype)
    small = [1 if axis in axes else extent for axis, extent in enumerate(shape)]
    total = fold_axes(read, shape, axes, SUM, dtype, lanes, "total")
    means = te.compute(small, lambda *i: total(*i) * inverse, name="mean")

    def at_origin(tensor: Any) -> At:
        return lambda *i: tensor(*(0 if axis in axes else v for axis, v in enumerate(i)))

    mean = at_origin(means)
    squares = fold_axes(
        lambda *i: let(read(*i) - mean(*i), lambda d: d * d), shape, axes, SUM, dtype, lanes, "squares"
    )
    scales = te.compute(
        small,
        lambda *i: (
            constant(1, means) / tirx.sqrt(squares(*i) * inverse + constant(call.attrs.epsilon, means))
        ),
        name="scale",
    )
    return mean, at_origin(scales)


@formula("instance_norm")
def _instance_norm(call: Call) -> Sequence[At]:
    """Statistics over the spatial axes of each channel."""
    kind = call.x.kind
    mean, scale = _statistics(call, call.x, kind.shape, range(2, kind.rank))
    gamma, beta = call.operand(1), call.operand(2)
    return [lambda *i: (call.x(*i) - mean(*i)) * (scale(*i) * gamma(i[1])) + beta(i[1])]


@formula("group_norm")
def _group_norm(call: Call) -> Sequence[At]:
    """Statistics over the channels of each group and the spatial axes; a group is contiguous."""
    kind, groups = call.x.kind, call.attrs.groups
    size = kind.shape[1] // groups
    inner = (size, *kind.shape[2:])

    def read(n: Expr, g: Expr, flat: Expr) -> Expr:
        c, *places = unflatten(flat, inner)
        return call.x(n, g * size + c, *places)

    mean, scale = _statistics(call, read, (kind.shape[0], groups, math.prod(inner)), [2])
    gamma, beta = call.operand(1), call.operand(2)

    def at(n: Expr, c: Expr, *places: Expr) -> Expr:
        group = (n, te.floordiv(c, size), 0)
        return (call.x(n, c, *places) - mean(*group)) * (scale(*group) * gamma(c)) + beta(c)

    return [at]


@formula("layer_norm")
def _layer_norm(call: Call) -> Sequence[At]:
    """Statistics over the axes from `axis` on; scale and bias broadcast over them."""
    kind = call.x.kind
    axes = range(call.attrs.axis % kind.rank, kind.rank)
    mean, scale = _statistics(call, call.x, kind.shape, axes)

    def broadcast(operand: int, index: Sequence[Expr]) -> Expr:
        found = call.operand(operand)
        places = index[len(index) - found.kind.rank :]
        return found(*(0 if e == 1 else v for e, v in zip(found.kind.shape, places, strict=True)))

    def at(*index: Expr) -> Expr:
        value = (call.x(*index) - mean(*index)) * scale(*index) * broadcast(1, index)
        return value if call.optional(2) is None else value + broadcast(2, index)

    return [at]


@formula("lrn", layouts=follow)
def _lrn(call: Call) -> Sequence[At]:
    """x / (bias + alpha / size * window sum of squares over channels) ** beta."""
    a = call.attrs
    before = (a.size - 1) // 2
    square = _square_by_channel if call.out.layout.block == 1 else _square_by_lane
    squared = square(call, before, a.size - 1 - before)

    def at(*index: Expr) -> Expr:
        n, c, *places = logical(index, call.out.layout)
        window = reduce(lambda s, t: s + t, (squared(n, c + t - before, *places) for t in range(a.size)))
        base = constant(a.bias, window) + window * constant(a.alpha / a.size, window)
        return call.x(*index) * _negative_power(base, a.beta)

    return [at]


def _square_by_channel(call: Call, before: int, after: int) -> At:
    """The square at a channel, 0 beyond the first and last; vectors run over pixels."""
    channels = call.out.shape[1]

    def at(n: Expr, c: Expr, *places: Expr) -> Expr:
        value = call.x(n, te.min(te.max(c, 0), channels - 1), *places)
        inside = te.all(c >= 0, c < channels)
        return masked(inside, value * value, constant(0, value))

    return at


def _square_by_lane(call: Call, before: int, after: int) -> At:
    """The same from a copy with all channels of a pixel side by side, between blocks of zeros.

    A window crosses lanes; in the copy it is `size` vectors, each one element further on.
    """
    block, channels = call.out.layout.block, call.out.shape[1]
    n, blocks, *places, _ = call.out.physical
    first, last = -(-before // block), -(-after // block)

    def square(batch: Expr, *rest: Expr) -> Expr:
        *spot, cb, lane = rest
        source = te.min(te.max(cb - first, 0), blocks - 1)
        value = call.x(batch, source, *spot, lane)
        channel = (cb - first) * block + lane
        inside = te.all(channel >= 0, channel < channels)
        return masked(inside, value * value, constant(0, value))

    squares = te.compute((n, *places, first + blocks + last, block), square, name="squares")

    def at(batch: Expr, c: Expr, *spot: Expr) -> Expr:
        moved = c + first * block
        return squares(batch, *spot, te.floordiv(moved, block), te.floormod(moved, block))

    return at


def _negative_power(base: Expr, exponent: float) -> Expr:
    """base ** -exponent for base > 0; the exponents that networks use need no logarithm."""
    if exponent == 0.75:
        return let(base, lambda b: constant(1, b) / (tirx.sqrt(b) * tirx.sqrt(tirx.sqrt(b))))
    if exponent == 0.5:
        return constant(1, base) / tirx.sqrt(base)
    if exponent == 1.0:
        return constant(1, base) / base
    return f.exp(f.log(base) * constant(-exponent, base))
