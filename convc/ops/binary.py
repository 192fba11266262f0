"""Operators on two or three tensors, element by element, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from convc.dtype import DType
from convc.errors import TypeRuleError
from convc.ir.opdef import Attrs, Cost, register
from convc.ir.traits import IntegerUse
from convc.ops.common import broadcast_shapes, must_be, must_broadcast_to, required, same_dtype
from convc.ops.elementwise import Elementwise
from convc.ops.scalar import Formula
from convc.types import TensorType


@dataclass(frozen=True)
class ModAttrs(Attrs):
    """With `fmod` the result has the dividend's sign (C's fmod), else the divisor's (integers only)."""

    fmod: bool = False


class Binary(Elementwise):
    """A function of two numbers of one dtype, the result's unless `result` is set."""

    inputs = (2, 2)
    kind: ClassVar[str]
    result: ClassVar[DType | None]

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        a, b = required(inputs, 0, "a"), required(inputs, 1, "b")
        same_dtype(f"The operands of {self.name}", a, b)
        must_be(self.kind, a)
        if isinstance(attrs, ModAttrs) and not attrs.fmod and a.is_float:
            raise TypeRuleError(f"mod of {a.dtype} operands is defined with fmod only.")
        return (TensorType(broadcast_shapes(a.shape, b.shape), self.result or a.dtype),)


def define(
    name: str,
    formula: Formula,
    *,
    attrs: type[Attrs] = Attrs,
    kind: str = "number",
    result: str = "",
    **traits: Any,
) -> None:
    """Register a binary operator; `kind` of operands as in `must_be`, traits as in `OpDef`."""
    members = {
        "name": name,
        "formula": staticmethod(formula),
        "attrs": attrs,
        "kind": kind,
        "result": DType.of(result) if result else None,
    }
    register(type(name, (Binary,), {"finite": True, **traits, **members, "__module__": __name__}))


define("add", lambda m, a, x, y: x + y, commutative=True, neutral=0.0)
define("sub", lambda m, a, x, y: x - y, neutral=0.0)
define("mul", lambda m, a, x, y: x * y, commutative=True, neutral=1.0, zeroed_by=(0, 1))
define(
    "div",
    lambda m, a, x, y: m.divide(x, y),
    finite=False,
    neutral=1.0,
    integers={1: IntegerUse.DIVISOR},
)
define("max", lambda m, a, x, y: m.maximum(x, y), commutative=True)
define("min", lambda m, a, x, y: m.minimum(x, y), commutative=True)
define(
    "pow",
    lambda m, a, x, y: m.power(x, y),
    finite=False,
    neutral=1.0,
    integers={1: IntegerUse.EXPONENT},
)
define(
    "mod",
    lambda m, a, x, y: m.fmod(x, y) if a.fmod else m.remainder(x, y),
    attrs=ModAttrs,
    finite=False,
    integers={1: IntegerUse.DIVISOR},
)
define("equal", lambda m, a, x, y: m.equal(x, y), kind="any", result="bool", commutative=True)
define("greater", lambda m, a, x, y: x > y, result="bool")
define("less", lambda m, a, x, y: x < y, result="bool")
define("greater_equal", lambda m, a, x, y: x >= y, result="bool")
define("less_equal", lambda m, a, x, y: x <= y, result="bool")
define("and", lambda m, a, x, y: m.logical_and(x, y), kind="bool", commutative=True)
define("or", lambda m, a, x, y: m.logical_or(x, y), kind="bool", commutative=True)
define("xor", lambda m, a, x, y: m.logical_xor(x, y), kind="bool", commutative=True)


@register
class PRelu(Elementwise):
    """Leaky relu with a slope that broadcasts to x (He et al., arXiv 1502.01852, equation 1)."""

    name = "prelu"
    inputs = (2, 2)
    formula = staticmethod(lambda m, a, x, slope: m.where(x < 0, slope * x, x))
    finite = True
    neutral = 1.0

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        x, slope = required(inputs, 0, "x"), required(inputs, 1, "slope")
        same_dtype("Input and slope", x, slope)
        must_be("number", x)
        must_broadcast_to(x.shape, "The slope", slope.shape)
        return (TensorType(x.shape, x.dtype),)

    def cost(self, attrs: Attrs, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        return Cost(parameters=required(inputs, 1, "slope").size, other=outputs[0].size)


@register
class Where(Elementwise):
    """a where the condition holds, else b; all three broadcast."""

    name = "where"
    inputs = (3, 3)
    formula = staticmethod(lambda m, a, condition, yes, no: m.where(condition, yes, no))
    finite = True
    zeroed_by = (0,)

    def infer(self, attrs: Attrs, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        condition, a, b = (required(inputs, i, what) for i, what in enumerate(("condition", "a", "b")))
        must_be("bool", condition)
        same_dtype("The branches of where", a, b)
        return (TensorType(broadcast_shapes(condition.shape, a.shape, b.shape), a.dtype),)
