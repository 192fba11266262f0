"""Operators on one tensor, element by element: activations, rounding, elementary functions, casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.dtype import DTYPES, DType
from convc.errors import TypeRuleError
from convc.ir.opdef import Attrs, OpDef, register
from convc.ir.traits import Affine
from convc.ops import scalar
from convc.ops.common import array, must_be, required
from convc.ops.elementwise import Elementwise
from convc.ops.scalar import Formula
from convc.types import Array, TensorType


@dataclass(frozen=True)
class LeakyReluAttrs(Attrs):
    """Slope for negative inputs."""

    alpha: float = 0.01


@dataclass(frozen=True)
class AlphaAttrs(Attrs):
    """The one parameter of elu, celu and thresholded_relu."""

    alpha: float = 1.0


@dataclass(frozen=True)
class SeluAttrs(Attrs):
    """Constants that keep unit variance (Klambauer et al., arXiv 1706.02515, equation 2)."""

    alpha: float = 1.67326319217681884765625
    gamma: float = 1.05070102214813232421875


@dataclass(frozen=True)
class HardSigmoidAttrs(Attrs):
    """Slope and value at zero of the straight part."""

    alpha: float = 0.2
    beta: float = 0.5


@dataclass(frozen=True)
class GeluAttrs(Attrs):
    """`approximate` is "none" (by erf) or "tanh" (Hendrycks and Gimpel, arXiv 1606.08415, section 2)."""

    approximate: str = "none"


@dataclass(frozen=True)
class SwishAttrs(Attrs):
    """Factor of the input inside the sigmoid."""

    alpha: float = 1.0


@dataclass(frozen=True)
class ShrinkAttrs(Attrs):
    """Inputs within +-`lambd` become 0, the others move by `bias` toward it."""

    bias: float = 0.0
    lambd: float = 0.5


@dataclass(frozen=True)
class ClipAttrs(Attrs):
    """Smallest and largest result; `max` wins where they cross."""

    min: float = -math.inf
    max: float = math.inf


@dataclass(frozen=True)
class CastAttrs(Attrs):
    """The dtype of the result."""

    dtype: str


class Unary(Elementwise):
    """A function of one number. The output has the input's shape, and its dtype unless `result`."""

    kind: ClassVar[str]
    result: ClassVar[DType | None]

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be(self.kind, x)
        return (TensorType(x.shape, self.result or x.dtype),)


Condition = Callable[[Any], bool]
"""Something that depends on the attributes."""


def define(
    name: str,
    formula: Formula,
    *,
    finite: bool,
    monotone: bool | Condition,
    attrs: type[Attrs] = Attrs,
    kind: str = "float",
    result: str = "",
    passes: Affine = Affine.NOTHING,
    identity: bool | Condition = False,
    **traits: Any,
) -> None:
    """Register a unary operator; `kind` of input as in `must_be`, the rest as in `OpDef`."""
    members = {
        **traits, "name": name, "formula": staticmethod(formula), "attrs": attrs, "kind": kind,
        "result": DType.of(result) if result else None, "finite": finite, "monotone": _method(monotone),
        "identity": _method(identity), "passes": lambda self, attrs: passes, "__module__": __name__,
    }  # fmt: skip
    if kind == "float":  # most are functions: the argument's reduction, a polynomial, the result's scale
        members["instructions"] = 32
    register(type(name, (Unary,), members))


def _method(told: bool | Condition) -> Callable[[Any, Any], bool]:
    return (lambda self, attrs: told) if isinstance(told, bool) else (lambda self, attrs: told(attrs))


def _function(name: str) -> Formula:
    """The formula that is a function of `Arithmetic` by itself."""
    return lambda m, a, x: getattr(m, name)(x)


for _name, _own in {"floor": "floor", "ceil": "ceil", "round": "rint"}.items():
    define(_name, _function(_own), finite=True, monotone=True, exact=True, idempotent=True)
for _name in ("atan", "tanh", "asinh", "erf", "sigmoid"):
    define(_name, _function(_name), finite=True, monotone=True)
for _name in ("sin", "cos", "tan"):
    define(_name, _function(_name), finite=True, monotone=False)
# These leave float32's range, or are NaN or infinite outside of their domain, which the lanes beyond the
# channels need not respect.
for _name in ("exp", "sinh"):
    define(_name, _function(_name), finite=False, monotone=True)
for _name in ("log", "sqrt", "asin", "acosh", "atanh", "acos", "cosh"):
    define(_name, _function(_name), finite=False, monotone=False)
define("reciprocal", lambda m, a, x: 1 / x, finite=False, monotone=False)

define("softplus", scalar.softplus, finite=True, monotone=True)
define("softsign", lambda m, a, x: x / (1 + m.abs(x)), finite=True, monotone=True)
define("hard_swish", lambda m, a, x: x * scalar.unit(m, x * (1 / 6) + 0.5), finite=True, monotone=False)
define("mish", scalar.mish, finite=True, monotone=False)
define(
    "hard_sigmoid",
    lambda m, a, x: scalar.unit(m, a.alpha * x + a.beta),
    attrs=HardSigmoidAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0,
)
define(
    "leaky_relu",
    lambda m, a, x: m.where(x < 0, a.alpha * x, x),
    attrs=LeakyReluAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0,
    passes=Affine.SCALE,
)
define(
    "elu",
    lambda m, a, x: scalar.elu(m, a.alpha, x),
    attrs=AlphaAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0,
)
define("celu", scalar.celu, attrs=AlphaAttrs, finite=True, monotone=lambda a: a.alpha > 0)
define(
    "thresholded_relu",
    lambda m, a, x: m.where(x > a.alpha, x, 0),
    attrs=AlphaAttrs,
    finite=True,
    idempotent=True,
    monotone=False,  # NaN becomes 0
)
define(
    "selu",
    lambda m, a, x: a.gamma * scalar.elu(m, a.alpha, x),
    attrs=SeluAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0 and a.gamma >= 0,
)
define("swish", lambda m, a, x: x * m.sigmoid(a.alpha * x), attrs=SwishAttrs, finite=True, monotone=False)
define("gelu", scalar.gelu, attrs=GeluAttrs, finite=True, monotone=False)
define("isnan", _function("isnan"), result="bool", finite=True, monotone=False, exact=True)
define(
    "relu",
    lambda m, a, x: m.at_least(x, 0),
    kind="number",
    finite=True,
    monotone=True,
    passes=Affine.SCALE,
    exact=True,
    idempotent=True,
)
define(
    "abs",
    _function("abs"),
    kind="number",
    finite=True,
    monotone=False,
    passes=Affine.SCALE,
    exact=True,
    idempotent=True,
)
define(
    "neg",
    _function("negative"),
    kind="number",
    finite=True,
    monotone=False,
    passes=Affine.SCALE | Affine.NEGATIVE,
    exact=True,
)
define("sign", _function("sign"), kind="number", finite=True, monotone=True, exact=True, idempotent=True)
define("shrink", scalar.shrink, attrs=ShrinkAttrs, finite=True, monotone=False)  # NaN becomes 0
define(
    "clip",
    scalar.clip,
    attrs=ClipAttrs,
    kind="number",
    finite=True,
    monotone=True,
    identity=lambda a: a.min == -math.inf and a.max == math.inf,
)
define("not", _function("logical_not"), kind="bool", finite=True, monotone=False, exact=True)
for _name in ("identity", "dropout"):
    define(
        _name,
        lambda m, a, x: x,
        kind="any",
        finite=True,
        monotone=True,
        passes=Affine.ALL,
        identity=True,
        moves=True,
        exact=True,
        idempotent=True,
    )


@register
class Cast(OpDef[CastAttrs]):
    """Conversion to another dtype: floats to integers toward zero, to bool by comparison with 0."""

    name = "cast"
    attrs = CastAttrs
    formula = staticmethod(lambda m, a, x: m.cast(x, a.dtype))
    moves = True
    exact = True
    finite = True

    def infer(self, attrs: CastAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        if attrs.dtype not in DTYPES:
            raise TypeRuleError(f"Cannot cast to '{attrs.dtype}'; known dtypes are {', '.join(DTYPES)}.")
        return (TensorType(required(inputs, 0, "x").shape, DType.of(attrs.dtype)),)

    def reference(self, attrs: CastAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # float16 overflows to inf; NaN to int is undefined
            result = array(inputs, 0).astype(attrs.dtype)
        return (result.astype(np.float64) if result.dtype.kind == "f" else result,)

    def monotone(self, attrs: CastAttrs) -> bool:
        return DType.of(attrs.dtype).is_float

    def identity(self, attrs: CastAttrs) -> bool:
        return True
