"""Operators on one tensor, element by element: activations, rounding, elementary functions, casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.opdef import Attrs, OpDef, register
from convc.ir.traits import Affine
from convc.ops.common import array, must_be, required
from convc.types import DTYPES, Array, TensorType


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


class Unary(OpDef[Attrs]):
    """A NumPy formula. The output has the input's shape, and its dtype unless `result`."""

    elementwise = True
    kind: ClassVar[str]
    formula: ClassVar[Callable[[Any, Array], Array]]
    result: ClassVar[str]

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x = required(inputs, 0, "x")
        must_be(self.kind, x)
        return (TensorType(x.shape, self.result or x.dtype),)

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):  # log(-1) and the like are NaN by definition
            return (np.asarray(type(self).formula(attrs, array(inputs, 0))),)


Condition = Callable[[Any], bool]
"""Something that depends on the attributes."""


def define(
    name: str,
    formula: Callable[[Any, Array], Array],
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
        "result": result, "finite": finite, "monotone": _method(monotone), "identity": _method(identity),
        "passes": lambda self, attrs: passes, "__module__": __name__,
    }  # fmt: skip
    if kind == "float":  # most are functions: the argument's reduction, a polynomial, the result's scale
        members["instructions"] = 32
    register(type(name, (Unary,), members))


def _method(told: bool | Condition) -> Callable[[Any, Any], bool]:
    return (lambda self, attrs: told) if isinstance(told, bool) else (lambda self, attrs: told(attrs))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


def softplus(x: Array) -> Array:
    """log(1 + e^x), without overflow."""
    return np.asarray(np.logaddexp(0, x))


def erf(x: Array) -> Array:
    """The error function, which NumPy lacks."""
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def gelu(attrs: GeluAttrs, x: Array) -> Array:
    """x times the normal distribution function of x."""
    if attrs.approximate == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))


def shrink(attrs: ShrinkAttrs, x: Array) -> Array:
    """Soft (bias = lambd) or hard (bias = 0) shrinkage."""
    return np.asarray(
        np.where(x > attrs.lambd, x - attrs.bias, np.where(x < -attrs.lambd, x + attrs.bias, 0))
    )


def clip(attrs: ClipAttrs, x: Array) -> Array:
    """Limit to [min, max]; for integers the limits are first brought into the range of their dtype."""
    low, high = attrs.min, attrs.max
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        low = info.min if low <= info.min else min(math.ceil(low), info.max)
        high = info.max if high >= info.max else max(math.floor(high), info.min)
    return np.asarray(np.minimum(np.maximum(x, x.dtype.type(low)), x.dtype.type(high)))


for _name, _function in {
    "floor": np.floor, "ceil": np.ceil,
    "round": np.rint,  # halves to even, as ONNX asks
}.items():  # fmt: skip
    define(_name, lambda a, x, f=_function: f(x), finite=True, monotone=True, exact=True, idempotent=True)  # type: ignore[misc]
for _name, _function in {
    "atan": np.arctan, "tanh": np.tanh, "asinh": np.arcsinh,
}.items():  # fmt: skip
    define(_name, lambda a, x, f=_function: f(x), finite=True, monotone=True)  # type: ignore[misc]
for _name, _function in {"sin": np.sin, "cos": np.cos, "tan": np.tan}.items():
    define(_name, lambda a, x, f=_function: f(x), finite=True, monotone=False)  # type: ignore[misc]
# These leave float32's range, or are NaN or infinite outside of their domain, which the lanes beyond the
# channels need not respect.
for _name, _function in {"exp": np.exp, "sinh": np.sinh}.items():
    define(_name, lambda a, x, f=_function: f(x), finite=False, monotone=True)  # type: ignore[misc]
for _name, _function in {
    "log": np.log, "sqrt": np.sqrt, "asin": np.arcsin, "acosh": np.arccosh, "atanh": np.arctanh,
    "acos": np.arccos, "cosh": np.cosh, "reciprocal": np.reciprocal,
}.items():  # fmt: skip
    define(_name, lambda a, x, f=_function: f(x), finite=False, monotone=False)  # type: ignore[misc]

define("erf", lambda a, x: erf(x), finite=True, monotone=True)
define("sigmoid", lambda a, x: sigmoid(x), finite=True, monotone=True)
define("softplus", lambda a, x: softplus(x), finite=True, monotone=True)
define("softsign", lambda a, x: x / (1 + np.abs(x)), finite=True, monotone=True)
define("hard_swish", lambda a, x: x * np.clip(x / 6 + 0.5, 0, 1), finite=True, monotone=False)
define("mish", lambda a, x: x * np.tanh(softplus(x)), finite=True, monotone=False)
define(
    "hard_sigmoid",
    lambda a, x: np.clip(a.alpha * x + a.beta, 0, 1),
    attrs=HardSigmoidAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0,
)
define(
    "leaky_relu",
    lambda a, x: np.where(x < 0, a.alpha * x, x),
    attrs=LeakyReluAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0,
    passes=Affine.SCALE,
)
define(
    "elu",
    lambda a, x: np.where(x < 0, a.alpha * np.expm1(x), x),
    attrs=AlphaAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0,
)
define(
    "celu",
    lambda a, x: np.maximum(x, 0) + np.minimum(a.alpha * np.expm1(x / a.alpha), 0),
    attrs=AlphaAttrs,
    finite=True,
    monotone=lambda a: a.alpha > 0,
)
define(
    "thresholded_relu",
    lambda a, x: np.where(x > a.alpha, x, 0),
    attrs=AlphaAttrs,
    finite=True,
    idempotent=True,
    monotone=False,  # NaN becomes 0
)
define(
    "selu",
    lambda a, x: a.gamma * np.where(x < 0, a.alpha * np.expm1(x), x),
    attrs=SeluAttrs,
    finite=True,
    monotone=lambda a: a.alpha >= 0 and a.gamma >= 0,
)
define("swish", lambda a, x: x * sigmoid(a.alpha * x), attrs=SwishAttrs, finite=True, monotone=False)
define("gelu", gelu, attrs=GeluAttrs, finite=True, monotone=False)
define("isnan", lambda a, x: np.isnan(x), result="bool", finite=True, monotone=False, exact=True)
define(
    "relu",
    lambda a, x: np.maximum(x, x.dtype.type(0)),
    kind="number",
    finite=True,
    monotone=True,
    passes=Affine.SCALE,
    exact=True,
    idempotent=True,
)
define(
    "abs",
    lambda a, x: np.abs(x),
    kind="number",
    finite=True,
    monotone=False,
    passes=Affine.SCALE,
    exact=True,
    idempotent=True,
)
define(
    "neg",
    lambda a, x: np.negative(x),
    kind="number",
    finite=True,
    monotone=False,
    passes=Affine.SCALE | Affine.NEGATIVE,
    exact=True,
)
define(
    "sign", lambda a, x: np.sign(x), kind="number", finite=True, monotone=True, exact=True, idempotent=True
)
define(
    "shrink",
    shrink,
    attrs=ShrinkAttrs,
    finite=True,
    monotone=False,  # NaN becomes 0
)
define(
    "clip",
    clip,
    attrs=ClipAttrs,
    kind="number",
    finite=True,
    monotone=True,
    identity=lambda a: a.min == -math.inf and a.max == math.inf,
)
define("not", lambda a, x: np.logical_not(x), kind="bool", finite=True, monotone=False, exact=True)
for _name in ("identity", "dropout"):
    define(
        _name,
        lambda a, x: x,
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
    elementwise = True
    moves = True
    exact = True
    finite = True

    def infer(self, attrs: CastAttrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        if attrs.dtype not in DTYPES:
            raise TypeRuleError(f"Cannot cast to '{attrs.dtype}'; known dtypes are {', '.join(DTYPES)}.")
        return (TensorType(required(inputs, 0, "x").shape, attrs.dtype),)

    def reference(self, attrs: CastAttrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # float16 overflows to inf; NaN to int is undefined
            result = array(inputs, 0).astype(attrs.dtype)
        return (result.astype(np.float64) if result.dtype.kind == "f" else result,)

    def monotone(self, attrs: CastAttrs) -> bool:
        return attrs.dtype not in ("bool", "int64", "uint64") and not attrs.dtype.startswith(("int", "uint"))

    def identity(self, attrs: CastAttrs) -> bool:
        return True
