"""Many small graphs in one, so that a test compiles and links one module instead of hundreds."""

from __future__ import annotations

from collections.abc import Mapping

from convc.ir import Graph, Value
from convc.types import Array


def merge(graphs: Mapping[str, Graph], name: str = "merged") -> Graph:
    """One graph of independent parts; inputs, nodes and outputs are called `<key>/<own name>`."""
    whole = Graph(name)
    outputs: list[Value] = []
    names: list[str] = []
    for key, part in graphs.items():
        twin: dict[Value, Value] = {v: whole.add_input(f"{key}/{v.name}", v.type) for v in part.inputs}
        twin.update({v: whole.add_constant(f"{key}/{v.name}", a) for v, a in part.constants.items()})
        for node in part.nodes:
            made = whole.add(
                node.op,
                [None if v is None else twin[v] for v in node.inputs],
                node.attrs,
                name=f"{key}/{node.name}",
                output_names=[f"{key}/{v.name}" for v in node.outputs],
                epilogue=node.epilogue,
                arity=node.arity,
            )
            twin.update(zip(node.outputs, made.outputs, strict=True))
        outputs += [twin[v] for v in part.outputs]
        names += [f"{key}/{n}" for n in part.output_names]
    whole.set_outputs(outputs, names)
    return whole


def feeds(parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Inputs of the parts as inputs of the whole."""
    return {f"{key}/{name}": array for key, part in parts.items() for name, array in part.items()}
