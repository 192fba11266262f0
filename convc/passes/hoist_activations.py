"""Activations moved before a concatenation, where they join the kernels that make its parts.

    y = relu(concat(conv(a), conv(b)))   ->   y = concat(conv(a) | relu, conv(b) | relu)

Behind the concatenation the activation is a pass over memory of its own; in an epilogue it costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.ir import Graph, Node
from convc.passes.base import Rule, RulePass, absorb_origin
from convc.passes.fuse_epilogues import computes_elementwise, joinable


class ActivationBeforeConcat(Rule[Node]):
    """f(concat(x, y)) = concat(f(x), f(y)) for f elementwise with one operand.

    Each part must be made by a kernel, or elementwise, so that f joins it, and be read by nothing else.
    """

    def match(self, graph: Graph, node: Node) -> Node | None:
        x = node.inputs[0] if node.inputs else None
        if not computes_elementwise(node) or len(node.inputs) != 1 or x is None:
            return None
        return x.producer if x.producer is not None and x.producer.op == "concat" else None

    def check(self, graph: Graph, node: Node, match: Node) -> str:
        if graph.sole_user(match.output) is not node:
            return f"the output of '{match.name}' has other users"
        if match.epilogue or node.epilogue:
            return f"'{(match if match.epilogue else node).name}' has an epilogue"
        if match.output.type.dtype != node.output.type.dtype:
            return f"{node.op} makes {node.output.type.dtype} of {match.output.type.dtype}"
        for value in match.inputs:
            assert value is not None
            if value.producer is None or not joinable(value.producer):
                return f"%{value.name} is not made by a kernel that {node.op} could join"
            if graph.sole_user(value) is not match or match.inputs.count(value) > 1:
                return f"the output of '{value.producer.name}' has other users"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        parts = [
            graph.add(node.op, [value], node.attrs, name=f"{node.name}.{i}", origin=node.origin, before=match)
            for i, value in enumerate(match.inputs)
        ]
        graph.set_inputs(match, [part.output for part in parts])
        graph.replace_uses(node.output, match.output)
        absorb_origin(graph, match, node)
        graph.remove(node)
        return f"{node.op} moved before the concatenation '{match.name}' of {len(parts)} parts"


@dataclass(frozen=True)
class HoistActivations(RulePass):
    """Move elementwise operators before the concatenations that they read."""

    name: ClassVar[str] = "hoist-activations"
    rules = (ActivationBeforeConcat(),)
