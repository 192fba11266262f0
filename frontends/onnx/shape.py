"""Operators that move elements: Reshape and its relatives, Concat, Split, Slice, Pad, Gather."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.ops.parts import ConcatAttrs, GatherAttrs, SliceAttrs, SplitAttrs
from convc.ops.shape import (
    DepthSpaceAttrs,
    ExpandAttrs,
    PadAttrs,
    ReshapeAttrs,
    TileAttrs,
    TransposeAttrs,
)
from convc.types import Shape


def _ints(call: Call, index: int, what: str) -> Shape:
    """A list of integers that must be there, as a constant input."""
    values = call.constant_ints(index, what)
    if values is None:
        call.malformed(f"input {index} ({what}) is missing.")
    return values


def _axes(call: Call, since_input: int) -> Shape | None:
    """Axes from input 1 from opset `since_input` on, before that from the attribute."""
    if call.opset >= since_input:
        return call.constant_ints(1, "axes")
    return call.ints("axes") if call.has("axes") else None


@onnx_op("Reshape")
def reshape(call: Call) -> Result:
    """A new shape, with 0 for an extent that stays and -1 for one that follows."""
    old, new = call.input(0).type.shape, list(_ints(call, 1, "shape"))
    if not call.flag("allowzero"):
        if any(n == 0 and i >= len(old) for i, n in enumerate(new)):
            call.malformed(f"shape {new} keeps an axis that the input {old} does not have.")
        new = [old[i] if n == 0 else n for i, n in enumerate(new)]
    if -1 in new:
        known = -math.prod(new)
        if new.count(-1) > 1 or known <= 0 or math.prod(old) % known:
            call.malformed(f"the input {old} cannot take the shape {new}.")
        new[new.index(-1)] = math.prod(old) // known
    return call.emit("reshape", [call.input(0)], ReshapeAttrs(tuple(new)))


@onnx_op("Flatten")
def flatten(call: Call) -> Result:
    """Two axes in place of many."""
    shape = call.input(0).type.shape
    axis = call.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        call.malformed(f"attribute axis = {axis} is out of range for the input {shape}.")
    axis += len(shape) if axis < 0 else 0
    new = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    return call.emit("reshape", [call.input(0)], ReshapeAttrs(new))


@onnx_op("Squeeze")
def squeeze(call: Call) -> Result:
    """Drop axes of extent 1."""
    shape, axes = call.input(0).type.shape, _axes(call, since_input=13)
    if axes is None:
        gone: Sequence[int] = [i for i, n in enumerate(shape) if n == 1]
    else:
        gone = call.axes(axes, len(shape))
    if any(shape[i] != 1 for i in gone):
        call.malformed(f"axes {list(gone)} of the input {shape} are not all of extent 1.")
    new = tuple(n for i, n in enumerate(shape) if i not in gone)
    return call.emit("reshape", [call.input(0)], ReshapeAttrs(new))


@onnx_op("Unsqueeze")
def unsqueeze(call: Call) -> Result:
    """Insert axes of extent 1."""
    shape, axes = call.input(0).type.shape, _axes(call, since_input=13)
    if axes is None:
        call.malformed("axes are missing.")
    added = call.axes(axes, len(shape) + len(axes))
    rest = iter(shape)
    new = tuple(1 if i in added else next(rest) for i in range(len(shape) + len(added)))
    return call.emit("reshape", [call.input(0)], ReshapeAttrs(new))


@onnx_op("Transpose")
def transpose(call: Call) -> Result:
    """Another order of axes, by default the reverse."""
    rank = call.input(0).type.rank
    perm = call.ints("perm", tuple(reversed(range(rank))))
    if sorted(perm) != list(range(rank)):
        call.malformed(f"attribute perm = {list(perm)} is no order of {rank} axes.")
    return call.emit("transpose", [call.input(0)], TransposeAttrs(perm))


@onnx_op("Concat")
def concat(call: Call) -> Result:
    """Tensors joined along one axis; empty ones, which exporters leave behind, drop out."""
    inputs = call.rest()
    axis = call.axis(call.integer("axis"), inputs[0].type.rank)
    filled = [v for v in inputs if v.type.size] or inputs[:1]
    return call.emit("concat", filled, ConcatAttrs(axis))


@onnx_op("Split")
def split(call: Call) -> Result:
    """Pieces of stated extents, or equal ones (from opset 18 on the last may be smaller)."""
    shape = call.input(0).type.shape
    axis = call.axis(call.integer("axis", 0), len(shape))
    if call.opset >= 13:
        sizes = call.constant_ints(1, "split")
    else:
        sizes = call.ints("split") if call.has("split") else None
    count = len(call.proto.output)
    if call.integer("num_outputs", count) != count:
        call.malformed(
            f"attribute num_outputs = {call.integer('num_outputs', count)}, yet there are {count} outputs."
        )
    if sizes is None:
        each = -(-shape[axis] // count)
        sizes = tuple(max(0, min(each, shape[axis] - i * each)) for i in range(count))
        if call.opset < 18 and len(set(sizes)) > 1:
            call.malformed(f"axis {axis} of the input {shape} does not divide into {count} equal pieces.")
    if len(sizes) != count:
        call.malformed(f"split {list(sizes)} has {len(sizes)} entries for {count} outputs.")
    return call.emit("split", [call.input(0)], SplitAttrs(axis, sizes), count=count)


def _clamped(start: int, stop: int, step: int, extent: int) -> tuple[int, int]:
    """Slice bounds counted from the front and within the axis; stop -1 only for a negative step."""
    start += extent if start < 0 else 0
    stop += extent if stop < 0 else 0
    if step > 0:
        return min(max(start, 0), extent), min(max(stop, 0), extent)
    return min(max(start, 0), extent - 1), min(max(stop, -1), extent - 1)


@onnx_op("Slice")
def slices(call: Call) -> Result:
    """A range of each axis; arguments are attributes before opset 10."""
    shape = call.input(0).type.shape
    steps: Shape | None = None
    if call.opset >= 10:
        starts, stops = _ints(call, 1, "starts"), _ints(call, 2, "ends")
        axes, steps = call.constant_ints(3, "axes"), call.constant_ints(4, "steps")
    else:
        starts, stops = call.ints("starts"), call.ints("ends")
        axes = call.ints("axes") if call.has("axes") else None
    axes = call.axes(tuple(range(len(starts))) if axes is None else axes, len(shape))
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(stops) == len(axes) == len(steps) or 0 in steps:
        call.malformed(
            f"starts {list(starts)}, ends {list(stops)}, axes {list(axes)}, steps {list(steps)} do not fit."
        )
    first, last, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        first[axis], last[axis] = _clamped(start, stop, step, shape[axis])
        stride[axis] = step
    return call.emit("slice", [call.input(0)], SliceAttrs(tuple(first), tuple(last), tuple(stride)))


@onnx_op("Expand")
def expand(call: Call) -> Result:
    """Broadcasting, in both directions."""
    shape, target = call.input(0).type.shape, _ints(call, 1, "shape")
    rank = max(len(shape), len(target))
    old, new = (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(target)) + target
    if any(n != o and 1 not in (n, o) for n, o in zip(new, old, strict=True)):
        call.malformed(f"the input {shape} does not broadcast to {target}.")
    result = tuple(o if n == 1 else n for n, o in zip(new, old, strict=True))
    return call.emit("expand", [call.input(0)], ExpandAttrs(result))


@onnx_op("Tile")
def tile(call: Call) -> Result:
    """Repetition along each axis."""
    repeats = _ints(call, 1, "repeats")
    if len(repeats) != call.input(0).type.rank:
        call.malformed(f"repeats {list(repeats)} do not fit the input {call.input(0).type.shape}.")
    return call.emit("tile", [call.input(0)], TileAttrs(repeats))


@onnx_op("Pad")
def pad(call: Call) -> Result:
    """Borders of zeros, of a value, or of elements from inside; arguments are attributes before opset 11."""
    rank, value = call.input(0).type.rank, 0.0
    mode = call.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        call.malformed(f"attribute mode = '{mode}' is none of constant, reflect, edge, wrap.")
    axes: Shape = tuple(range(rank))
    if call.opset >= 11:
        pads = _ints(call, 1, "pads")
        value = call.constant_number(2, "constant_value", 0.0)
        chosen = call.constant_ints(3, "axes")
        axes = axes if chosen is None else call.axes(chosen, rank)
    else:
        pads, value = call.ints("pads"), call.real("value", 0.0)
    if len(pads) != 2 * len(axes):
        call.malformed(
            f"pads {list(pads)} do not fit {len(axes)} axes of the input {call.input(0).type.shape}."
        )
    if not rank:
        return call.emit("identity", [call.input(0)])
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[axis] = (pads[i], pads[len(axes) + i])
    return call.emit("pad", [call.input(0)], PadAttrs(tuple(amounts), mode, value))


@onnx_op("Gather")
def gather(call: Call) -> Result:
    """Slices chosen by index."""
    axis = call.axis(call.integer("axis", 0), call.input(0).type.rank)
    return call.emit("gather", [call.input(0), call.input(1)], GatherAttrs(axis))


@onnx_op("DepthToSpace", "SpaceToDepth")
def depth_space(call: Call) -> Result:
    """Channels spread over blocks of pixels, or the reverse."""
    mode = call.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        call.malformed(f"attribute mode = '{mode}' is neither DCR nor CRD.")
    op = "depth_to_space" if call.proto.op_type == "DepthToSpace" else "space_to_depth"
    return call.emit(op, [call.input(0)], DepthSpaceAttrs(call.integer("blocksize"), mode))
