"""Identities: nodes whose output is their input, at inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from convc.dtype import DType
from convc.ir import Graph, Node, Value, opdef
from convc.ops.shape import ReshapeAttrs, TransposeAttrs
from convc.passes.base import Rule, RulePass, absorb_origin, drop_unused


class Identity(Rule[Value]):
    """y = x: readers of y read x.

    That the types are equal makes reshape, cast, expand, tile and concatenation (of one) the identity; others
    tell by their attributes (`OpDef.identity`). The neutral elements: x + 0 = x - 0 = x * 1 = x / 1 = x ** 1
    = x. An idempotent operator, such as relu, is the identity on its own results.
    """

    def match(self, graph: Graph, node: Node) -> Value | None:
        if node.epilogue or len(node.outputs) != 1:
            return None
        op = opdef(node.op)
        if (
            op.elementwise
            and op.moves
            and node.inputs[0] is not None
            and node.inputs[0].type == node.output.type
        ):
            return node.inputs[0]
        computed = [v for v in node.inputs if v is not None and graph.constant(v) is None]
        if len(computed) != 1 or computed[0].type != node.output.type:
            return None
        if len(node.inputs) == 1 and (op.identity(node.attrs) or _repeats(node)):
            return computed[0]
        return computed[0] if self._neutral(graph, node, computed[0]) else None

    def _neutral(self, graph: Graph, node: Node, x: Value) -> bool:
        op = opdef(node.op)
        if op.neutral is None or (node.inputs[0] is not x and not op.commutative):
            return False
        (other,) = (graph.constant(v) for v in node.inputs if v is not x)
        return other is not None and bool((other == op.neutral).all())

    def rewrite(self, graph: Graph, node: Node, match: Value) -> str:
        graph.replace_uses(node.output, match)
        if match.producer is not None:
            absorb_origin(graph, match.producer, node)
        graph.remove(node)
        return f"{node.op} removed: it returns %{match.name} as it is"


class ReshapeOfReshape(Rule[Node]):
    """reshape(reshape(x, a), b) = reshape(x, b): both keep the row-major order."""

    def match(self, graph: Graph, node: Node) -> Node | None:
        return _same_op_before(node, "reshape")

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        assert isinstance(node.attrs, ReshapeAttrs)
        return _skip(graph, node, match)


class TransposeOfTranspose(Rule[Node]):
    """transpose(transpose(x, p), q) = transpose(x, p[q]): axis i of the result is axis q[i] of the middle."""

    def match(self, graph: Graph, node: Node) -> Node | None:
        return _same_op_before(node, "transpose")

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        assert isinstance(node.attrs, TransposeAttrs)
        assert isinstance(match.attrs, TransposeAttrs)
        graph.set_attrs(node, replace(node.attrs, perm=tuple(match.attrs.perm[q] for q in node.attrs.perm)))
        return _skip(graph, node, match)


class CastOfCast(Rule[Node]):
    """cast(cast(x, wide), dtype) = cast(x, dtype), where `wide` has every number of x's dtype."""

    def match(self, graph: Graph, node: Node) -> Node | None:
        return _same_op_before(node, "cast")

    def check(self, graph: Graph, node: Node, match: Node) -> str:
        (x,) = match.inputs
        assert x is not None
        if _holds_all(x.type.dtype, match.output.type.dtype):
            return ""
        return f"{match.output.type.dtype} does not have every number of {x.type.dtype}"

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        return _skip(graph, node, match)


def _holds_all(narrow: str, wide: str) -> bool:
    """Whether each number of a dtype is one of another. NumPy takes 64-bit integers to float64 for safe."""
    exact = narrow not in ("int64", "uint64") or narrow == wide
    return exact and bool(np.can_cast(DType.of(narrow).numpy, DType.of(wide).numpy, "safe"))


def _repeats(node: Node) -> bool:
    """Whether an idempotent operator is applied to its own result."""
    before = _same_op_before(node, node.op)
    return before is not None and opdef(node.op).idempotent and before.attrs == node.attrs


def _same_op_before(node: Node, op: str) -> Node | None:
    before = node.inputs[0].producer if node.op == op and node.inputs[0] is not None else None
    return before if before is not None and before.op == op and not before.epilogue else None


def _skip(graph: Graph, node: Node, before: Node) -> str:
    """Let `node` read the input of `before`."""
    graph.set_inputs(node, [before.inputs[0], *node.inputs[1:]])
    absorb_origin(graph, node, before)
    drop_unused(graph, before)
    return f"{node.op} takes in the {before.op} '{before.name}' before it"


@dataclass(frozen=True)
class RemoveIdentities(RulePass):
    """Remove dropout, identities, movements of nothing; merge successive reshapes, transposes, casts."""

    name: ClassVar[str] = "remove-identities"
    rules = (Identity(), ReshapeOfReshape(), TransposeOfTranspose(), CastOfCast())
