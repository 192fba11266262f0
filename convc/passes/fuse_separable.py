"""Separable fusion: a depthwise and a 1x1 convolution become one kernel where that is predicted to pay.

    %a = conv(%x, %w, %b) {groups=32} | clip(.)
    %y = conv(%a, %v, %c) | add(., %r)          ->  %y = depthwise_pointwise(%x, %w, %v, %b, %c) | add(., %r)

and likewise `pointwise_depthwise` where the 1x1 convolution comes first.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from convc.dtype import FLOAT32
from convc.ir import Graph, Node, Step, Value, opdef
from convc.ops.conv import ConvAttrs
from convc.ops.separable import SeparableAttrs
from convc.passes.base import Changes, Pass
from convc.target import Target
from convc.tiling.product import direct_seconds, im2col_seconds
from convc.tiling.separable import SeparableShape, choose, seconds
from convc.workload import ConvShape, Workload


@dataclass(frozen=True)
class _Pair:
    """Two convolutions that could be one, and the seconds that this is predicted to save."""

    op: str
    first: Node
    second: Node
    saved: float


@dataclass(frozen=True)
class FuseSeparable(Pass):
    """Join neighbours for a target. The pair that saves most goes first: a convolution joins one other only.

    Layers in `keep` (by name or origin) stay apart: the user chose an algorithm for them.
    """

    name: ClassVar[str] = "fuse-separable"
    target: Target
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Changes:
        """One sweep: no fused node is part of another pair."""
        changes = Changes()
        pairs = [pair for node in graph.nodes if (pair := self._pair(graph, node, changes))]
        joined: set[Node] = set()
        for pair in sorted(pairs, key=lambda p: -p.saved):
            if pair.saved <= 0:
                changes.refuse(
                    pair.second, f"joined with '{pair.first.name}' it would take {-pair.saved:.1e} s longer"
                )
            elif not joined & {pair.first, pair.second}:
                joined |= {pair.first, pair.second}
                changes.did(pair.second, f"joins '{pair.first.name}' as {pair.op}, saving {pair.saved:.1e} s")
                _join(graph, pair)
        return changes

    def _pair(self, graph: Graph, second: Node, changes: Changes) -> _Pair | None:
        first = second.inputs[0].producer if second.inputs and second.inputs[0] is not None else None
        if first is None or (first.op, second.op) != ("conv", "conv"):
            return None
        shapes = [ConvShape.of(Workload.of(graph, node)) for node in (first, second)]
        if _depthwise(shapes[0]) and _pointwise(shapes[1]):
            op, shape = "depthwise_pointwise", SeparableShape(shapes[0], shapes[1], True)
        elif _pointwise(shapes[0]) and _depthwise(shapes[1]):
            op, shape = "pointwise_depthwise", SeparableShape(shapes[1], shapes[0], False)
        else:
            return None
        if reason := shape.refusal or self._obstacle(graph, first, second):
            changes.refuse(second, f"it does not join '{first.name}': {reason}")
            return None
        together = seconds(shape, choose(shape, self.target), self.target)
        return _Pair(op, first, second, self._apart(shape) - together)

    def _obstacle(self, graph: Graph, first: Node, second: Node) -> str:
        """Why the two cannot be one, or ""."""
        if graph.is_output(first.output):
            return f"%{first.output.name} is also returned"
        if graph.sole_user(first.output) is not second:
            return f"%{first.output.name} has {len(graph.users(first.output))} readers"
        for step in first.epilogue:
            if not opdef(step.op).finite or step.operand is not None:
                return f"{step.op} stands between them"
        for node in (first, second):
            if named := self.keep & {node.name, *node.origin}:
                return f"an algorithm was asked for '{min(named)}'"
            if node.output.type.dtype != FLOAT32:
                return f"it computes with {node.output.type.dtype}"
            if any(v is not None and graph.constant(v) is None for v in node.operands[1:]):
                return f"the weights of '{node.name}' are not constant"
        return ""

    def _apart(self, s: SeparableShape) -> float:
        """Predicted seconds of the two kernels, and of clearing the border between them."""
        target = self.target
        apart = direct_seconds(s.depthwise, target)
        apart += min(direct_seconds(s.pointwise, target), im2col_seconds(s.pointwise, target))
        if s.depthwise_first:
            return apart  # whoever makes the input clears its border, fused or not
        d = s.depthwise
        height, width = (e + sum(p) for e, p in zip(d.input, d.pads, strict=True))
        border = d.itemsize * d.n * d.ic * (height * width - d.input[0] * d.input[1])
        return apart + border / target.l3_bandwidth


def _depthwise(s: ConvShape) -> bool:
    return s.depthwise and s.groups > 1


def _pointwise(s: ConvShape) -> bool:
    return s.pointwise and s.unit_stride and s.groups == 1


def _join(graph: Graph, pair: _Pair) -> None:
    """Put one node in the place of the second, under its name."""
    first, second = pair.first, pair.second
    depthwise, pointwise = (first, second) if pair.op == "depthwise_pointwise" else (second, first)
    window = depthwise.attrs
    assert isinstance(window, ConvAttrs)
    between = tuple((step.op, dataclasses.astuple(step.attrs)) for step in first.epilogue)
    attrs = SeparableAttrs(window.strides, window.dilations, window.pads, between)
    inputs = [
        first.inputs[0], depthwise.inputs[1], pointwise.inputs[1], _bias(depthwise), _bias(pointwise),
    ]  # fmt: skip
    operands = [None if s.operand is None else second.inputs[s.operand] for s in second.epilogue]
    made = graph.add(
        pair.op, inputs, attrs, name=second.name, origin=[*first.origin, *second.origin], before=second
    )
    for step, operand in zip(second.epilogue, operands, strict=True):
        graph.append_step(made, Step(step.op, step.attrs, swapped=step.swapped), operand, ())
    name = second.name
    graph.replace_uses(second.output, made.output)
    graph.remove(second)
    graph.remove(first)
    graph.rename(made, name)


def _bias(node: Node) -> Value | None:
    return node.inputs[2] if node.arity > 2 else None
