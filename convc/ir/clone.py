"""A copy of a graph, sharing the arrays of its constants."""

from __future__ import annotations

from convc.ir.graph import Graph, Value


def clone(graph: Graph) -> Graph:
    """An equal graph that passes may change without touching this one."""
    copy = Graph(graph.name)
    twin: dict[Value, Value] = {}
    for value in graph.inputs:
        twin[value] = copy.add_input(value.name, value.type)
    for value, array in graph.constants.items():
        twin[value] = copy.add_constant(value.name, array)
    for node in graph.nodes:
        made = copy.add(
            node.op,
            [None if v is None else twin[v] for v in node.inputs],
            node.attrs,
            name=node.name,
            origin=node.origin,
            output_names=[v.name for v in node.outputs],
            epilogue=node.epilogue,
            arity=node.arity,
        )
        for old, new in zip(node.outputs, made.outputs, strict=True):
            copy.set_type(new, old.type)
            twin[old] = new
    copy.set_outputs([twin[v] for v in graph.outputs], graph.output_names)
    return copy
