"""Batch normalisation that no linear layer took in becomes a product and a sum, which fuse further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node
from convc.passes.affine import Affine, affine_of
from convc.passes.base import Rule, RulePass


class BatchNormToMulAdd(Rule[Affine]):
    """(x - mean) * f + bias = f * x + (bias - f * mean), where f = scale / sqrt(variance + epsilon).

    The factors are constants (1, C, 1, ...).
    """

    def match(self, graph: Graph, node: Node) -> Affine | None:
        return affine_of(graph, node) if node.op == "batch_norm" else None

    def check(self, graph: Graph, node: Node, match: Affine) -> str:
        return "" if match.finite else "its factors are not all finite"

    def rewrite(self, graph: Graph, node: Node, match: Affine) -> str:
        kind = node.output.type
        shape = (1, -1, *[1] * (kind.rank - 2))
        name = node.name
        scale = graph.add_constant(f"{name}.scale", match.scale.astype(kind.dtype).reshape(shape))
        shift = graph.add_constant(f"{name}.shift", match.shift.astype(kind.dtype).reshape(shape))
        graph.rename(node, f"{name}.add")
        product = graph.add(
            "mul", [match.x, scale], name=name, origin=node.origin, output_names=[f"{name}.mul"], before=node
        )
        graph.become(node, "add", [product.output, shift])
        return f"batch_norm becomes a product and a sum over {np.size(match.scale)} channels"


@dataclass(frozen=True)
class LowerBatchNorm(RulePass):
    """Split batch normalisation with constant statistics into elementwise operators."""

    name: ClassVar[str] = "lower-batch-norm"
    rules = (BatchNormToMulAdd(),)
