"""Outputs made apart: after this pass a node makes each output, and no two are the same value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convc.ir import Graph
from convc.passes.base import Changes, Pass


@dataclass(frozen=True)
class SeparateOutputs(Pass):
    """Copy, by `identity`, each output that is an input, a constant or an earlier output.

    Code generation lets the last node write into the caller's buffer, and so needs a node, and one for each
    buffer.
    """

    name: ClassVar[str] = "separate-outputs"

    def run(self, graph: Graph) -> Changes:
        """Go through the outputs in order."""
        changes = Changes()
        outputs = list(graph.outputs)
        for index, (value, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
            if value.producer is not None and value not in outputs[:index]:
                continue
            origin = () if value.producer is None else value.producer.origin
            node = graph.add("identity", [value], name=name, origin=origin)
            outputs[index] = node.output
            changes.did(node, f"copies %{value.name}, which no node makes for this output alone")
        graph.set_outputs(outputs, graph.output_names)
        return changes
