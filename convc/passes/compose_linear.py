"""Two convolutions with nothing in between become one, where the product of their weights is cheaper."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from convc.ir import Graph, Node
from convc.ops.conv import ConvAttrs
from convc.passes.base import Rule, RulePass, absorb_origin, replace_constant
from convc.passes.fold_affine import obstacle, set_bias
from convc.passes.windows import keep_windows, pointwise
from convc.types import Array


class ConvOfConv(Rule[Node]):
    """W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), where W1 or W2 is pointwise, on its grid of pixels.

    After a window W1 of strides s1 and dilations d1, a pointwise W2 of strides s2 picks every s2-th result:
    strides s1 s2, dilations d1. After a pointwise W1, the taps of W2 lie s1 d2 pixels apart: strides s1 s2,
    dilations s1 d2, pads s1 p2; zeros that W2 pads with are not b1, which then must be 0. Sums over taps and
    channels are made in float64 and rounded once. Multiply-adds decide; Winograd would do less for the
    windows before and after alike.
    """

    def match(self, graph: Graph, node: Node) -> Node | None:
        first = node.inputs[0].producer if node.op == "conv" and node.inputs[0] is not None else None
        if first is None or first.op != "conv" or not (pointwise(first) or pointwise(node)):
            return None
        return first

    def check(self, graph: Graph, node: Node, match: Node) -> str:
        first, second = match.attrs, node.attrs
        assert isinstance(first, ConvAttrs)
        assert isinstance(second, ConvAttrs)
        if graph.sole_user(match.output) is not node:
            return f"the output of '{match.name}' has other users"
        if match.epilogue:
            return f"'{match.name}' has an epilogue, which need not be linear"
        if first.groups * second.groups != 1:
            return f"'{match.name}' has {first.groups} groups and '{node.name}' {second.groups}"
        if reason := obstacle(graph, match) or obstacle(graph, node):
            return reason
        bias = _bias(graph, match).any()
        if bias and any(map(any, second.pads)):
            return f"'{node.name}' pads with zeros, and not with the bias of '{match.name}'"
        if bias and node.epilogue and node.arity < 3:
            return f"'{node.name}' has an epilogue and no bias to take that of '{match.name}'"
        before, after = _multiply_adds(match, node), node.output.type.size * _terms(match, node)
        if after >= before:
            return f"one convolution would take {after} multiply-adds; the two take {before}"
        return ""

    def rewrite(self, graph: Graph, node: Node, match: Node) -> str:
        first, second = (np.asarray(graph.constant(n.inputs[1]), np.float64) for n in (match, node))
        before = _multiply_adds(match, node)
        attrs = _attrs(match, node)
        if pointwise(node):
            weights = np.einsum("kr,rc...->kc...", second.reshape(second.shape[:2]), first)
        else:
            weights = np.einsum("kr...,rc->kc...", second, first.reshape(first.shape[:2]))
        set_bias(graph, node, None, second.reshape(*second.shape[:2], -1).sum(-1) @ _bias(graph, match))
        replace_constant(graph, node, 1, weights)
        graph.set_attrs(node, attrs)
        graph.set_inputs(node, [match.inputs[0], *node.inputs[1:]])
        absorb_origin(graph, node, match)
        graph.remove(match)
        return f"takes in '{match.name}': {_multiply_adds(node)} multiply-adds instead of {before}"


def _bias(graph: Graph, node: Node) -> Array:
    """The bias (K,) in float64, zeros where there is none."""
    array = graph.constant(node.inputs[2]) if node.arity > 2 else None
    channels = node.output.type.shape[1]
    return np.zeros(channels) if array is None else array.astype(np.float64)


def _multiply_adds(*nodes: Node) -> int:
    """Of some convolutions."""
    weights = [n.inputs[1].type.shape for n in nodes if n.inputs[1] is not None]
    return sum(n.output.type.size * math.prod(w[1:]) for n, w in zip(nodes, weights, strict=True))


def _terms(first: Node, second: Node) -> int:
    """Products in each sum of the composed convolution."""
    x, weights = first.inputs[0], (second if pointwise(first) else first).inputs[1]
    assert x is not None
    assert weights is not None
    return x.type.shape[1] * math.prod(weights.type.shape[2:])


def _attrs(first: Node, second: Node) -> ConvAttrs:
    """Strides, dilations and pads of the composed convolution, which makes as many pixels as `second`."""
    a, b, x = first.attrs, second.attrs, first.inputs[0]
    window = first if pointwise(second) else second
    weights = window.inputs[1]
    assert isinstance(a, ConvAttrs)
    assert isinstance(b, ConvAttrs)
    assert x is not None
    assert weights is not None
    strides = tuple(s * t for s, t in zip(a.strides, b.strides, strict=True))
    if window is first:
        dilations, before = a.dilations, [p for p, _ in a.pads]
    else:
        dilations = tuple(s * d for s, d in zip(a.strides, b.dilations, strict=True))
        before = [s * p for s, (p, _) in zip(a.strides, b.pads, strict=True)]
    pads = []
    for axis, (stride, dilation, start) in enumerate(zip(strides, dilations, before, strict=True)):
        span = dilation * (weights.type.shape[2 + axis] - 1) + 1
        size, count = x.type.shape[2 + axis], second.output.type.shape[2 + axis]
        kept = keep_windows(size, count, span, stride, start)
        assert kept is not None  # a window less than a stride beyond the last one is not begun
        pads.append(kept)
    return replace(b, strides=strides, dilations=dilations, pads=tuple(pads))


@dataclass(frozen=True)
class ComposeLinear(RulePass):
    """Multiply the weights of two successive convolutions where that saves multiply-adds."""

    name: ClassVar[str] = "compose-linear"
    rules = (ConvOfConv(),)
