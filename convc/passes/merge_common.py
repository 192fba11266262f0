"""Common subexpressions: two nodes that compute the same from the same values become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.ir import Graph, Node
from convc.passes.base import Changes, Pass, absorb_origin


@dataclass(frozen=True)
class MergeCommon(Pass):
    """Operators are pure functions: equal attributes, inputs and epilogues give equal outputs."""

    name: ClassVar[str] = "merge-common"

    def run(self, graph: Graph) -> Changes:
        """One sweep in topological order: readers of merged values become equal in their turn."""
        changes = Changes()
        seen: dict[object, Node] = {}
        for node in graph.nodes:
            types = tuple(v.type for v in node.outputs)
            key = (node.op, repr(node.attrs), node.inputs, node.arity, repr(node.epilogue), types)
            first = seen.setdefault(key, node)
            if first is node:
                continue
            changes.did(node, f"computes the same as '{first.name}', whose result is used instead")
            for old, new in zip(node.outputs, first.outputs, strict=True):
                graph.replace_uses(old, new)
            absorb_origin(graph, first, node)
            graph.remove(node)
        return changes
