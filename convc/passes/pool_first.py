"""Pooling before a pointwise convolution instead of after it: the same numbers, fewer products.

DenseNet's transitions end in a 1x1 convolution and a 2x2 average pool (Huang et al., arXiv 1608.06993,
section 3): pooled first, the convolution has a quarter of the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from convc.ir import Graph, Node
from convc.ops.conv import ConvAttrs
from convc.ops.pool import AveragePoolAttrs
from convc.passes.base import Rule, RulePass


class PoolBeforePointwise(Rule[Node]):
    """mean(W x + b) = W mean(x) + b: both are linear, one over channels, the other over pixels.

    The means of b are b as long as every element that counts is an element of W x + b; where zeros of the
    pool's own padding count, b must be absent.
    """

    def match(self, graph: Graph, node: Node) -> Node | None:
        x = node.inputs[0]
        if node.op != "average_pool" or x is None or x.producer is None or x.producer.op != "conv":
            return None
        conv = x.producer
        assert isinstance(conv.attrs, ConvAttrs)
        weights = conv.inputs[1]
        assert weights is not None
        padded = any(map(any, conv.attrs.pads))
        pointwise = math.prod(weights.type.shape[2:]) == 1 and set(conv.attrs.strides) == {1} and not padded
        return conv if pointwise else None

    def check(self, graph: Graph, node: Node, match: Node) -> str:
        attrs = node.attrs
        assert isinstance(attrs, AveragePoolAttrs)
        weights = match.inputs[1]
        assert weights is not None
        if match.epilogue:
            return f"'{match.name}' has an epilogue, which need not be linear"
        if graph.sole_user(match.output) is not node:
            return f"the output of '{match.name}' has other users"
        bias = match.arity > 2 and match.inputs[2] is not None
        if bias and attrs.count_include_pad and (attrs.ceil_mode or any(map(any, attrs.pads))):
            return f"zeros of its padding count in the average, beside the bias of '{match.name}'"
        before, after = match.output.type, node.output.type
        saved = (before.size - after.size) * math.prod(weights.type.shape[1:])
        channels = match.inputs[0].type.shape[1] if match.inputs[0] is not None else 0
        added = (channels - after.shape[1]) * (after.size // after.shape[1]) * math.prod(attrs.kernel)
        if saved <= added:
            return f"pooling '{match.name}' first would save {saved} products and cost {added} sums"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        pool = graph.add("average_pool", match.inputs[:1], node.attrs, origin=node.origin, before=node)
        conv = graph.add(
            "conv", [pool.output, *match.inputs[1:]], match.attrs, origin=match.origin, before=node
        )
        for step in node.epilogue:
            operand = None if step.operand is None else node.inputs[step.operand]
            graph.append_step(conv, step, operand, ())
        graph.replace_uses(node.output, conv.output)
        for old, new in ((node, pool), (match, conv)):
            graph.remove(old)
            graph.rename(new, old.name)
        return f"pools the input of '{match.name}' instead of its output"


@dataclass(frozen=True)
class PoolFirst(RulePass):
    """Exchange a pointwise convolution and the average pool after it where that saves work."""

    name: ClassVar[str] = "pool-first"
    rules = (PoolBeforePointwise(),)
