"""Dead code: nodes and constants that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.ir import Graph
from convc.passes.base import Change, Changes, Pass


@dataclass(frozen=True)
class RemoveDeadCode(Pass):
    """Remove nodes without readers, last first, and then constants without readers. Inputs stay."""

    name: ClassVar[str] = "remove-dead-code"

    def run(self, graph: Graph) -> Changes:
        """Walk backwards: by the time that a node is reached, its dead readers are gone."""
        changes = Changes()
        for node in reversed(graph.nodes):
            if not any(graph.users(v) or graph.is_output(v) for v in node.outputs):
                changes.did(node, f"{node.op} removed: nothing depends on it")
                graph.remove(node)
        for value in graph.constants:
            if not graph.users(value) and not graph.is_output(value):
                changes.made.append(Change(value.name, f"constant {value.type} removed: nothing reads it"))
                graph.remove_constant(value)
        return changes
