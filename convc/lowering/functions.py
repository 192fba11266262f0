"""Elementary functions as float32 expressions that vectorise.

LLVM turns `exp` or `tanh` of a vector into one library call for each lane. The expressions here are made of
additions, products, comparisons and bit shifts instead, so a kernel that uses them stays in vector
registers. All follow one pattern: reduce the argument to a short interval, evaluate a polynomial there,
scale back (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980, chapters 5, 6 and
13). The polynomials are Chebyshev interpolants, computed in float64 when this module is imported, so no
table of magic numbers is needed.

Errors against float64 are a few float32 ulp, infinities and NaN go where they should, and exp underflows
gradually; `tests/test_generic_lowering.py` sweeps all of this. Other dtypes use TVM's scalar intrinsics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.ir import Op, register_op_attr

from convc.dtype import BFLOAT16, FLOAT16, FLOAT32

Expr = Any

LOG2E = 1 / math.log(2)
LN2_HIGH = 0.693359375  # 355 / 512: its product with an exponent is exact in float32
LN2_LOW = math.log(2) - LN2_HIGH


def dtype_of(x: Expr) -> str:
    """The dtype of an expression or of a tensor's element."""
    kind = getattr(x, "dtype", None)
    return str(x.ty.dtype if kind is None else kind)


def is_float(x: Expr) -> bool:
    """Whether an expression is of a floating-point dtype."""
    return "float" in dtype_of(x)


def constant(value: float, like: Expr) -> Expr:
    """`value` in the dtype of `like`."""
    return tirx.const(value, dtype_of(like))


def widened(x: Expr) -> Expr:
    """A floating-point value in float32 at least, in which kernels for half precision sum and finish."""
    return x.astype(FLOAT32) if dtype_of(x) in (FLOAT16, BFLOAT16) else x


register_op_attr("tirx.nearbyint", "TVectorizable", value=True)  # TVM rounds vectors lane by lane without
_BOUND = "tirx.convc_bound"
register_op_attr(_BOUND, "TVectorizable", value=True)
register_op_attr(_BOUND, "TCallEffectKind", value=2)  # tirx::CallEffectKind::kReadState
register_op_attr(_BOUND, "TScriptPrinterName", value="convc_bound")
BOUND = Op.get(_BOUND)
"""The identity, around bound values: said to read some state, so that TVM leaves the bindings alone.

TVM's analysers put a value that they understand in the place of each use of its variable, which takes time
exponential in the depth of bindings. `codegen.values` removes both.
"""


def bound(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """`body` of a variable that holds `value`, whatever that is."""
    variable = tirx.Var("t", dtype_of(value))
    return tirx.Let(variable, tirx.call_intrin(dtype_of(value), _BOUND, value), body(variable))


def let(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """`body` of a variable that holds `value`, so that an expression used twice is computed once."""
    if isinstance(value, (te.tensor.TensorSlice, tirx.Var, tirx.FloatImm, tirx.IntImm)):
        return body(value)
    return bound(value, body)


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """A choice without a branch; both sides are evaluated."""
    return tirx.Select(condition, yes, no)


def masked(condition: Expr, value: Expr, otherwise: Expr) -> Expr:
    """`value` where `condition` holds, of which the loads in `value` must not depend.

    TVM simplifies the branches of a choice under its condition, and so drops the bounds of an address that
    the condition implies, though a vector loads from both branches. Bound outside, the value keeps them.
    """
    return bound(value, lambda t: select(condition, t, otherwise))


def lower_bound(x: Expr, bound: Expr) -> Expr:
    """max(x, bound) that hands NaN in x on."""
    return let(x, lambda t: select(t < bound, bound, t))


def upper_bound(x: Expr, bound: Expr) -> Expr:
    """min(x, bound) that hands NaN in x on."""
    return let(x, lambda t: select(t > bound, bound, t))


def absolute(x: Expr) -> Expr:
    """|x| by clearing the sign bit."""
    if dtype_of(x) != FLOAT32:
        return tirx.abs(x)
    return tirx.reinterpret(FLOAT32, tirx.reinterpret("int32", x) & tirx.const(0x7FFFFFFF, "int32"))


def minus_absolute(x: Expr) -> Expr:
    """-|x| by setting the sign bit."""
    if dtype_of(x) != FLOAT32:
        return -tirx.abs(x)
    return tirx.reinterpret(FLOAT32, tirx.reinterpret("int32", x) | tirx.const(-0x80000000, "int32"))


def with_sign(magnitude: Expr, x: Expr) -> Expr:
    """`magnitude`, which is not negative, with the sign of x (float32)."""
    sign = tirx.reinterpret("int32", x) & tirx.const(-0x80000000, "int32")
    return tirx.reinterpret(FLOAT32, tirx.reinterpret("int32", magnitude) | sign)


def _fit(function: Callable[[float], float], low: float, high: float, degree: int) -> list[float]:
    """Power-basis coefficients, lowest first, of the Chebyshev interpolant of `function` on [low, high]."""
    curve = np.polynomial.Chebyshev.interpolate(np.vectorize(function), degree, domain=[low, high])
    return [float(c) for c in curve.convert(kind=np.polynomial.Polynomial).coef]


def _horner(coefficients: Sequence[float], x: Expr) -> Expr:
    value = constant(coefficients[-1], x)
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + constant(coefficient, x)
    return value


_HALF_LN2 = math.log(2) / 2 * 1.001
_EXP = _fit(lambda r: (math.expm1(r) - r) / (r * r), -_HALF_LN2, _HALF_LN2, 5)
_LOG = _fit(lambda f: (math.log1p(f) - f + f * f / 2) / f**3, math.sqrt(0.5) - 1, math.sqrt(2) - 1, 9)
_ERF_SMALL = _fit(lambda s: math.erf(math.sqrt(s)) / math.sqrt(s), 1e-9, 1.0, 7)
_ERF_LARGE = _fit(lambda t: math.log(math.erfc(t)) + t * t, 1.0, 4.0, 8)


def _power_of_two(n: Expr) -> Expr:
    """2 ** n for an int32 n from -126 to 127: the exponent field of a float32."""
    return tirx.reinterpret(FLOAT32, tirx.shift_left(n + 127, tirx.const(23, "int32")))


def clamp(x: Expr, low: float, high: float) -> Expr:
    """x brought into [low, high]; NaN passes. Written as two nested choices, each one instruction."""
    bottom, top = constant(low, x), constant(high, x)

    def inside(t: Expr) -> Expr:
        below = select(t > top, top, t)
        return select(below < bottom, bottom, below)

    return let(x, inside)


def _reduced(x: Expr, body: Callable[[Expr, Expr], Expr]) -> Expr:
    """`body(n, q)` where x = n ln 2 + r, |r| <= ln 2 / 2, and q = e^r - 1, which is to be used once."""

    def with_n(x: Expr, n: Expr) -> Expr:
        r = x - n * constant(LN2_HIGH, x) - n * constant(LN2_LOW, x)
        return let(r, lambda r: body(n.astype("int32"), _horner(_EXP, r) * (r * r) + r))

    return let(x, lambda x: let(tirx.nearbyint(x * constant(LOG2E, x)), lambda n: with_n(x, n)))


def exp(x: Expr, shift: int = 0) -> Expr:
    """2^shift e^x. The scale 2^n is applied in two halves, since n runs from -151 to 130."""
    if dtype_of(x) != FLOAT32:
        return tirx.exp(x) * constant(2.0**shift, x)

    def scaled(n: Expr, q: Expr) -> Expr:
        half = tirx.shift_right(n, tirx.const(1, "int32"))
        return (q + constant(1, q)) * _power_of_two(half) * _power_of_two(n - half + shift)

    return _reduced(clamp(x, -105, 90), scaled)


def exp_below_zero(x: Expr) -> Expr:
    """e^x for x <= 0 with a single scale: results below the smallest normal number, 2^-126, become 0."""
    if dtype_of(x) != FLOAT32:
        return tirx.exp(x)
    # At -88 n is -127, whose exponent field is that of 0.
    return _reduced(lower_bound(x, constant(-88, x)), lambda n, q: (q + constant(1, q)) * _power_of_two(n))


def expm1(x: Expr) -> Expr:
    """e^x - 1, exact near 0."""
    if dtype_of(x) != FLOAT32:
        return tirx.exp(x) - constant(1, x)
    return expm1_within(clamp(x, -18, 89))


def expm1_within(x: Expr) -> Expr:
    """e^x - 1 for x from -18 to 89: 2^n q + (2^n - 1), halved so that n = 128 does not overflow early."""

    def scaled(n: Expr, q: Expr) -> Expr:
        s = _power_of_two(n - 1)
        return (q * s + (s - constant(0.5, s))) * constant(2, s)

    return _reduced(x, scaled)


def log(x: Expr) -> Expr:
    """Natural logarithm: x = 2^e m with m around 1, log m from a polynomial in m - 1."""
    if dtype_of(x) != FLOAT32:
        return tirx.log(x)

    def finite(x: Expr) -> Expr:
        tiny = x < constant(2.0**-126, x)
        bits = _offset_bits(select(tiny, x * constant(2.0**23, x), x))
        extra = select(tiny, constant(-23, x), constant(0, x))
        return let(bits, lambda b: let(_mantissa(b), lambda f: _log_sum(_exponent(b) + extra, f)))

    return let(x, lambda x: _log_guard(x, finite(x)))


def _log_guard(x: Expr, value: Expr) -> Expr:
    """`value`, the logarithm of a positive finite x, and what belongs to all others."""
    infinity, zero = constant(math.inf, x), constant(0, x)
    outside = select(x == zero, -infinity, constant(math.nan, x))
    return select(x > zero, select(x < infinity, value, x), outside)


_SQRT_HALF_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))


def _offset_bits(x: Expr) -> Expr:
    """The bits of x less those of sqrt(1/2): then the exponent field is that of m in [sqrt(1/2), sqrt(2))."""
    return tirx.reinterpret("int32", x) - tirx.const(_SQRT_HALF_BITS, "int32")


def _exponent(bits: Expr) -> Expr:
    return tirx.shift_right(bits, tirx.const(23, "int32")).astype(FLOAT32)


def _mantissa(bits: Expr) -> Expr:
    """m - 1."""
    m = (bits & tirx.const(0x007FFFFF, "int32")) + tirx.const(_SQRT_HALF_BITS, "int32")
    return tirx.reinterpret(FLOAT32, m) - tirx.const(1, FLOAT32)


def _log_sum(e: Expr, f: Expr) -> Expr:
    """e ln 2 + log(1 + f), smallest terms first."""
    low = _horner(_LOG, f) * (f * f * f) + e * constant(LN2_LOW, e)
    return (low - f * f * constant(0.5, f)) + f + e * constant(LN2_HIGH, e)


def log1p(x: Expr) -> Expr:
    """log(1 + x), where x around 0 goes into the polynomial without being added to 1."""
    if dtype_of(x) != FLOAT32:
        return tirx.log(constant(1, x) + x)

    def split(x: Expr) -> Expr:
        one, zero = constant(1, x), constant(0, x)
        near = tirx.And(x > constant(math.sqrt(0.5) - 1, x), x < constant(math.sqrt(2) - 1, x))

        def value(bits: Expr) -> Expr:
            f = select(near, x, _mantissa(bits))
            return let(f, lambda f: _log_sum(select(near, zero, _exponent(bits)), f))

        return _log_guard(one + x, let(_offset_bits(one + x), value))

    return let(x, split)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e) or e / (1 + e) with e = e^-|x|, so that small results keep their precision."""
    one = constant(1, x)

    def of(x: Expr) -> Expr:
        return let(
            exp_below_zero(minus_absolute(x)), lambda e: select(x < constant(0, x), e, one) / (one + e)
        )

    return let(x, of)


def tanh(x: Expr) -> Expr:
    """z / (z + 2) with z = e^2|x| - 1, which is exact near 0; 1 beyond |x| = 10."""
    if dtype_of(x) != FLOAT32:
        return tirx.tanh(x)

    def signed(x: Expr) -> Expr:
        twice = upper_bound(absolute(x), constant(10, x)) * constant(2, x)
        return with_sign(let(expm1_within(twice), lambda z: z / (z + constant(2, z))), x)

    return let(x, signed)


def erf(x: Expr) -> Expr:
    """An odd polynomial up to |x| = 1, then 1 - erfc with log erfc(x) + x^2 from a polynomial."""
    if dtype_of(x) != FLOAT32:
        return tirx.erf(x)

    def signed(x: Expr) -> Expr:
        def of_magnitude(t: Expr) -> Expr:
            small = _horner(_ERF_SMALL, t * t) * t
            large = constant(1, t) - exp_below_zero(_horner(_ERF_LARGE, t) - t * t)
            return select(t < constant(1, t), small, large)

        return with_sign(let(clamp(absolute(x), 0, 4), of_magnitude), x)

    return let(x, signed)


def sinh(x: Expr) -> Expr:
    """(z + z / (z + 1)) / 2 with z = e^|x| - 1; beyond |x| = 10 simply e^|x| / 2."""
    if dtype_of(x) != FLOAT32:
        return tirx.sinh(x)
    half, one = constant(0.5, x), constant(1, x)

    def signed(x: Expr) -> Expr:
        def of_magnitude(t: Expr) -> Expr:
            small = let(expm1_within(upper_bound(t, constant(20, t))), lambda z: (z + z / (z + one)) * half)
            return select(t < constant(10, t), small, exp(t, shift=-1))

        return with_sign(let(absolute(x), of_magnitude), x)

    return let(x, signed)


def cosh(x: Expr) -> Expr:
    """h + 1 / (4 h) with h = e^|x| / 2."""
    if dtype_of(x) != FLOAT32:
        return tirx.cosh(x)
    return let(exp(absolute(x), shift=-1), lambda h: h + constant(0.25, h) / h)


def asinh(x: Expr) -> Expr:
    """log1p(t + t^2 / (1 + sqrt(t^2 + 1))) for t = |x|, and log t + ln 2 where t^2 could overflow."""
    if dtype_of(x) != FLOAT32:
        return tirx.asinh(x)
    one, huge = constant(1, x), constant(1e9, x)

    def signed(x: Expr) -> Expr:
        def of_magnitude(t: Expr) -> Expr:
            small = let(upper_bound(t, huge), lambda t: log1p(t + t * t / (one + tirx.sqrt(t * t + one))))
            return select(t < huge, small, log(t) + constant(math.log(2), t))

        return with_sign(let(absolute(x), of_magnitude), x)

    return let(x, signed)


def acosh(x: Expr) -> Expr:
    """log1p(y + sqrt(2 y + y^2)) for y = x - 1; NaN below 1."""
    if dtype_of(x) != FLOAT32:
        return tirx.acosh(x)
    two, huge = constant(2, x), constant(1e9, x)

    def of_excess(y: Expr) -> Expr:
        small = let(upper_bound(y, huge), lambda y: log1p(y + tirx.sqrt(two * y + y * y)))
        return select(
            y < huge,
            select(y < constant(0, y), constant(math.nan, y), small),
            log(y) + constant(math.log(2), y),
        )

    return let(x - constant(1, x), of_excess)


def atanh(x: Expr) -> Expr:
    """log1p(2 t / (1 - t)) / 2 for t = |x|; NaN above 1."""
    if dtype_of(x) != FLOAT32:
        return tirx.atanh(x)

    def signed(x: Expr) -> Expr:
        def of_magnitude(t: Expr) -> Expr:
            value = log1p(constant(2, t) * t / (constant(1, t) - t)) * constant(0.5, t)
            return select(t > constant(1, t), constant(math.nan, t), value)

        return with_sign(let(absolute(x), of_magnitude), x)

    return let(x, signed)
