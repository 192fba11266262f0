"""Elementwise operators as TE expressions: their formulas, for epilogues and for kernels of their own."""

from __future__ import annotations

from typing import Any

from convc.dtype import FLOAT16, FLOAT32
from convc.ir import Attrs, opdef
from convc.lowering.functions import dtype_of, let
from convc.lowering.terms import TERMS, Term

Expr = Any


def elementwise(op: str, attrs: Attrs, *operands: Expr) -> Expr:
    """The value of an elementwise operator at one point; functions of float16 are computed in float32."""
    if dtype_of(operands[0]) == FLOAT16 and len(operands) == 1 and not opdef(op).exact:
        return _bound(op, attrs, [operands[0].astype(FLOAT32)], []).astype(FLOAT16)
    return _bound(op, attrs, operands, [])


def _bound(op: str, attrs: Attrs, waiting: Any, bound: list[Term]) -> Expr:
    """The formula of operands that are variables, so that each is computed once."""
    if not waiting:
        formula = opdef(op).formula
        assert formula is not None, op
        return formula(TERMS, attrs, *bound).expr
    first, *rest = waiting
    return let(first, lambda t: _bound(op, attrs, rest, [*bound, Term(t)]))
