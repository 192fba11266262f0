"""Padding into the window: an explicit zero border becomes the `pads` of what slides over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.ir import Graph, Node
from convc.ops.common import Pads
from convc.ops.conv import ConvAttrs
from convc.ops.pool import AveragePoolAttrs, MaxPoolAttrs
from convc.ops.shape import PadAttrs
from convc.passes.base import Rule, RulePass, absorb_origin, drop_unused


class PadIntoWindow(Rule[Node]):
    """window(pad(x, p), q) = window(x, p + q), where the border that p writes is the one that q implies.

    A convolution's own padding is zeros, and an lp pool's adds |0|^p to a sum; both take in a border of
    zeros. An average pool divides by the elements that count: explicit zeros do, its own padding only with
    `count_include_pad`, so that either it has none or that flag is set, and it is set afterwards. A pool's
    padding is less than its window. A max pool
    ignores its own padding, while explicit zeros may be the maximum. With `ceil_mode` the extent of the
    output depends on where the border comes from.
    """

    def match(self, graph: Graph, node: Node) -> Node | None:
        if node.op not in ("conv", "average_pool", "max_pool", "lp_pool") or node.inputs[0] is None:
            return None
        before = node.inputs[0].producer
        return before if before is not None and before.op == "pad" else None

    def check(self, graph: Graph, node: Node, match: Node) -> str:
        attrs = match.attrs
        assert isinstance(attrs, PadAttrs)
        which = f"the pad '{match.name}'"
        if match.epilogue:
            return f"{which} has an epilogue"
        if attrs.mode != "constant" or attrs.value != 0:
            found = f"mode {attrs.mode}" if attrs.mode != "constant" else f"value {attrs.value}"
            return f"{which} has {found}; only zeros are implied by a window's padding"
        if any(map(any, attrs.pads[:2])):
            return f"{which} pads the batch or the channels by {attrs.pads[:2]}"
        if min(map(min, attrs.pads)) < 0:
            return f"{which} crops: {attrs.pads}"
        if node.op == "max_pool":
            return f"the zeros of {which} can be a maximum; a max pool's own padding cannot"
        return self._check_pool(node, which, attrs.pads[2:])

    def _check_pool(self, node: Node, which: str, added: Pads) -> str:
        pool = node.attrs
        if not isinstance(pool, MaxPoolAttrs):
            return ""
        if pool.ceil_mode:
            return f"with ceil_mode, {which} decides how many windows there are"
        if isinstance(pool, AveragePoolAttrs) and any(map(any, pool.pads)) and not pool.count_include_pad:
            return f"the zeros of {which} count in the average, those of its own pads {pool.pads} do not"
        spans = [d * (k - 1) for k, d in zip(pool.kernel, pool.dilations, strict=True)]
        if any(max(p) > span for p, span in zip(_sum(pool.pads, added), spans, strict=True)):
            return f"with the zeros {added} of {which}, some windows of a pool would lie outside its input"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        assert isinstance(node.attrs, ConvAttrs | MaxPoolAttrs)
        assert isinstance(match.attrs, PadAttrs)
        added = match.attrs.pads[2:]
        attrs = replace(node.attrs, pads=_sum(node.attrs.pads, added))
        if isinstance(attrs, AveragePoolAttrs):
            attrs = replace(attrs, count_include_pad=True)
        graph.set_attrs(node, attrs)
        graph.set_inputs(node, [match.inputs[0], *node.inputs[1:]])
        absorb_origin(graph, node, match)
        drop_unused(graph, match)
        return f"takes in the zeros {added} of '{match.name}'"


def _sum(first: Pads, second: Pads) -> Pads:
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(first, second, strict=True))


@dataclass(frozen=True)
class FoldPadding(RulePass):
    """Fold constant zero padding into convolutions, average and lp pools."""

    name: ClassVar[str] = "fold-padding"
    rules = (PadIntoWindow(),)
