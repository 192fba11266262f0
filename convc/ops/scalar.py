"""What formulas of elementwise operators are written in: one formula for each, whoever reads it.

A formula takes an `Arithmetic`, the operator's attributes and one scalar for each operand, and uses Python's
operators with scalars and numbers. `NUMBERS` makes arrays of NumPy the scalars, which gives the reference;
`convc.lowering.terms` makes TE expressions of the same formulas, which gives the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from convc.types import Array

S = TypeVar("S")
Formula = Callable[..., Any]
"""`formula(m, attrs, *operands)`, `m` an `Arithmetic`."""
Of1 = Callable[[S], S]
Of2 = Callable[[S, S], S]


@dataclass(frozen=True)
class Arithmetic(Generic[S]):
    """Functions of scalars beside +, -, *, / and comparisons, each by its usual definition unless it says so.

    NaN in an operand of `at_least` to `minimum` is NaN in the result.
    """

    abs: Of1[S]
    minus_abs: Of1[S]  # -|x|
    acos: Of1[S]
    acosh: Of1[S]
    asin: Of1[S]
    asinh: Of1[S]
    atan: Of1[S]
    atanh: Of1[S]
    ceil: Of1[S]
    cos: Of1[S]
    cosh: Of1[S]
    erf: Of1[S]
    exp: Of1[S]
    exp_below_zero: Of1[S]  # of x <= 0
    expm1: Of1[S]  # e^x - 1
    expm1_below_zero: Of1[S]  # of min(x, 0)
    floor: Of1[S]
    isnan: Of1[S]
    log: Of1[S]
    log1p: Of1[S]  # log(1 + x)
    negative: Of1[S]
    rint: Of1[S]  # halves to even
    sigmoid: Of1[S]  # 1 / (1 + e^-x), without overflow
    sign: Of1[S]
    sin: Of1[S]
    sinh: Of1[S]
    sqrt: Of1[S]
    tan: Of1[S]
    tanh: Of1[S]

    logical_not: Of1[S]
    logical_and: Of2[S]
    logical_or: Of2[S]
    logical_xor: Of2[S]
    equal: Of2[S]

    at_least: Callable[[S, float], S]  # max(x, bound)
    at_most: Callable[[S, float], S]  # min(x, bound)
    maximum: Of2[S]
    minimum: Of2[S]
    divide: Of2[S]  # of integers toward zero
    remainder: Of2[S]  # with the divisor's sign, of integers
    fmod: Of2[S]  # with the dividend's sign
    power: Of2[S]
    where: Callable[[S, Any, Any], S]
    cast: Callable[[S, str], S]  # as NumPy's astype
    let: Callable[[S, Callable[[S], S]], S]  # the second of the first, which is computed once
    integers: Callable[
        [S], tuple[int, int] | None
    ]  # the least and largest of an integer dtype; of floats None


# ---- formulas that are more than a line


def clip(m: Arithmetic[Any], a: Any, x: Any) -> Any:
    """Limit to [min, max]; for integers the limits are first brought into the range of their dtype."""
    low, high = a.min, a.max
    if (limits := m.integers(x)) is not None:
        least, most = limits
        low = least if low <= least else min(math.ceil(low), most)
        high = most if high >= most else max(math.floor(high), least)
    if low > -math.inf:
        x = m.at_least(x, low)
    return x if high == math.inf else m.at_most(x, high)


def unit(m: Arithmetic[Any], x: Any) -> Any:
    """Limit to [0, 1]."""
    return m.at_most(m.at_least(x, 0), 1)


def elu(m: Arithmetic[Any], alpha: float, x: Any) -> Any:
    """x, and alpha (e^x - 1) below zero (Clevert et al., arXiv 1511.07289, equation 15)."""
    return m.where(x < 0, alpha * m.expm1_below_zero(x), x)


def celu(m: Arithmetic[Any], a: Any, x: Any) -> Any:
    """An elu whose slope is continuous at zero (Barron, arXiv 1704.07483, equation 2)."""
    return m.at_least(x, 0) + m.at_most(a.alpha * m.expm1(x / a.alpha), 0)


def gelu(m: Arithmetic[Any], a: Any, x: Any) -> Any:
    """x times the normal distribution function of x (Hendrycks and Gimpel, arXiv 1606.08415).

    By tanh, x (1 + tanh u) / 2 is written as x sigmoid(2 u), which keeps its precision where tanh is near -1.
    """
    if a.approximate == "tanh":
        return x * m.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return 0.5 * x * (1 + m.erf(x * math.sqrt(0.5)))


def mish(m: Arithmetic[Any], a: Any, x: Any) -> Any:
    """x tanh(log(1 + e)) = x z / (z + 2) with e = exp(x), z = e (e + 2); x itself from 20 on.

    There the factor differs from 1 by less than 2 e^-40. A compiler may multiply before it divides, and so x
    must be bounded in the product (Misra, arXiv 1908.08681).
    """

    def near(t: Any) -> Any:
        return m.let(m.exp(t), lambda e: m.let(e * (e + 2), lambda z: t * (z / (z + 2))))

    return m.where(x > 20, x, m.let(m.at_most(x, 20), near))


def shrink(m: Arithmetic[Any], a: Any, x: Any) -> Any:
    """Soft (bias = lambd) or hard (bias = 0) shrinkage."""
    return m.where(x > a.lambd, x - a.bias, m.where(x < -a.lambd, x + a.bias, 0))


def softplus(m: Arithmetic[Any], a: Any, x: Any) -> Any:
    """log(1 + e^x) as max(x, 0) + log1p(e^-|x|), which neither overflows nor cancels."""
    return m.at_least(x, 0) + m.log1p(m.exp_below_zero(m.minus_abs(x)))


# ---- the scalars of the reference


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks."""
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


def divide(a: Array, b: Array) -> Array:
    """a / b; of integers toward zero, so that (a / b) * b + fmod(a, b) == a."""
    return np.asarray(a / b if a.dtype.kind == "f" else (a - np.fmod(a, b)) // b)


def power(a: Array, b: Array) -> Array:
    """a ** b; of integers toward zero, by way of float64 where an exponent is negative."""
    if a.dtype.kind != "f" and (b < 0).any():
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.asarray(np.power(a, b))


def _integers(x: Array) -> tuple[int, int] | None:
    info = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
    return None if info is None else (int(info.min), int(info.max))


NUMBERS: Arithmetic[Array] = Arithmetic(
    abs=np.abs,
    minus_abs=lambda x: -np.abs(x),
    acos=np.arccos,
    acosh=np.arccosh,
    asin=np.arcsin,
    asinh=np.arcsinh,
    atan=np.arctan,
    atanh=np.arctanh,
    ceil=np.ceil,
    cos=np.cos,
    cosh=np.cosh,
    erf=erf,
    exp=np.exp,
    exp_below_zero=np.exp,
    expm1=np.expm1,
    expm1_below_zero=lambda x: np.expm1(np.minimum(x, 0)),
    floor=np.floor,
    isnan=np.isnan,
    log=np.log,
    log1p=np.log1p,
    negative=np.negative,
    rint=np.rint,
    sigmoid=sigmoid,
    sign=np.sign,
    sin=np.sin,
    sinh=np.sinh,
    sqrt=np.sqrt,
    tan=np.tan,
    tanh=np.tanh,
    logical_not=np.logical_not,
    logical_and=np.logical_and,
    logical_or=np.logical_or,
    logical_xor=np.logical_xor,
    equal=np.equal,
    at_least=np.maximum,
    at_most=np.minimum,
    maximum=np.maximum,
    minimum=np.minimum,
    divide=divide,
    remainder=np.mod,
    fmod=np.fmod,
    power=power,
    where=np.where,
    cast=lambda x, dtype: x.astype(dtype),
    let=lambda x, body: body(x),
    integers=_integers,
)
