"""The formulas of elementwise operators against NumPy's own functions and textbook definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import CASES

from convc.ir.opdef import REGISTRY, opdef
from convc.ops.binary import ModAttrs
from convc.ops.elementwise import elementwise_names
from convc.types import Array

Definition = Callable[..., Any]
ERF = np.vectorize(math.erf, otypes=[np.float64])


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(a: Any, x: Array) -> Array:
    if a.approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + ERF(x / math.sqrt(2)))


UNARY: dict[str, Definition] = {
    "abs": lambda a, x: np.abs(x),
    "acos": lambda a, x: np.arccos(x),
    "acosh": lambda a, x: np.arccosh(x),
    "asin": lambda a, x: np.arcsin(x),
    "asinh": lambda a, x: np.arcsinh(x),
    "atan": lambda a, x: np.arctan(x),
    "atanh": lambda a, x: np.arctanh(x),
    "cast": lambda a, x: x.astype(a.dtype),
    "ceil": lambda a, x: np.ceil(x),
    "celu": lambda a, x: np.maximum(x, 0) + np.minimum(a.alpha * np.expm1(x / a.alpha), 0),
    "clip": lambda a, x: np.minimum(np.maximum(x, a.min), a.max),
    "cos": lambda a, x: np.cos(x),
    "cosh": lambda a, x: np.cosh(x),
    "dropout": lambda a, x: x,
    "elu": lambda a, x: np.where(x < 0, a.alpha * np.expm1(x), x),
    "erf": lambda a, x: ERF(x),
    "exp": lambda a, x: np.exp(x),
    "floor": lambda a, x: np.floor(x),
    "gelu": gelu,
    "hard_sigmoid": lambda a, x: np.clip(a.alpha * x + a.beta, 0, 1),
    "hard_swish": lambda a, x: x * np.clip(x / 6 + 0.5, 0, 1),
    "identity": lambda a, x: x,
    "isnan": lambda a, x: x != x,
    "leaky_relu": lambda a, x: np.where(x < 0, a.alpha * x, x),
    "log": lambda a, x: np.log(x),
    "mish": lambda a, x: x * np.tanh(np.log1p(np.exp(x))),
    "neg": lambda a, x: np.negative(x),
    "reciprocal": lambda a, x: np.reciprocal(x),
    "relu": lambda a, x: np.maximum(x, 0),
    "round": lambda a, x: np.round(x),
    "selu": lambda a, x: a.gamma * np.where(x < 0, a.alpha * (np.exp(x) - 1), x),
    "shrink": lambda a, x: np.select([x < -a.lambd, x > a.lambd], [x + a.bias, x - a.bias], 0 * x),
    "sigmoid": lambda a, x: logistic(x),
    "sign": lambda a, x: np.sign(x),
    "sin": lambda a, x: np.sin(x),
    "sinh": lambda a, x: np.sinh(x),
    "softplus": lambda a, x: np.logaddexp(0, x),
    "softsign": lambda a, x: x / (1 + np.abs(x)),
    "sqrt": lambda a, x: np.sqrt(x),
    "swish": lambda a, x: x * logistic(a.alpha * x),
    "tan": lambda a, x: np.tan(x),
    "tanh": lambda a, x: np.tanh(x),
    "thresholded_relu": lambda a, x: np.where(x > a.alpha, x, 0),
}
LOGICAL: dict[str, Definition] = {
    "not": lambda a, x: ~x,
    "and": lambda a, x, y: x & y,
    "or": lambda a, x, y: x | y,
    "xor": lambda a, x, y: x != y,
}
BINARY: dict[str, Definition] = {
    "add": lambda a, x, y: np.add(x, y),
    "sub": lambda a, x, y: np.subtract(x, y),
    "mul": lambda a, x, y: np.multiply(x, y),
    "div": lambda a, x, y: np.divide(x, y),
    "max": lambda a, x, y: np.maximum(x, y),
    "min": lambda a, x, y: np.minimum(x, y),
    "pow": lambda a, x, y: np.power(x, y),
    "mod": lambda a, x, y: x - y * np.trunc(x / y),
    "equal": lambda a, x, y: np.equal(x, y),
    "greater": lambda a, x, y: np.greater(x, y),
    "less": lambda a, x, y: np.less(x, y),
    "greater_equal": lambda a, x, y: np.greater_equal(x, y),
    "less_equal": lambda a, x, y: np.less_equal(x, y),
    "prelu": lambda a, x, y: np.where(x < 0, x * y, x),
}
INTEGERS: dict[str, Definition] = {
    "abs": lambda a, x: abs(x),
    "sign": lambda a, x: (x > 0) - (x < 0),
    "relu": lambda a, x: max(x, 0),
    "neg": lambda a, x: -x,
    "div": lambda a, x, y: int(x / y),
    "mod": lambda a, x, y: math.fmod(x, y) if a.fmod else x % y,
    "max": lambda a, x, y: max(x, y),
    "min": lambda a, x, y: min(x, y),
}
NUMBERS = np.concatenate([np.linspace(-6, 6, 97), np.geomspace(1e-9, 20, 40), -np.geomspace(1e-9, 20, 40)])


def attributes(op: str) -> list[Any]:
    """Those that the case table has for an operator of floating-point numbers."""
    found = [case.attrs for case in CASES if case.op == op and not (op == "mod" and not case.attrs.fmod)]
    return list(dict.fromkeys(found))


def reference(op: str, attrs: Any, *arrays: Array) -> Array:
    return opdef(op).reference(attrs, list(arrays))[0]


def test_every_operator_has_a_definition() -> None:
    assert {*UNARY, *BINARY, *LOGICAL, "where"} == {name for name, op in REGISTRY.items() if op.elementwise}
    assert {*elementwise_names(1)} == {*UNARY, "not"}
    assert elementwise_names(3) == ["where"]


@pytest.mark.parametrize("op", UNARY)
def test_functions_of_a_number(op: str) -> None:
    """Within a few units in the last place of what the definition itself loses."""
    for attrs in attributes(op):
        with np.errstate(all="ignore"):
            expected = np.asarray(UNARY[op](attrs, NUMBERS))
        found = reference(op, attrs, NUMBERS)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14, err_msg=f"{op} {attrs}")


@pytest.mark.parametrize("op", BINARY)
def test_functions_of_two_numbers(op: str) -> None:
    x, y = np.meshgrid(NUMBERS[::3], NUMBERS[1::3])
    for attrs in attributes(op):
        with np.errstate(all="ignore"):
            expected = np.asarray(BINARY[op](attrs, x, y))
        # x - y trunc(x / y) loses as much as the quotient is large
        atol = 1e-14 if op != "mod" else 1e-15 * np.abs(x / y).max()
        np.testing.assert_allclose(reference(op, attrs, x, y), expected, rtol=1e-12, atol=atol)


@pytest.mark.parametrize("op", LOGICAL)
def test_functions_of_truth_values(op: str) -> None:
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    operands = [x, y][: opdef(op).inputs[0]]
    for attrs in attributes(op):
        np.testing.assert_array_equal(reference(op, attrs, *operands), LOGICAL[op](attrs, *operands))


def test_a_choice_takes_one_of_two() -> None:
    condition, x, y = np.array([True, False]), np.array([1.0, 2.0]), np.array([3.0, 4.0])
    (attrs, *_) = attributes("where")
    assert reference("where", attrs, condition, x, y).tolist() == [1, 4]


@pytest.mark.parametrize("op", INTEGERS)
def test_functions_of_integers(op: str) -> None:
    values = np.array([-7, -2, -1, 1, 3, 6], np.int32)
    operands = np.meshgrid(values, values)[: opdef(op).inputs[0]]
    for attrs in (ModAttrs(False), ModAttrs(True)) if op == "mod" else attributes(op)[:1]:
        found = reference(op, attrs, *operands)
        expected = [
            INTEGERS[op](attrs, *(int(v) for v in row)) for row in zip(*map(np.ravel, operands), strict=True)
        ]
        assert found.ravel().tolist() == expected
        assert found.dtype == np.int32
