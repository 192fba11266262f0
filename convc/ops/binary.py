"""Operators on two or three tensors, element by element, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from convc.errors import TypeRuleError
from convc.ir.opdef import Attrs, Cost, OpDef, register
from convc.ir.traits import IntegerUse
from convc.ops.common import array, broadcast_shapes, must_be, must_broadcast_to, required, same_dtype
from convc.types import Array, TensorType


@dataclass(frozen=True)
class ModAttrs(Attrs):
    """With `fmod` the result has the dividend's sign (C's fmod), else the divisor's (integers only)."""

    fmod: bool = False


class Binary(OpDef[Attrs]):
    """An operator given by a NumPy formula on operands of one dtype, the result's unless `result` is set."""

    inputs = (2, 2)
    elementwise = True
    kind: ClassVar[str]
    formula: ClassVar[Callable[[Any, Array, Array], Array]]
    result: ClassVar[str]

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        a, b = required(inputs, 0, "a"), required(inputs, 1, "b")
        same_dtype(f"The operands of {self.name}", a, b)
        must_be(self.kind, a)
        if isinstance(attrs, ModAttrs) and not attrs.fmod and a.is_float:
            raise TypeRuleError(f"mod of {a.dtype} operands is defined with fmod only.")
        return (TensorType(broadcast_shapes(a.shape, b.shape), self.result or a.dtype),)

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):  # x / 0 and the like are inf or NaN by definition
            return (np.asarray(type(self).formula(attrs, array(inputs, 0), array(inputs, 1))),)


def define(
    name: str,
    formula: Callable[[Any, Array, Array], Array],
    *,
    attrs: type[Attrs] = Attrs,
    kind: str = "number",
    result: str = "",
    **traits: Any,
) -> None:
    """Register a binary operator; `kind` of operands as in `must_be`, traits as in `OpDef`."""
    members = {"name": name, "formula": staticmethod(formula), "attrs": attrs, "kind": kind, "result": result}
    register(type(name, (Binary,), {"finite": True, **traits, **members, "__module__": __name__}))


def divide(a: Array, b: Array) -> Array:
    """a / b; of integers toward zero, so that (a / b) * b + fmod(a, b) == a."""
    return np.asarray(a / b if a.dtype.kind == "f" else (a - np.fmod(a, b)) // b)


def power(a: Array, b: Array) -> Array:
    """a ** b; of integers toward zero, by way of float64 where an exponent is negative."""
    if a.dtype.kind != "f" and (b < 0).any():
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.asarray(np.power(a, b))


define("add", lambda _, a, b: a + b, commutative=True, neutral=0.0)
define("sub", lambda _, a, b: a - b, neutral=0.0)
define("mul", lambda _, a, b: a * b, commutative=True, neutral=1.0, zeroed_by=(0, 1))
define("div", lambda _, a, b: divide(a, b), finite=False, neutral=1.0, integers={1: IntegerUse.DIVISOR})
define("max", lambda _, a, b: np.maximum(a, b), commutative=True)
define("min", lambda _, a, b: np.minimum(a, b), commutative=True)
define("pow", lambda _, a, b: power(a, b), finite=False, neutral=1.0, integers={1: IntegerUse.EXPONENT})
define(
    "mod",
    lambda attrs, a, b: np.fmod(a, b) if attrs.fmod else np.mod(a, b),
    attrs=ModAttrs,
    finite=False,
    integers={1: IntegerUse.DIVISOR},
)
define("equal", lambda _, a, b: a == b, kind="any", result="bool", commutative=True)
define("greater", lambda _, a, b: a > b, result="bool")
define("less", lambda _, a, b: a < b, result="bool")
define("greater_equal", lambda _, a, b: a >= b, result="bool")
define("less_equal", lambda _, a, b: a <= b, result="bool")
define("and", lambda _, a, b: a & b, kind="bool", commutative=True)
define("or", lambda _, a, b: a | b, kind="bool", commutative=True)
define("xor", lambda _, a, b: a ^ b, kind="bool", commutative=True)


@register
class PRelu(OpDef[Attrs]):
    """Leaky relu with a slope that broadcasts to x (He et al., arXiv 1502.01852, equation 1)."""

    name = "prelu"
    inputs = (2, 2)
    elementwise = True
    finite = True
    neutral = 1.0

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, slope = required(inputs, 0, "x"), required(inputs, 1, "slope")
        same_dtype("Input and slope", x, slope)
        must_be("number", x)
        must_broadcast_to(x.shape, "The slope", slope.shape)
        return (TensorType(x.shape, x.dtype),)

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        x, slope = array(inputs, 0), array(inputs, 1)
        return (np.where(x < 0, slope * x, x),)

    def cost(self, attrs: Attrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        return Cost(parameters=required(inputs, 1, "slope").size, other=outputs[0].size)


@register
class Where(OpDef[Attrs]):
    """a where the condition holds, else b; all three broadcast."""

    name = "where"
    inputs = (3, 3)
    elementwise = True
    finite = True
    zeroed_by = (0,)

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        condition, a, b = (required(inputs, i, what) for i, what in enumerate(("condition", "a", "b")))
        must_be("bool", condition)
        same_dtype("The branches of where", a, b)
        return (TensorType(broadcast_shapes(condition.shape, a.shape, b.shape), a.dtype),)

    def reference(self, attrs: Attrs, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        return (np.where(array(inputs, 0), array(inputs, 1), array(inputs, 2)),)
