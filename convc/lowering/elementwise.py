"""Elementwise operators as TE expressions: one formula each, used by epilogues and by elementwise kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import te, tirx

from convc.ir import Attrs, opdef
from convc.lowering import functions as f
from convc.lowering.extremes import maximum, minimum
from convc.lowering.functions import (
    constant,
    dtype_of,
    is_float,
    let,
    lower_bound,
    masked,
    select,
    upper_bound,
)

Expr = Any
Unary = Callable[[Any, Expr], Expr]
Binary = Callable[[Any, Expr, Expr], Expr]

__all__ = ["BINARY", "UNARY", "binary", "cast", "constant", "unary"]


def _libm(name: str, *operands: Expr) -> Expr:
    """A function of the C library, called for each lane."""
    dtype = dtype_of(operands[0])
    if dtype != "float64":
        operands = tuple(cast(x, "float32") for x in operands)
        return cast(tirx.call_pure_extern("float32", f"{name}f", *operands), dtype)
    return tirx.call_pure_extern(dtype, name, *operands)


def _relu(a: Any, x: Expr) -> Expr:
    return lower_bound(x, constant(0, x))


def _clip(a: Any, x: Expr) -> Expr:
    low, high = a.min, a.max
    if not is_float(x):
        info = np.iinfo(dtype_of(x))
        low = int(info.min) if low <= info.min else min(math.ceil(low), int(info.max))
        high = int(info.max) if high >= info.max else max(math.floor(high), int(info.min))
    if low > -math.inf:
        x = lower_bound(x, constant(low, x))
    return x if high == math.inf else upper_bound(x, constant(high, x))


def _unit(x: Expr) -> Expr:
    return upper_bound(lower_bound(x, constant(0, x)), constant(1, x))


def _elu(alpha: float, x: Expr) -> Expr:
    if dtype_of(x) == "float32":
        negative = f.expm1_within(f.clamp(x, -18, 0))
    else:
        negative = f.expm1(upper_bound(x, constant(0, x)))
    return select(x < constant(0, x), constant(alpha, x) * negative, x)


def _celu(a: Any, x: Expr) -> Expr:
    zero, alpha = constant(0, x), constant(a.alpha, x)
    return lower_bound(x, zero) + upper_bound(alpha * f.expm1(x / alpha), zero)


def _mish(a: Any, x: Expr) -> Expr:
    """x tanh(log(1 + e)) = x z / (z + 2) with e = exp(x), z = e (e + 2); x itself in float32 from 20 on.

    LLVM may multiply before it divides, and so x must be bounded in the product.
    """
    two, far = constant(2, x), constant(20, x)

    def near(t: Expr) -> Expr:
        return let(f.exp(t), lambda e: let(e * (e + two), lambda z: t * (z / (z + two))))

    return select(x > far, x, let(upper_bound(x, far), near))


def _gelu(a: Any, x: Expr) -> Expr:
    """x (1 + tanh u) / 2 = x sigmoid(2 u), which keeps its precision where tanh is near -1."""
    half, one = constant(0.5, x), constant(1, x)
    if a.approximate == "tanh":
        return x * f.sigmoid(
            constant(2 * math.sqrt(2 / math.pi), x) * (x + constant(0.044715, x) * x * x * x)
        )
    return half * x * (one + f.erf(x * constant(math.sqrt(0.5), x)))


def _shrink(a: Any, x: Expr) -> Expr:
    bias, bound = constant(a.bias, x), constant(a.lambd, x)
    return select(x > bound, x - bias, select(x < -bound, x + bias, constant(0, x)))


def _sign(a: Any, x: Expr) -> Expr:
    below = x if dtype_of(x).startswith("uint") else select(x < constant(0, x), constant(-1, x), x)
    return select(x > constant(0, x), constant(1, x), below)


def _softplus(a: Any, x: Expr) -> Expr:
    """max(x, 0) + log1p(exp(-|x|)), which neither overflows nor cancels."""
    return lower_bound(x, constant(0, x)) + f.log1p(f.exp_below_zero(f.minus_absolute(x)))


def cast(x: Expr, dtype: str) -> Expr:
    """Conversion as NumPy's astype: floats to integers toward zero, to bool by comparison with 0.

    NaN is true, though TVM compares so that NaN is neither equal nor unequal to anything.
    """
    if dtype_of(x) == dtype:
        return x
    if dtype != "bool":
        return x.astype(dtype)
    return let(
        x,
        lambda x: (
            tirx.Or(tirx.NE(x, constant(0, x)), tirx.isnan(x)) if is_float(x) else tirx.NE(x, constant(0, x))
        ),
    )


UNARY: dict[str, Unary] = {
    "abs": lambda a, x: f.absolute(x),
    "acos": lambda a, x: tirx.acos(x),
    "acosh": lambda a, x: f.acosh(x),
    "asin": lambda a, x: tirx.asin(x),
    "asinh": lambda a, x: f.asinh(x),
    "atan": lambda a, x: tirx.atan(x),
    "atanh": lambda a, x: f.atanh(x),
    "cast": lambda a, x: cast(x, a.dtype),
    "ceil": lambda a, x: tirx.ceil(x),
    "celu": _celu,
    "clip": _clip,
    "cos": lambda a, x: tirx.cos(x),
    "cosh": lambda a, x: f.cosh(x),
    "dropout": lambda a, x: x,
    "elu": lambda a, x: _elu(a.alpha, x),
    "erf": lambda a, x: f.erf(x),
    "exp": lambda a, x: f.exp(x),
    "floor": lambda a, x: tirx.floor(x),
    "gelu": _gelu,
    "hard_sigmoid": lambda a, x: _unit(constant(a.alpha, x) * x + constant(a.beta, x)),
    "hard_swish": lambda a, x: x * _unit(x * constant(1 / 6, x) + constant(0.5, x)),
    "identity": lambda a, x: x,
    "isnan": lambda a, x: tirx.isnan(x),
    "leaky_relu": lambda a, x: select(x < constant(0, x), constant(a.alpha, x) * x, x),
    "log": lambda a, x: f.log(x),
    "mish": _mish,
    "neg": lambda a, x: -x,
    "not": lambda a, x: tirx.Not(x),
    "reciprocal": lambda a, x: constant(1, x) / x,
    "relu": _relu,
    "round": lambda a, x: tirx.nearbyint(x),
    "selu": lambda a, x: constant(a.gamma, x) * _elu(a.alpha, x),
    "shrink": _shrink,
    "sigmoid": lambda a, x: f.sigmoid(x),
    "sign": _sign,
    "sin": lambda a, x: tirx.sin(x),
    "sinh": lambda a, x: f.sinh(x),
    "softplus": _softplus,
    "softsign": lambda a, x: x / (constant(1, x) + f.absolute(x)),
    "sqrt": lambda a, x: tirx.sqrt(x),
    "swish": lambda a, x: x * f.sigmoid(constant(a.alpha, x) * x),
    "tan": lambda a, x: _libm("tan", x),  # of a vector, tirx.tan returns its argument (TVM 0.27, by sincos)
    "tanh": lambda a, x: f.tanh(x),
    "thresholded_relu": lambda a, x: select(x > constant(a.alpha, x), x, constant(0, x)),
}


def _divide(a: Any, x: Expr, y: Expr) -> Expr:
    if is_float(x):
        return x / y
    zero, quotient = constant(0, x), te.truncdiv(x, _harmless(y))
    if dtype_of(x).startswith("uint"):
        return masked(y > zero, quotient, zero)
    opposite = select(tirx.EQ(x, tirx.min_value(dtype_of(x))), x, -x)  # the least number has none
    return masked(tirx.Not(_harmful(y)), quotient, select(tirx.EQ(y, zero), zero, opposite))


def _mod(a: Any, x: Expr, y: Expr) -> Expr:
    if is_float(x):
        return _libm("fmod", x, y)
    return (te.truncmod if a.fmod else te.floormod)(x, _harmless(y))


def _harmful(y: Expr) -> Expr:
    """Whether a division by an integer may trap: by 0, or of the least number by -1."""
    if dtype_of(y).startswith("uint"):
        return tirx.EQ(y, constant(0, y))
    return tirx.Or(tirx.EQ(y, constant(0, y)), tirx.EQ(y, constant(-1, y)))


def _harmless(y: Expr) -> Expr:
    """`y`, or 1 where it may trap: the remainder is 0 then, right for -1 and chosen for 0."""
    return select(_harmful(y), constant(1, y), y)


def _equal(a: Any, x: Expr, y: Expr) -> Expr:
    if dtype_of(x) == "bool":  # LLVM has no comparison of vectors of bits in TVM's translation
        x, y = x.astype("int8"), y.astype("int8")
    return tirx.EQ(x, y)


def _power(a: Any, x: Expr, y: Expr) -> Expr:
    if is_float(x):
        return tirx.pow(x, y)
    return tirx.pow(x.astype("float64"), y.astype("float64")).astype(dtype_of(x))


BINARY: dict[str, Binary] = {
    "add": lambda a, x, y: x + y,
    "and": lambda a, x, y: tirx.And(x, y),
    "div": _divide,
    "equal": _equal,
    "greater": lambda a, x, y: x > y,
    "greater_equal": lambda a, x, y: x >= y,
    "less": lambda a, x, y: x < y,
    "less_equal": lambda a, x, y: x <= y,
    "max": lambda a, x, y: maximum(x, y),
    "min": lambda a, x, y: minimum(x, y),
    "mod": _mod,
    "mul": lambda a, x, y: x * y,
    "or": lambda a, x, y: tirx.Or(x, y),
    "pow": _power,
    "prelu": lambda a, x, y: select(x < constant(0, x), y * x, x),
    "sub": lambda a, x, y: x - y,
    "xor": lambda a, x, y: tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(tirx.Not(x), y)),
}


def unary(op: str, attrs: Attrs, x: Expr) -> Expr:
    """The value of a unary operator at one point; float16 is computed in float32."""
    if dtype_of(x) == "float16" and not opdef(op).exact:
        return let(x.astype("float32"), lambda t: UNARY[op](attrs, t)).astype("float16")
    return let(x, lambda t: UNARY[op](attrs, t))


def binary(op: str, attrs: Attrs, x: Expr, y: Expr) -> Expr:
    """The value of a binary operator at one point."""
    return let(x, lambda s: let(y, lambda t: BINARY[op](attrs, s, t)))
