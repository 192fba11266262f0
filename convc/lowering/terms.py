"""The scalars of kernels: TE expressions with the operators that formulas are written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from tvm import te, tirx

from convc.dtype import FLOAT32, FLOAT64
from convc.lowering import extremes
from convc.lowering import functions as f
from convc.lowering.functions import constant, dtype_of, is_float, masked, select
from convc.ops.scalar import Arithmetic

Expr = Any


@dataclass(frozen=True, eq=False)
class Term:
    """A TE expression that takes Python's numbers in its own dtype."""

    expr: Expr

    def __add__(self, other: Scalar) -> Term:
        return Term(self.expr + self._of(other))

    def __radd__(self, other: float) -> Term:
        return Term(self._of(other) + self.expr)

    def __sub__(self, other: Scalar) -> Term:
        return Term(self.expr - self._of(other))

    def __rsub__(self, other: float) -> Term:
        return Term(self._of(other) - self.expr)

    def __mul__(self, other: Scalar) -> Term:
        return Term(self.expr * self._of(other))

    def __rmul__(self, other: float) -> Term:
        return Term(self._of(other) * self.expr)

    def __truediv__(self, other: Scalar) -> Term:
        return Term(self.expr / self._of(other))

    def __rtruediv__(self, other: float) -> Term:
        return Term(self._of(other) / self.expr)

    def __lt__(self, other: Scalar) -> Term:
        return Term(self.expr < self._of(other))

    def __le__(self, other: Scalar) -> Term:
        return Term(self.expr <= self._of(other))

    def __gt__(self, other: Scalar) -> Term:
        return Term(self.expr > self._of(other))

    def __ge__(self, other: Scalar) -> Term:
        return Term(self.expr >= self._of(other))

    def _of(self, other: Scalar) -> Expr:
        return other.expr if isinstance(other, Term) else constant(other, self.expr)


Scalar: TypeAlias = "Term | float"


def _on(function: Callable[..., Expr]) -> Callable[..., Term]:
    """A function of expressions as one of terms; numbers take the dtype of the first operand."""
    return lambda x, *rest: Term(function(x.expr, *(x._of(r) for r in rest)))


def _where(condition: Term, yes: Scalar, no: Scalar) -> Term:
    """A choice in which at least one branch is a term."""
    like = yes if isinstance(yes, Term) else no
    assert isinstance(like, Term)
    return Term(select(condition.expr, like._of(yes), like._of(no)))


def _let(value: Term, body: Callable[[Term], Term]) -> Term:
    return Term(f.let(value.expr, lambda t: body(Term(t)).expr))


def _integers(x: Term) -> tuple[int, int] | None:
    info = None if is_float(x.expr) else np.iinfo(dtype_of(x.expr))
    return None if info is None else (int(info.min), int(info.max))


def cast(x: Expr, dtype: str) -> Expr:
    """Conversion as NumPy's astype: floats to integers toward zero, to bool by comparison with 0.

    NaN is true, though TVM compares so that NaN is neither equal nor unequal to anything.
    """
    if dtype_of(x) == dtype:
        return x
    if dtype != "bool":
        return x.astype(dtype)
    return f.let(
        x,
        lambda x: (
            tirx.Or(tirx.NE(x, constant(0, x)), tirx.isnan(x)) if is_float(x) else tirx.NE(x, constant(0, x))
        ),
    )


def _libm(name: str, *operands: Expr) -> Expr:
    """A function of the C library, called for each lane."""
    dtype = dtype_of(operands[0])
    if dtype != FLOAT64:
        operands = tuple(cast(x, FLOAT32) for x in operands)
        return cast(tirx.call_pure_extern(FLOAT32, f"{name}f", *operands), dtype)
    return tirx.call_pure_extern(dtype, name, *operands)


def _expm1_below_zero(x: Expr) -> Expr:
    if dtype_of(x) == FLOAT32:
        return f.expm1_within(f.clamp(x, -18, 0))
    return f.expm1(f.upper_bound(x, constant(0, x)))


def _sign(x: Expr) -> Expr:
    below = x if dtype_of(x).startswith("uint") else select(x < constant(0, x), constant(-1, x), x)
    return select(x > constant(0, x), constant(1, x), below)


def _divide(x: Expr, y: Expr) -> Expr:
    if is_float(x):
        return x / y
    zero, quotient = constant(0, x), te.truncdiv(x, _harmless(y))
    if dtype_of(x).startswith("uint"):
        return masked(y > zero, quotient, zero)
    opposite = select(tirx.EQ(x, tirx.min_value(dtype_of(x))), x, -x)  # the least number has none
    return masked(tirx.Not(_harmful(y)), quotient, select(tirx.EQ(y, zero), zero, opposite))


def _harmful(y: Expr) -> Expr:
    """Whether a division by an integer may trap: by 0, or of the least number by -1."""
    if dtype_of(y).startswith("uint"):
        return tirx.EQ(y, constant(0, y))
    return tirx.Or(tirx.EQ(y, constant(0, y)), tirx.EQ(y, constant(-1, y)))


def _harmless(y: Expr) -> Expr:
    """`y`, or 1 where it may trap: the remainder is 0 then, right for -1 and chosen for 0."""
    return select(_harmful(y), constant(1, y), y)


def _fmod(x: Expr, y: Expr) -> Expr:
    return _libm("fmod", x, y) if is_float(x) else te.truncmod(x, _harmless(y))


def _equal(x: Expr, y: Expr) -> Expr:
    if dtype_of(x) == "bool":  # LLVM has no comparison of vectors of bits in TVM's translation
        x, y = x.astype("int8"), y.astype("int8")
    return tirx.EQ(x, y)


def _power(x: Expr, y: Expr) -> Expr:
    if is_float(x):
        return tirx.pow(x, y)
    return tirx.pow(x.astype(FLOAT64), y.astype(FLOAT64)).astype(dtype_of(x))


def _xor(x: Expr, y: Expr) -> Expr:
    return tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(tirx.Not(x), y))


TERMS: Arithmetic[Term] = Arithmetic(
    abs=_on(f.absolute),
    minus_abs=_on(f.minus_absolute),
    acos=_on(tirx.acos),
    acosh=_on(f.acosh),
    asin=_on(tirx.asin),
    asinh=_on(f.asinh),
    atan=_on(tirx.atan),
    atanh=_on(f.atanh),
    ceil=_on(tirx.ceil),
    cos=_on(tirx.cos),
    cosh=_on(f.cosh),
    erf=_on(f.erf),
    exp=_on(f.exp),
    exp_below_zero=_on(f.exp_below_zero),
    expm1=_on(f.expm1),
    expm1_below_zero=_on(_expm1_below_zero),
    floor=_on(tirx.floor),
    isnan=_on(tirx.isnan),
    log=_on(f.log),
    log1p=_on(f.log1p),
    negative=_on(lambda x: -x),
    rint=_on(tirx.nearbyint),
    sigmoid=_on(f.sigmoid),
    sign=_on(_sign),
    sin=_on(tirx.sin),
    sinh=_on(f.sinh),
    sqrt=_on(tirx.sqrt),
    tan=_on(lambda x: _libm("tan", x)),  # of a vector, tirx.tan returns its argument (TVM 0.27, by sincos)
    tanh=_on(f.tanh),
    logical_not=_on(tirx.Not),
    logical_and=_on(tirx.And),
    logical_or=_on(tirx.Or),
    logical_xor=_on(_xor),
    equal=_on(_equal),
    at_least=_on(f.lower_bound),
    at_most=_on(f.upper_bound),
    maximum=_on(extremes.maximum),
    minimum=_on(extremes.minimum),
    divide=_on(_divide),
    remainder=_on(lambda x, y: te.floormod(x, _harmless(y))),
    fmod=_on(_fmod),
    power=_on(_power),
    where=_where,
    cast=lambda x, dtype: Term(cast(x.expr, dtype)),
    let=_let,
    integers=_integers,
)
