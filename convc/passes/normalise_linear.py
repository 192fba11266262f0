"""Fully connected layers in one form: `gemm` with plain alpha and beta."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node
from convc.ops.linear import GemmAttrs
from convc.passes.base import Rule, RulePass, replace_constant


class MatmulToGemm(Rule[bool]):
    """A (M, K) times constant B (K, N) is the fully connected layer gemm(A, B), which can take a bias."""

    def match(self, graph: Graph, node: Node) -> bool | None:
        if node.op != "matmul" or node.epilogue or not node.output.type.is_float:
            return None
        a, b = node.inputs
        assert a is not None
        assert b is not None
        weights = graph.constant(b) is not None and graph.constant(a) is None
        return True if weights and a.type.rank == b.type.rank == 2 else None

    def rewrite(self, graph: Graph, node: Node, match: bool) -> str:
        graph.become(node, "gemm", node.inputs)
        return "matmul with constant weights becomes gemm"


class ScaleIntoOperand(Rule[list[int]]):
    """alpha * A B + beta * C = A (alpha * B) + (beta * C), for constant B and C."""

    def match(self, graph: Graph, node: Node) -> list[int] | None:
        if not isinstance(node.attrs, GemmAttrs):
            return None
        has_c = node.arity > 2 and node.inputs[2] is not None
        scaled = [1] if node.attrs.alpha != 1 else []
        scaled += [2] if node.attrs.beta != 1 and has_c else []
        return scaled or ([] if node.attrs.beta != 1 else None)

    def check(self, graph: Graph, node: Node, match: list[int]) -> str:
        computed = [i for i in match if graph.constant(node.inputs[i]) is None]
        names = " and ".join(f"operand {'abc'[i]}" for i in computed)
        return f"alpha or beta cannot be folded: {names} is computed at run time" if computed else ""

    def rewrite(self, graph: Graph, node: Node, match: list[int]) -> str:
        assert isinstance(node.attrs, GemmAttrs)
        for index in match:
            array = graph.constant(node.inputs[index])
            assert array is not None
            factor = node.attrs.alpha if index == 1 else node.attrs.beta
            replace_constant(graph, node, index, array.astype(np.float64) * factor)
        text = f"alpha {node.attrs.alpha} and beta {node.attrs.beta} folded into the operands"
        graph.set_attrs(node, replace(node.attrs, alpha=1.0, beta=1.0))
        return text


@dataclass(frozen=True)
class NormaliseLinear(RulePass):
    """Turn matrix products by constant weights into gemm, and fold its factors into the weights."""

    name: ClassVar[str] = "normalise-linear"
    rules = (MatmulToGemm(), ScaleIntoOperand())
