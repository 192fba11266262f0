"""Elementwise operators as TE expressions: one formula each, used by epilogues and by elementwise kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from convc.ir import Attrs

Expr = Any


def constant(value: float, like: Expr) -> Expr:
    """`value` in the dtype of `like`."""
    return tirx.const(value, str(like.dtype))


UNARY: dict[str, Callable[[Any, Expr], Expr]] = {
    "relu": lambda a, x: te.max(x, constant(0, x)),
    "clip": lambda a, x: te.min(te.max(x, constant(a.min, x)), constant(a.max, x)),
}

BINARY: dict[str, Callable[[Any, Expr, Expr], Expr]] = {
    "add": lambda a, x, y: x + y,
    "sub": lambda a, x, y: x - y,
    "mul": lambda a, x, y: x * y,
    "div": lambda a, x, y: x / y,
    "max": lambda a, x, y: te.max(x, y),
    "min": lambda a, x, y: te.min(x, y),
}


def unary(op: str, attrs: Attrs, x: Expr) -> Expr:
    """The value of a unary operator at one point."""
    return UNARY[op](attrs, x)


def binary(op: str, attrs: Attrs, x: Expr, y: Expr) -> Expr:
    """The value of a binary operator at one point."""
    return BINARY[op](attrs, x, y)
