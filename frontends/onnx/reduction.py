"""Reductions over axes, ArgMax and ArgMin, Softmax."""

from __future__ import annotations

import math

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Handler, Result, onnx_op
from convc.ops.reduce import ArgAttrs, ReduceAttrs, SoftmaxAttrs
from convc.ops.shape import ReshapeAttrs
from convc.types import Shape

_REDUCTIONS = {
    "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max", "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod", "ReduceL1": "reduce_l1", "ReduceL2": "reduce_l2",
    "ReduceSumSquare": "reduce_sum_square", "ReduceLogSumExp": "reduce_log_sum_exp",
    "ReduceLogSum": "reduce_sum",
}  # fmt: skip


def _reduce(call: Call, op: str, axes: Shape | None) -> Result:
    """Reduce over the given axes, or over all where there are none, unless the node says to do nothing."""
    rank = call.input(0).type.rank
    if not axes:
        axes = () if call.flag("noop_with_empty_axes") else tuple(range(rank))
    attrs = ReduceAttrs(tuple(sorted(call.axes(axes, rank))), call.flag("keepdims", True))
    if call.proto.op_type == "ReduceLogSum":
        return call.emit("log", [call.part(op, [call.input(0)], attrs)])
    return call.emit(op, [call.input(0)], attrs)


def _by_attribute(op: str) -> Handler:
    return lambda call: _reduce(call, op, call.ints("axes", ()))


def _by_input(op: str) -> Handler:
    return lambda call: _reduce(call, op, call.constant_ints(1, "axes"))


for _op_type, _op in _REDUCTIONS.items():
    onnx_op(_op_type)(_by_attribute(_op))
    onnx_op(_op_type, since=18)(_by_input(_op))
onnx_op("ReduceSum")(_by_attribute("reduce_sum"))
onnx_op("ReduceSum", since=13)(_by_input("reduce_sum"))


@onnx_op("ArgMax", "ArgMin")
def argmax(call: Call) -> Result:
    """Position of an extreme along one axis."""
    attrs = ArgAttrs(
        call.axis(call.integer("axis", 0), call.input(0).type.rank),
        call.flag("keepdims", True),
        call.flag("select_last_index"),
    )
    return call.emit(call.proto.op_type.lower(), [call.input(0)], attrs)


_SOFTMAX = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}


@onnx_op("Softmax", "LogSoftmax")
def flattened_softmax(call: Call) -> Result:
    """Before opset 13 all axes from `axis` on sum to 1 together."""
    x, op = call.input(0), _SOFTMAX[call.proto.op_type]
    shape = x.type.shape
    axis = call.axis(call.integer("axis", 1), len(shape))
    if math.prod(shape[axis + 1 :]) == 1:
        return call.emit(op, [x], SoftmaxAttrs(axis))
    rows = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    flat = call.part("reshape", [x], ReshapeAttrs(rows))
    return call.emit("reshape", [call.part(op, [flat], SoftmaxAttrs(1))], ReshapeAttrs(shape))


@onnx_op("Softmax", "LogSoftmax", since=13)
def softmax(call: Call) -> Result:
    """exp(x) normalised along one axis."""
    axis = call.axis(call.integer("axis", -1), call.input(0).type.rank)
    return call.emit(_SOFTMAX[call.proto.op_type], [call.input(0)], SoftmaxAttrs(axis))
