"""The invariants of a graph. Passes may assume them and must keep them."""

from __future__ import annotations

from collections import Counter

from convc.errors import ConvcError, GraphError
from convc.ir.graph import Graph, Node, Value
from convc.ir.opdef import opdef
from convc.types import TensorType


def verify(graph: Graph) -> None:
    """Check every invariant of `graph`. Raises GraphError that names the node.

    Values belong to the graph and stand before their readers; recorded types agree with the operators'
    rules; each binary step of an epilogue has one operand of its own, in order, that broadcasts to the
    output; the table of users is right; names are unique; outputs exist.
    """
    _verify_names(graph)
    known = {*graph.inputs, *graph.constants}
    for value in known:
        if value.producer is not None:
            raise GraphError(f"%{value.name} is an input or constant, but also made by {value.producer!r}.")
    for value, array in graph.constants.items():
        if (tuple(array.shape), str(array.dtype)) != (value.type.shape, value.type.dtype):
            raise GraphError(f"Constant {value!r} holds an array of {array.dtype} {array.shape}.")
    for node in graph.nodes:
        for read in node.inputs:
            if read is not None and read not in known:
                raise GraphError(
                    f"{node!r} reads %{read.name}, which no input, constant or earlier node provides.",
                    hint="Sort the graph after moving nodes.",
                )
        _verify_types(node)
        for value in node.outputs:
            if value.producer is not node or value in known:
                raise GraphError(f"%{value.name}, an output of {node!r}, is made by {value.producer!r}.")
        known.update(node.outputs)
    for value in graph.outputs:
        if value not in known:
            raise GraphError(f"The graph returns %{value.name}, which none of its nodes makes.")
    _verify_users(graph, known)


def _verify_names(graph: Graph) -> None:
    kinds = {
        "values": [v.name for v in graph.values()],
        "nodes": [n.name for n in graph.nodes],
        "outputs of the graph": list(graph.output_names),
    }
    for kind, names in kinds.items():
        for name, count in Counter(names).items():
            if count > 1:
                raise GraphError(f"{count} {kind} are named '{name}'.")


def _verify_types(node: Node) -> None:
    definition = opdef(node.op)
    fewest, most = definition.inputs
    if not fewest <= node.arity <= most or node.arity > len(node.inputs):
        raise GraphError(f"{node!r} has {node.arity} inputs; {node.op} takes {fewest} to {most}.")
    if type(node.attrs) is not definition.attrs:
        raise GraphError(f"{node!r} has {node.attrs}; {node.op} takes {definition.attrs.__name__}.")
    try:
        types = definition.infer(node.attrs, [None if v is None else v.type for v in node.operands])
    except ConvcError as error:
        raise GraphError(f"{node!r}: {error}") from error
    found = [(v.type.shape, v.type.dtype) for v in node.outputs]
    if found != [(t.shape, t.dtype) for t in types]:
        raise GraphError(
            f"{node!r} records {', '.join(str(v.type) for v in node.outputs)}; "
            f"by the rule of {node.op} it makes {', '.join(map(str, types))}."
        )
    _verify_epilogue(node, types[0])


def _verify_epilogue(node: Node, running: TensorType) -> None:
    operands = [step.operand for step in node.epilogue if step.operand is not None]
    if operands != list(range(node.arity, len(node.inputs))):
        raise GraphError(
            f"{node!r}: the epilogue uses inputs {operands}; its operands are inputs "
            f"{node.arity} to {len(node.inputs) - 1}, each of which it must use once and in order."
        )
    for step in node.epilogue:
        arguments: list[TensorType | None] = [running]
        if step.operand is not None:
            operand = node.inputs[step.operand]
            if operand is None:
                raise GraphError(f"{node!r}: the operand of the step '{step.op}' is missing.")
            arguments.insert(0 if step.swapped else 1, operand.type)
        if not opdef(step.op).elementwise:
            raise GraphError(f"{node!r}: the step '{step.op}' is not an elementwise operator.")
        try:
            (result,) = opdef(step.op).infer(step.attrs, arguments)
        except ConvcError as error:
            raise GraphError(f"{node!r}, step '{step.op}': {error}") from error
        if (result.shape, result.dtype) != (running.shape, running.dtype):
            raise GraphError(
                f"{node!r}: the step '{step.op}' turns {running} into {result}; it must keep the type."
            )


def _verify_users(graph: Graph, known: set[Value]) -> None:
    expected: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in dict.fromkeys(v for v in node.inputs if v is not None):
            expected.setdefault(value, []).append(node)
    for value in known:
        if set(graph.users(value)) != set(expected.get(value, [])):
            raise GraphError(
                f"The table of users says that %{value.name} is read by {list(graph.users(value))}; "
                f"it is read by {expected.get(value, [])}."
            )
