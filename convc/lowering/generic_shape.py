"""Operators that move elements: index arithmetic and nothing else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from tvm import te, tirx

from convc.lowering.base import Layouts, blocked_like
from convc.lowering.formula import (
    At,
    Call,
    flatten,
    follow,
    formula,
    plain,
    relaid,
    unflatten,
)
from convc.lowering.functions import masked
from convc.target import Target
from convc.types import Layout
from convc.workload import Workload

Expr = Any


@formula("reshape")
def _reshape(call: Call) -> Sequence[At]:
    """The same flat position."""
    return [lambda *i: call.x(*unflatten(flatten(i, call.out.shape), call.x.kind.shape))]


@formula("relayout")
def _relayout(call: Call) -> Sequence[At]:
    """The same logical index."""
    return [lambda *i: relaid(call, i)]


@formula("transpose")
def _transpose(call: Call) -> Sequence[At]:
    """y[i] = x[i permuted back]."""
    perm = call.attrs.perm
    return [lambda *i: call.x(*(i[perm.index(axis)] for axis in range(len(perm))))]


def _along(axis: int, w: Workload) -> int:
    return axis % w.outputs[0].rank


def _concat_layouts(w: Workload, target: Target) -> Layouts:
    """Blocked along other axes, and along channels where every piece but the last fills its blocks."""
    kinds = [t for t in w.inputs[: w.arity] if t is not None]
    block = Layout(target.lanes)
    rank = w.outputs[0].rank
    whole = all(t.shape[1] % block.block == 0 for t in kinds[:-1]) if rank > 1 else False
    if rank < 3 or (_along(w.attrs.axis, w) == 1 and not whole) or not any(t.layout == block for t in kinds):  # type: ignore[attr-defined]
        return plain(w, target)
    return blocked_like(w, target, inputs=range(w.arity))


@formula("concat", layouts=_concat_layouts)
def _concat(call: Call) -> Sequence[At]:
    """A choice by the coordinate on the axis; the schedule cuts the loop there, so that no choice remains."""
    axis = _along(call.attrs.axis, call.w)
    extents = [call.operand(i).kind.physical[axis] for i in range(call.w.arity)]
    ends = list(itertools.accumulate(extents))

    def at(*index: Expr) -> Expr:
        def piece(i: int) -> Expr:
            moved = [v - (ends[i] - extents[i]) if a == axis else v for a, v in enumerate(index)]
            return call.operand(i)(*moved)

        present = [i for i, extent in enumerate(extents) if extent]
        value = piece(present[-1])
        for i in reversed(present[:-1]):
            value = tirx.if_then_else(index[axis] < ends[i], piece(i), value)
        return value

    return [at]


def _split_layouts(w: Workload, target: Target) -> Layouts:
    axis = w.attrs.axis % w.inputs[0].rank  # type: ignore[attr-defined, union-attr]
    starts = itertools.accumulate(w.attrs.sizes[:-1])  # type: ignore[attr-defined]
    whole = axis != 1 or all(start % target.lanes == 0 for start in starts)
    return follow(w, target) if whole else plain(w, target)


@formula("split", layouts=_split_layouts)
def _split(call: Call) -> Sequence[At]:
    """Each piece reads from its start on."""
    axis = call.attrs.axis % call.x.kind.rank
    block = call.out.layout.block if axis == 1 else 1

    def piece(start: int) -> At:
        return lambda *i: call.x(*(v + start // block if a == axis else v for a, v in enumerate(i)))

    return [piece(start) for start in itertools.accumulate((0, *call.attrs.sizes[:-1]))]


def _slice_layouts(w: Workload, target: Target) -> Layouts:
    a: Any = w.attrs
    whole = len(a.starts) > 1 and a.starts[1] % target.lanes == 0 and a.steps[1] == 1
    return follow(w, target) if whole else plain(w, target)


@formula("slice", layouts=_slice_layouts)
def _slice(call: Call) -> Sequence[At]:
    """y[i] = x[start + i step]."""
    a, block = call.attrs, call.out.layout.block

    def at(*index: Expr) -> Expr:
        starts = [s // block if axis == 1 else s for axis, s in enumerate(a.starts)]
        moved = [s + v * step for v, s, step in zip(index, starts, a.steps, strict=False)]
        return call.x(*moved, *index[len(moved) :])

    return [at]


def _from_right(kind_shape: Sequence[int], index: Sequence[Expr]) -> list[Expr]:
    """The index into a tensor that broadcasts to a larger one."""
    places = index[len(index) - len(kind_shape) :]
    return [
        tirx.const(0, "int32") if extent == 1 else v for extent, v in zip(kind_shape, places, strict=True)
    ]


@formula("expand")
def _expand(call: Call) -> Sequence[At]:
    """Axes of extent 1 are read at 0."""
    return [lambda *i: call.x(*_from_right(call.x.kind.shape, i))]


@formula("tile")
def _tile(call: Call) -> Sequence[At]:
    """Coordinates wrap around."""
    shape = call.x.kind.shape
    return [lambda *i: call.x(*(te.floormod(v, extent) for v, extent in zip(i, shape, strict=True)))]


def _pad_layouts(w: Workload, target: Target) -> Layouts:
    a: Any = w.attrs
    return follow(w, target) if len(a.pads) > 2 and a.pads[1] == (0, 0) else plain(w, target)


@formula("pad", layouts=_pad_layouts)
def _pad(call: Call) -> Sequence[At]:
    """Coordinates moved by the padding before, then brought inside by the mode."""
    a, kind = call.attrs, call.x.kind
    fill = tirx.const(a.value if kind.is_float else int(a.value), kind.dtype)

    def at(*index: Expr) -> Expr:
        places, outside = [], []
        for v, extent, (before, after) in zip(index, kind.physical, (*a.pads, (0, 0)), strict=False):
            first, last = max(-before, 0), extent - 1 - max(-after, 0)
            place = v - before if before else v
            if before > 0 or after > 0:
                if a.mode == "constant":
                    outside.append(te.any(place < first, place > last))
                    place = te.min(te.max(place, first), last)
                else:
                    place = _wrapped(place, first, last, a.mode)
            places.append(place)
        value = call.x(*places)
        for condition in outside:
            value = masked(tirx.Not(condition), value, fill)
        return value

    if math.prod(kind.shape) == 0:
        return [lambda *i: fill]
    return [at]


def _wrapped(place: Expr, first: int, last: int, mode: str) -> Expr:
    """The element of [first, last] that stands for a place outside."""
    if mode == "edge":
        return te.min(te.max(place, first), last)
    if mode == "wrap":
        return te.floormod(place - first, last - first + 1) + first
    bounced = te.max(place, 2 * first - place)
    return te.min(bounced, 2 * last - bounced)


@formula("gather")
def _gather(call: Call) -> Sequence[At]:
    """Indices from the end count back; the caller answers for their range, which is clamped for safety."""
    kind, indices = call.x.kind, call.operand(1)
    axis = call.attrs.axis % kind.rank
    extent, rank = kind.shape[axis], indices.kind.rank

    def at(*index: Expr) -> Expr:
        found = tirx.Cast("int32", indices(*index[axis : axis + rank]))
        place = tirx.Select(found < 0, found + extent, found)
        return call.x(*index[:axis], te.max(te.min(place, extent - 1), 0), *index[axis + rank :])

    return [at]


def _whole_channel_blocks(w: Workload, target: Target) -> Layouts:
    """Channel blocks that move as they are, or plain."""
    attrs: Any = w.attrs
    whole = attrs.mode == "DCR" and w.outputs[0].shape[1] % target.lanes == 0
    return follow(w, target) if whole else plain(w, target)


@formula("depth_to_space", layouts=_whole_channel_blocks)
def _depth_to_space(call: Call) -> Sequence[At]:
    """Pixel (h b + i, w b + j) of channel c is channel (i b + j) C + c, or with CRD c b b + i b + j."""
    b, channels = call.attrs.block, call.out.shape[1] // call.out.layout.block

    def at(*index: Expr) -> Expr:
        n, c, h, w, *lane = index
        tap = te.floormod(h, b) * b + te.floormod(w, b)
        source = tap * channels + c if call.attrs.mode == "DCR" else c * (b * b) + tap
        return call.x(n, source, te.floordiv(h, b), te.floordiv(w, b), *lane)

    return [at]


@formula("space_to_depth")
def _space_to_depth(call: Call) -> Sequence[At]:
    """The inverse of depth_to_space."""
    b, channels = call.attrs.block, call.x.kind.shape[1]

    def at(*index: Expr) -> Expr:
        n, k, h, w = index
        if call.attrs.mode == "DCR":
            c, tap = te.floormod(k, channels), te.floordiv(k, channels)
        else:
            c, tap = te.floordiv(k, b * b), te.floormod(k, b * b)
        return call.x(n, c, h * b + te.floordiv(tap, b), w * b + te.floormod(tap, b))

    return [at]
