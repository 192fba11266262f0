"""Constant folding: what depends on constants alone is computed now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.evaluate import evaluate_node, wide
from convc.ir import Graph, Node, opdef
from convc.passes.base import Changes, Pass


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Evaluate nodes of constant inputs by their references, in float64, and store the results.

    A node whose result is more than `growth_limit` bytes larger than its inputs is left to run time: an
    `expand` of one number should not fill the module with copies of it.
    """

    name: ClassVar[str] = "fold-constants"
    growth_limit: int = 16 << 20

    def run(self, graph: Graph) -> Changes:
        """One sweep in topological order suffices: constants only flow forward."""
        changes = Changes()
        for node in graph.nodes:
            if node.op == "identity" and not node.epilogue:
                continue  # removing identities renames nothing
            arrays = [graph.constant(v) for v in node.inputs]
            if any(a is None and v is not None for a, v in zip(arrays, node.inputs, strict=True)):
                continue
            growth = sum(v.type.nbytes for v in node.outputs) - sum(a.nbytes for a in arrays if a is not None)
            if growth > self.growth_limit:
                changes.refuse(
                    node,
                    f"folding {node.op} would add {growth >> 20} MiB of constants "
                    f"(the limit is {self.growth_limit >> 20} MiB)",
                )
                continue
            self._fold(graph, node)
            changes.did(node, f"{node.op} of constants computed, {node.output.type}")
        return changes

    def _fold(self, graph: Graph, node: Node) -> None:
        arrays = [graph.constant(v) for v in node.inputs]
        if opdef(node.op).rearranges and not node.epilogue:
            # no need to widen weights of hundreds of megabytes where they are only moved
            results = opdef(node.op).reference(node.attrs, arrays)
        else:
            results = evaluate_node(graph, node, [None if a is None else wide(a) for a in arrays])
        with np.errstate(over="ignore"):  # beyond float32 is inf, as it would be at run time
            stored = [
                np.ascontiguousarray(r, v.type.dtype) for r, v in zip(results, node.outputs, strict=True)
            ]
        # ascontiguousarray makes scalars one-dimensional
        graph.fold(node, [s.reshape(v.type.shape) for s, v in zip(stored, node.outputs, strict=True)])
