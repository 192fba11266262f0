"""Max pooling joins the convolution before it where that is predicted to pay: the whole map is never stored.

    %a = conv(%x, %w, %b) | relu(.)
    %y = max_pool(%a) {kernel=(2, 2)}   ->   %y = conv_max_pool(%x, %w, %b) {pool=(2, 2)} | relu(.)

A non-decreasing f commutes with the maximum, max(f(a), f(b)) = f(max(a, b)), and so does its rounding. The
bias of a channel and most activations are non-decreasing, so the fused operator takes the maximum first and
finishes what is left of it. An operand that varies over the map would have to be there before the maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from convc.ir import Graph, Node, Step, Value, opdef
from convc.ops.conv import ConvAttrs
from convc.ops.conv_pool import ConvMaxPoolAttrs
from convc.ops.pool import MaxPoolAttrs
from convc.passes.base import Changes, Pass
from convc.types import Array
from convc.workload import Workload

Price = Callable[[Workload, Sequence[Array | None]], float]
"""Predicted seconds of a workload with such constant inputs, by the fastest way that is accurate enough."""


@dataclass(frozen=True)
class FuseMaxPool(Pass):
    """Join pairs whose kernel is predicted to take less time than the two apart.

    Layers in `keep` (by name or origin) stay apart: the user chose an algorithm for them.
    """

    name: ClassVar[str] = "fuse-max-pool"
    price: Price
    keep: frozenset[str] = frozenset()

    def run(self, graph: Graph) -> Changes:
        """One sweep: a convolution has one reader, so that no two pairs share a node."""
        changes = Changes()
        for pool in graph.nodes:
            x = pool.inputs[0] if pool.op == "max_pool" else None
            conv = x.producer if x is not None else None
            if conv is None or conv.op != "conv":
                continue
            reason = self._obstacle(graph, conv, pool)
            saved = 0.0 if reason else self._saved(graph, conv, pool)
            if not reason and saved <= 0:
                reason = f"together they would take {abs(saved):.1e} s longer"
            if reason:
                changes.refuse(pool, f"it does not join '{conv.name}': {reason}")
                continue
            changes.did(pool, f"joins '{conv.name}', saving {saved:.1e} s")
            _join(graph, conv, pool)
        return changes

    def _obstacle(self, graph: Graph, conv: Node, pool: Node) -> str:
        """Why the two cannot be one, or ""."""
        a = pool.attrs
        assert isinstance(a, MaxPoolAttrs)
        if a.kernel != a.strides:
            return f"windows of {a.kernel} with strides {a.strides} do not lie side by side"
        if any(map(any, a.pads)) or set(a.dilations) != {1}:
            return f"its windows have pads {a.pads} and dilations {a.dilations}"
        if a.ceil_mode and any(e % k for e, k in zip(conv.output.type.shape[2:], a.kernel, strict=True)):
            return "partial windows at its end count, too"
        if graph.is_output(conv.output):
            return f"%{conv.output.name} is also returned"
        if graph.sole_user(conv.output) is not pool:
            return f"%{conv.output.name} has {len(graph.users(conv.output))} readers"
        for step in conv.epilogue:
            if step.operand is not None:
                return f"{step.op} has an operand, which would have to be added before the maximum"
            if not opdef(step.op).monotone(step.attrs):
                return f"{step.op} may decrease where its input grows"
        for node in (conv, pool):
            if named := self.keep & {node.name, *node.origin}:
                return f"an algorithm was asked for '{min(named)}'"
        return ""

    def _saved(self, graph: Graph, conv: Node, pool: Node) -> float:
        """Predicted seconds of the two apart, less those of one kernel."""
        first, second = (Workload.of(graph, node) for node in (conv, pool))
        attrs = _attrs(conv, pool)
        both = replace(first, op="conv_max_pool", attrs=attrs, outputs=second.outputs, epilogue=())
        weights = [graph.constant(value) for value in conv.inputs]
        return self.price(first, weights) + self.price(second, [None]) - self.price(both, weights)


def _attrs(conv: Node, pool: Node) -> ConvMaxPoolAttrs:
    window, a = pool.attrs, conv.attrs
    assert isinstance(window, MaxPoolAttrs)
    assert isinstance(a, ConvAttrs)
    return ConvMaxPoolAttrs(a.strides, a.dilations, a.pads, a.groups, window.kernel)


def _join(graph: Graph, conv: Node, pool: Node) -> None:
    """Put one node in the place of the pool, under the convolution's name."""
    steps: list[tuple[Step, Value | None]] = [(step, None) for step in conv.epilogue]
    steps += [(s, None if s.operand is None else pool.inputs[s.operand]) for s in pool.epilogue]
    made = graph.add(
        "conv_max_pool",
        conv.operands,
        _attrs(conv, pool),
        name=conv.name,
        origin=[*conv.origin, *pool.origin],
        before=pool,
    )
    for step, operand in steps:
        graph.append_step(made, Step(step.op, step.attrs, swapped=step.swapped), operand, ())
    name = conv.name
    graph.replace_uses(pool.output, made.output)
    graph.remove(pool)
    graph.remove(conv)
    graph.rename(made, name)
