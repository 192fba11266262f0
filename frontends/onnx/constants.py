"""Operators that yield constants: Constant, ConstantOfShape, Shape, Size, Range, NonZero."""

from __future__ import annotations

import math

import numpy as np

from convc.dtype import INT64, DType
from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.frontends.onnx.tensors import tensor_array
from convc.types import TensorType


@onnx_op("Constant")
def constant(call: Call) -> Result:
    """A tensor, number or list stated in the node."""
    stated = [a.name for a in call.proto.attribute]
    if stated == ["value"]:
        return tensor_array(call.tensor("value"), f"The value of {call}", call.scope.folder)
    if stated == ["value_float"]:
        return np.asarray(call.real("value_float"), np.float32)
    if stated == ["value_floats"]:
        return np.asarray(call.reals("value_floats"), np.float32)
    if stated == ["value_int"]:
        return np.asarray(call.integer("value_int"), np.int64)
    if stated == ["value_ints"]:
        return np.asarray(call.ints("value_ints"), np.int64)
    if len(stated) == 1:
        call.refuse(f"attribute {stated[0]}")
    return call.malformed(f"exactly one attribute is expected, not {stated}.")


@onnx_op("ConstantOfShape")
def constant_of_shape(call: Call) -> Result:
    """One number, repeated."""
    shape = call.constant_ints(0, "shape")
    value = np.zeros(1, np.float32)
    if call.has("value"):
        value = tensor_array(call.tensor("value"), f"The value of {call}", call.scope.folder)
    if shape is None or value.size != 1:
        call.malformed(f"shape {shape} and a value of {value.size} numbers do not give a tensor.")
    kind = TensorType(shape, DType.of(str(value.dtype)))
    call.afford(kind, kind.nbytes)
    return np.full(shape, value.reshape(-1)[0])


@onnx_op("Shape")
def shape(call: Call) -> Result:
    """The extents of a tensor, all of which are known, or (from opset 15 on) some of them."""
    extents = call.input(0).type.shape
    rank = len(extents)
    return np.asarray(extents[slice(call.integer("start", 0), call.integer("end", rank))], np.int64)


@onnx_op("Size")
def size(call: Call) -> Result:
    """The number of elements of a tensor."""
    return np.asarray(call.input(0).type.size, np.int64)


@onnx_op("Range")
def arange(call: Call) -> Result:
    """Equally spaced numbers."""
    start, limit, delta = (call.constant(i, what) for i, what in enumerate(("start", "limit", "delta")))
    if start is None or limit is None or delta is None or {start.size, limit.size, delta.size} != {1}:
        call.malformed("start, limit and delta must be single numbers.")
    first, last, step = start.item(), limit.item(), delta.item()
    steps = (last - first) / step if step else math.nan
    if not math.isfinite(steps):
        call.malformed(f"a range from {first} to {last} in steps of {step} has no sensible length.")
    count = max(0, math.ceil(steps))
    kind = TensorType((count,), DType.of(str(start.dtype)))
    call.afford(kind, kind.nbytes)
    return np.asarray(first + np.arange(count) * step, start.dtype)


@onnx_op("NonZero")
def nonzero(call: Call) -> Result:
    """Indices of the elements other than 0, of a constant: their number must be known."""
    array = call.constant(0, "X")
    if array is None:
        call.malformed("input 0 is missing.")
    kind = TensorType((array.ndim, int(np.count_nonzero(array))), INT64)
    call.afford(kind, array.nbytes + kind.nbytes)
    return np.asarray(np.nonzero(array), np.int64)
