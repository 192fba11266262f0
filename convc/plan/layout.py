"""Layouts put into effect: the graph prepared for the joint choice, and conversions inserted after it.

Most kernels work on channel blocks; the graph's inputs and outputs, and operators that mix axes, are plain.
What each layer reads and writes, `assign` decides for all layers together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from convc.ir import Graph, Node, Value, opdef
from convc.ops.shape import ReshapeAttrs
from convc.plan.assign import Assignment
from convc.plan.select import Choice, Selector
from convc.types import PLAIN, Layout
from convc.workload import Halo, Workload


@dataclass
class LayoutAssignment:
    """Gives every node of a graph a Choice, inserting `relayout` nodes. `choices` holds the result."""

    graph: Graph
    selector: Selector
    choices: dict[Node, Choice] = field(default_factory=dict)
    _converted: dict[tuple[Value, Layout], Value] = field(default_factory=dict)

    def run(self) -> dict[Node, Choice]:
        """Choose, then convert; returns the choice of every node, of the inserted ones too."""
        self.selector.check_names(self.graph)
        for node in self.graph.nodes:
            self._expand_operands(node)
        chosen = Assignment(self.graph, self.selector).run()
        for node, choice in chosen.items():
            self._feed(node, choice)
            for value, kind in zip(node.outputs, choice.workload.outputs, strict=True):
                self.graph.set_type(value, kind)
            self.choices[node] = choice
        self._plain_outputs()
        return self.choices

    def _expand_operands(self, node: Node) -> None:
        """Give operands that vary over channels the rank of the output, so that they can be blocked."""
        rank = node.output.type.rank
        elementwise_from = node.arity if not opdef(node.op).elementwise else 0
        for index in range(elementwise_from, len(node.inputs)):
            value = node.inputs[index]
            if value is None or rank < 3 or not rank - 1 <= value.type.rank < rank:
                continue
            if value.type.shape[-(rank - 1)] == 1:
                continue
            shape = (1,) * (rank - value.type.rank) + value.type.shape
            data = self.graph.constant(value)
            if data is not None:
                expanded = self.graph.add_constant(value.name, data.reshape(shape))
            else:
                reshape = self.graph.add(
                    "reshape",
                    [value],
                    ReshapeAttrs(shape),
                    name=f"{value.name}:reshape",
                    origin=node.origin,
                    before=node,
                )
                expanded = reshape.output
            self._replace(node, index, expanded)

    def _feed(self, node: Node, choice: Choice) -> None:
        """Convert the node's inputs to the layouts that its lowering reads."""
        halo = choice.lowering.halo(choice.workload, self.selector.target)
        for index, kind in enumerate(choice.workload.inputs):
            value = node.inputs[index]
            if kind is None or value is None or self.graph.constant(value) is not None:
                continue
            converted = self._as(value, kind.layout, node)
            callers = converted.producer is None or self.graph.is_output(converted)
            if index == 0 and _any(halo) and callers:
                # The caller's array has no room for a zero border.
                converted = self._converted[value, kind.layout] = self._convert(value, kind.layout, node)
            self._replace(node, index, converted)

    def _as(self, value: Value, layout: Layout, reader: Node) -> Value:
        if value.type.layout == layout and (value, layout) not in self._converted:
            return value
        if (value, layout) not in self._converted:
            self._converted[value, layout] = self._convert(value, layout, reader)
        return self._converted[value, layout]

    def _convert(self, value: Value, layout: Layout, before: Node | None) -> Value:
        origin = before.origin if before is not None else ()
        node = self.graph.add(
            "relayout", [value], name=f"{value.name}:{layout}", origin=origin, before=before
        )
        self.graph.set_type(node.output, node.output.type.with_layout(layout))
        # Not by name: --algo speaks of the user's layer, not of what is inserted for it.
        self.choices[node] = self.selector.choose_workload(Workload.of(self.graph, node))
        return node.output

    def _replace(self, node: Node, index: int, value: Value) -> None:
        if node.inputs[index] is not value:
            inputs = list(node.inputs)
            inputs[index] = value
            self.graph.set_inputs(node, inputs)

    def _plain_outputs(self) -> None:
        """Return each output in plain layout, from a buffer of its own."""
        outputs: list[Value] = []
        for value in self.graph.outputs:
            shared = value.producer is None or value in outputs
            if shared or value.type.layout != PLAIN:
                value = self._convert(value, PLAIN, None)
            outputs.append(value)
        self.graph.set_outputs(outputs, self.graph.output_names)


def _any(halo: Halo) -> bool:
    return any(before or after for before, after in halo)
