"""Operators on elements: activations, elementary functions, arithmetic, comparisons, casts."""

from __future__ import annotations

import functools
import math

import numpy as np
import onnx

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Handler, Result, onnx_op
from convc.frontends.onnx.tensors import dtype_name
from convc.ir import Value
from convc.ops.binary import ModAttrs
from convc.ops.unary import (
    AlphaAttrs,
    CastAttrs,
    ClipAttrs,
    GeluAttrs,
    HardSigmoidAttrs,
    LeakyReluAttrs,
    SeluAttrs,
    ShrinkAttrs,
    SwishAttrs,
)

_UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softsign": "softsign", "Softplus": "softplus",
    "HardSwish": "hard_swish", "Mish": "mish", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Abs": "abs",
    "Neg": "neg", "Reciprocal": "reciprocal", "Floor": "floor", "Ceil": "ceil", "Round": "round",
    "Sign": "sign", "Erf": "erf", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos",
    "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh",
    "Not": "not", "IsNaN": "isnan", "Identity": "identity",
}  # fmt: skip

_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "PRelu": "prelu", "Equal": "equal",
    "Greater": "greater", "Less": "less", "GreaterOrEqual": "greater_equal", "LessOrEqual": "less_equal",
    "And": "and", "Or": "or", "Xor": "xor",
}  # fmt: skip

_FOLDED = {"Sum": "add", "Max": "max", "Min": "min", "Mean": "add"}


def _unary(op: str) -> Handler:
    return lambda call: call.emit(op, [call.input(0)])


def _binary(op: str) -> Handler:
    return lambda call: call.emit(op, [call.input(0), call.input(1)])


for _op_type, _op in _UNARY.items():
    onnx_op(_op_type)(_unary(_op))
for _op_type, _op in _BINARY.items():
    onnx_op(_op_type)(_binary(_op))


@onnx_op("Sum", "Max", "Min", "Mean")
def variadic(call: Call) -> Result:
    """Any number of operands, taken two at a time."""
    op = _FOLDED[call.proto.op_type]
    first, *others = call.rest()
    if not others:
        return call.emit("identity", [first])
    if call.proto.op_type == "Mean":
        total = functools.reduce(lambda a, b: call.part(op, [a, b]), others, first)
        return call.emit("div", [total, call.scalar(len(others) + 1, total)])
    running = functools.reduce(lambda a, b: call.part(op, [a, b]), others[:-1], first)
    return call.emit(op, [running, others[-1]])


@onnx_op("Pow")
def power(call: Call) -> Result:
    """The exponent may have a dtype of its own (from opset 12 on), in which nothing of it is lost."""
    x, exponent = call.input(0), call.input(1)
    wide = _power_dtype(call, x, exponent)
    if wide == x.type.dtype:
        return call.emit("pow", [x, _as(call, exponent, wide)])
    result = call.part("pow", [_as(call, x, wide), _as(call, exponent, wide)])
    return call.emit("cast", [result], CastAttrs(x.type.dtype))


def _power_dtype(call: Call, x: Value, exponent: Value) -> str:
    """What a power is computed in: float64 where an integer's exponent is none, else the base's dtype, or
    the exponent's where that holds more.
    """
    if not exponent.type.is_float or exponent.type.dtype == x.type.dtype:
        return x.type.dtype
    if not x.type.is_float:
        return "float64"
    known = call.graph.constant(exponent)
    with np.errstate(over="ignore"):
        if known is not None and np.array_equal(known.astype(x.type.dtype).astype(known.dtype), known):
            return x.type.dtype
    return max(x.type, exponent.type, key=lambda kind: kind.itemsize).dtype


def _as(call: Call, value: Value, dtype: str) -> Value:
    """`value` in another dtype."""
    return value if value.type.dtype == dtype else call.part("cast", [value], CastAttrs(dtype))


@onnx_op("Mod")
def mod(call: Call) -> Result:
    """Remainder with the sign of the divisor, or of the dividend with `fmod`, which floats must have."""
    return call.emit("mod", [call.input(0), call.input(1)], ModAttrs(call.flag("fmod")))


@onnx_op("Mod", since=28)
def mod_of_floats(call: Call) -> Result:
    """Floats may do without `fmod` as well: then a remainder of the other sign is moved by the divisor."""
    x, y = call.input(0), call.input(1)
    if call.flag("fmod") or not x.type.is_float:
        return mod(call)
    rest, zero = call.part("mod", [x, y], ModAttrs(fmod=True)), call.scalar(0, x)
    below = call.part("less", [y, zero])
    astray = call.part("xor", [call.part("less", [rest, zero]), below])
    moved = call.part("where", [astray, call.part("add", [rest, y]), rest])
    signed_zero = call.part("where", [below, call.scalar(-0.0, x), zero])
    return call.emit("where", [call.part("equal", [rest, zero]), signed_zero, moved])


@onnx_op("Where")
def where(call: Call) -> Result:
    """Choose between two tensors."""
    return call.emit("where", [call.input(0), call.input(1), call.input(2)])


@onnx_op("Clip")
def clip_by_attributes(call: Call) -> Result:
    """Limits as attributes."""
    limits = ClipAttrs(call.real("min", -math.inf), call.real("max", math.inf))
    return call.emit("clip", [call.input(0)], limits)


@onnx_op("Clip", since=11)
def clip(call: Call) -> Result:
    """Limits as inputs; where these are computed, a maximum and a minimum take the operator's place."""
    x, low, high = call.input(0), call.optional(1), call.optional(2)
    known = all(v is None or call.graph.constant(v) is not None for v in (low, high))
    if known:
        limits = ClipAttrs(
            call.constant_number(1, "min", -math.inf), call.constant_number(2, "max", math.inf)
        )
        return call.emit("clip", [x], limits)
    if high is None:
        return call.emit("max", [x, low])
    return call.emit("min", [x if low is None else call.part("max", [x, low]), high])


@onnx_op("LeakyRelu")
def leaky_relu(call: Call) -> Result:
    """Relu with a slope for negative inputs."""
    return call.emit("leaky_relu", [call.input(0)], LeakyReluAttrs(call.real("alpha", 0.01)))


@onnx_op("Elu")
def elu(call: Call) -> Result:
    """Exponential linear unit."""
    return call.emit("elu", [call.input(0)], AlphaAttrs(call.real("alpha", 1.0)))


@onnx_op("Celu")
def celu(call: Call) -> Result:
    """Continuously differentiable exponential linear unit."""
    return call.emit("celu", [call.input(0)], AlphaAttrs(call.real("alpha", 1.0)))


@onnx_op("ThresholdedRelu")
def thresholded_relu(call: Call) -> Result:
    """Zero up to a threshold."""
    return call.emit("thresholded_relu", [call.input(0)], AlphaAttrs(call.real("alpha", 1.0)))


@onnx_op("Selu")
def selu(call: Call) -> Result:
    """Self-normalising exponential linear unit."""
    default = SeluAttrs()
    attrs = SeluAttrs(call.real("alpha", default.alpha), call.real("gamma", default.gamma))
    return call.emit("selu", [call.input(0)], attrs)


@onnx_op("HardSigmoid")
def hard_sigmoid(call: Call) -> Result:
    """A sigmoid of straight lines."""
    attrs = HardSigmoidAttrs(call.real("alpha", 0.2), call.real("beta", 0.5))
    return call.emit("hard_sigmoid", [call.input(0)], attrs)


@onnx_op("Gelu")
def gelu(call: Call) -> Result:
    """Gaussian error linear unit, exact or by tanh."""
    kind = call.text("approximate", "none")
    if kind not in ("none", "tanh"):
        call.refuse(f"attribute approximate = '{kind}'")
    return call.emit("gelu", [call.input(0)], GeluAttrs(kind))


@onnx_op("Swish")
def swish(call: Call) -> Result:
    """x times its sigmoid."""
    return call.emit("swish", [call.input(0)], SwishAttrs(call.real("alpha", 1.0)))


@onnx_op("Shrink")
def shrink(call: Call) -> Result:
    """Soft or hard shrinkage."""
    return call.emit("shrink", [call.input(0)], ShrinkAttrs(call.real("bias", 0.0), call.real("lambd", 0.5)))


@onnx_op("Cast")
def cast(call: Call) -> Result:
    """Conversion to another dtype."""
    number = call.integer("to")
    dtype = dtype_name(number)
    if dtype is None:
        known = number in onnx.TensorProto.DataType.values()
        call.refuse(f"attribute to = {onnx.TensorProto.DataType.Name(number) if known else number}")
    return call.emit("cast", [call.input(0)], CastAttrs(dtype))


@onnx_op("CastLike")
def cast_like(call: Call) -> Result:
    """Conversion to the dtype of a second tensor."""
    return call.emit("cast", [call.input(0)], CastAttrs(call.input(1).type.dtype))


@onnx_op("Dropout")
def dropout(call: Call) -> Result:
    """The identity, at inference."""
    if 1 in call.used:
        call.refuse("output 1 (mask) is used, which only training needs")
    training = call.constant(2, "training_mode")
    if training is not None and training.any():
        call.refuse("input 2 (training_mode) is true")
    return call.emit("dropout", [call.input(0)])
