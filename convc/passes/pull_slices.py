"""Slices of a convolution's result pulled into it: what is cut away is not computed.

y[:, a:b:c, d::s] = conv(x)     channels a:b:c of the weights and the bias, and s times the stride
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.ir import Graph, Node
from convc.ops.common import Pads
from convc.ops.conv import ConvAttrs
from convc.ops.parts import SliceAttrs
from convc.passes.base import Rule, RulePass, absorb_origin, replace_constant
from convc.passes.fold_affine import obstacle
from convc.passes.fuse_epilogues import computes_elementwise
from convc.passes.windows import keep_windows

Chain = list[Node]
"""A convolution and the elementwise nodes after it, in order."""


class SliceIntoConv(Rule[Chain]):
    """conv(x)[o] at o = a + i s is the window that begins at (a + i s) t - p: one of stride t s and padding
    p - a t. A slice of output channels is a slice of rows of the weights; f(y)[o] = f(y[o]), f elementwise.

    A slice that leaves out more than the padding at one side would have to cut the input, and stays; so does
    one that cuts the batch, or goes backward over pixels.
    """

    def match(self, graph: Graph, node: Node) -> Chain | None:
        value = node.inputs[0] if node.op == "slice" else None
        chain: Chain = []
        while value is not None and value.producer is not None:
            chain.insert(0, value.producer)
            if value.producer.op == "conv":
                return chain
            unary = len(value.producer.inputs) == 1 and computes_elementwise(value.producer)
            value = value.producer.inputs[0] if unary else None
        return None

    def check(self, graph: Graph, node: Node, match: Chain) -> str:
        conv, attrs = match[0], node.attrs
        assert isinstance(conv.attrs, ConvAttrs)
        assert isinstance(attrs, SliceAttrs)
        for maker, reader in zip(match, [*match[1:], node], strict=True):
            if graph.sole_user(maker.output) is not reader:
                return f"the output of '{maker.name}' has other users"
            if maker.epilogue:
                return f"'{maker.name}' already has an epilogue"
        before, after = conv.output.type.shape, node.output.type.shape
        if not node.output.type.size or before[0] != after[0] or min(attrs.steps[2:]) < 1:
            return "it is empty, cuts the batch or goes backward"
        if _rows(node) != list(range(before[1])):
            if conv.attrs.groups != 1:
                return f"'{conv.name}' has {conv.attrs.groups} groups, whose inputs would have to be cut too"
            if reason := obstacle(graph, conv):
                return reason
        return "" if _windows(conv, node) else f"it leaves out part of the input of '{conv.name}'"

    def rewrite(self, graph: Graph, node: Node, match: Chain) -> str:
        conv, attrs = match[0], node.attrs
        assert isinstance(conv.attrs, ConvAttrs)
        assert isinstance(attrs, SliceAttrs)
        pads = _windows(conv, node)
        assert pads is not None
        strides = tuple(t * s for t, s in zip(conv.attrs.strides, attrs.steps[2:], strict=True))
        rows = _rows(node)
        for index in range(1, conv.arity):
            array = graph.constant(conv.inputs[index])
            if array is not None and rows != list(range(len(array))):
                replace_constant(graph, conv, index, array[rows])
        sliced = replace(conv.attrs, strides=strides, pads=pads)
        last = graph.add("conv", conv.inputs, sliced, origin=conv.origin, before=node)
        absorb_origin(graph, last, node)
        names = [(last, conv.name)]
        for step in match[1:]:
            last = graph.add(step.op, [last.output], step.attrs, origin=step.origin, before=node)
            names.append((last, step.name))
        graph.replace_uses(node.output, last.output)
        for old in (node, *reversed(match)):
            graph.remove(old)
        for new, name in names:
            graph.rename(new, name)
        return f"'{conv.name}' computes {node.output.type.shape} of {conv.output.type.shape}"


def _rows(node: Node) -> list[int]:
    """The channels that a slice keeps, in its order."""
    assert isinstance(node.attrs, SliceAttrs)
    return list(range(node.attrs.starts[1], node.attrs.stops[1], node.attrs.steps[1]))


def _windows(conv: Node, node: Node) -> Pads | None:
    """The padding with which the convolution's windows are those of the slice, or None."""
    x, w = conv.inputs[:2]
    attrs, cut = conv.attrs, node.attrs
    assert isinstance(attrs, ConvAttrs)
    assert isinstance(cut, SliceAttrs)
    assert x is not None
    assert w is not None
    pads = []
    for axis, stride in enumerate(attrs.strides):
        size, kernel, count = (t.shape[2 + axis] for t in (x.type, w.type, node.output.type))
        span = attrs.dilations[axis] * (kernel - 1) + 1
        before = attrs.pads[axis][0] - cut.starts[2 + axis] * stride
        kept = keep_windows(size, count, span, stride * cut.steps[2 + axis], before)
        if kept is None:
            return None
        pads.append(kept)
    return tuple(pads)


@dataclass(frozen=True)
class PullSlices(RulePass):
    """Let convolutions compute only what slices keep of their results."""

    name: ClassVar[str] = "pull-slices"
    rules = (SliceIntoConv(),)
