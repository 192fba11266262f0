"""Operators as they were before opset 7: broadcasting by an axis, and flags of training and of memory.

Only what differs is here. Each operator goes on to the handler of the oldest opset that convc follows.
"""

from __future__ import annotations

from collections.abc import Sequence

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import OLDEST, Result, early_op, find
from convc.ir import Value
from convc.ops.shape import ReshapeAttrs

_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
_SAME_BUT_FOR_MEMORY = (
    "Abs", "Ceil", "Clip", "Elu", "Exp", "Floor", "HardSigmoid", "InstanceNormalization", "LeakyRelu", "Log",
    "Max", "Mean", "Min", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sqrt", "Sum", "Tanh",
    "AveragePool", "Gemm",
)  # fmt: skip
"""Operators whose older forms ask for less: `consumed_inputs` (whose memory may be used again) is a hint,
Gemm's `broadcast` a permission that is now always given, and AveragePool had no `count_include_pad`."""


def _now(call: Call, inputs: Sequence[Value | None]) -> Result:
    """What the operator's handler at opset OLDEST makes of other inputs."""
    handler = find(call.proto.op_type, OLDEST)
    assert handler is not None
    call.inputs, call.opset = tuple(inputs), OLDEST
    return handler(call)


@early_op(*_SAME_BUT_FOR_MEMORY)
def same(call: Call) -> Result:
    """As it is now."""
    return _now(call, call.inputs)


@early_op(*_BINARY)
def binary(call: Call) -> Result:
    """The second operand fits the first one's axes from `axis` on, by default its last ones."""
    a, b = call.input(0), call.input(1)
    if not call.flag("broadcast"):
        if a.type.shape != b.type.shape:
            call.malformed(f"{a.type.shape} and {b.type.shape} differ, and attribute broadcast is not 1.")
        return _now(call, [a, b])
    first = call.axis(call.integer("axis"), a.type.rank) if call.has("axis") else a.type.rank - b.type.rank
    shape = a.type.shape[first : first + b.type.rank]
    if (
        first < 0
        or len(shape) != b.type.rank
        or any(n not in (1, m) for n, m in zip(b.type.shape, shape, strict=True))
    ):
        call.malformed(f"{b.type.shape} does not fit {a.type.shape} from axis {first} on.")
    return _now(call, [a, _with_rank(call, b, a.type.rank - first)])


def _with_rank(call: Call, value: Value, rank: int) -> Value:
    """A value with axes of extent 1 behind its own."""
    if value.type.rank >= rank:
        return value
    shape = (*value.type.shape, *[1] * (rank - value.type.rank))
    return call.part("reshape", [value], ReshapeAttrs(shape))


@early_op("PRelu")
def prelu(call: Call) -> Result:
    """One slope for all channels, or one for each."""
    x, slope = call.input(0), call.input(1)
    if slope.type.rank != 1 or slope.type.size == 1 or x.type.rank < 2:
        return _now(call, [x, slope])
    return _now(call, [x, _with_rank(call, slope, x.type.rank - 1)])


@early_op("BatchNormalization", "Dropout")
def at_inference(call: Call) -> Result:
    """Unless `is_test` says otherwise these were meant for training."""
    if not call.flag("is_test"):
        call.refuse("attribute is_test = 0 (training)")
    return _now(call, call.inputs)
