"""The float64 reference of a whole graph: what every compiled module is compared with.

Arrays are logical; layouts do not matter here, and `relayout` is the identity. Floating-point values are
float64 throughout, whatever dtype they are stored in; integers and booleans keep theirs. What the
dtypes lose is `convc.rounding`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from convc.errors import GraphError, InputError
from convc.ir import Graph, Node, Value, opdef
from convc.types import Array, TensorType


class Exact:
    """Arithmetic in float64 that loses nothing where values are stored."""

    def compute(self, node: Node, inputs: Sequence[Array | None]) -> Sequence[Array]:
        """What the operator of a node makes of its operands, without the epilogue."""
        return opdef(node.op).reference(node.attrs, inputs)

    def store(self, array: Array, kind: TensorType) -> Array:
        """What a tensor of that type holds of a float64 array."""
        return array


EXACT = Exact()


def evaluate(graph: Graph, inputs: Mapping[str, Array], arithmetic: Exact = EXACT) -> list[Array]:
    """The outputs of `graph`, in order. `inputs` are arrays by input name.

    Raises InputError for a missing or unknown name or a wrong shape.
    """
    found: dict[Value, Array] = {
        v: arithmetic.store(wide(a), v.type) for v, a in graph.constants.items() if graph.is_output(v)
    }
    found.update({v: a for v, a in _checked(graph, inputs, arithmetic).items() if graph.is_output(v)})
    returns = {node.name for node in graph.nodes if any(map(graph.is_output, node.outputs))}
    for node, arrays in evaluate_values(graph, inputs, returns, arithmetic):
        found.update(zip(node.outputs, arrays, strict=True))
    return [found[value] for value in graph.outputs]


def evaluate_values(
    graph: Graph,
    inputs: Mapping[str, Array],
    keep: Callable[[Node], bool] | Collection[str] | None = None,
    arithmetic: Exact = EXACT,
) -> Iterator[tuple[Node, tuple[Array, ...]]]:
    """Evaluate node after node; yield those that `keep` chooses (a predicate, node names, or all when None).

    A value is dropped after its last reader, so that a caller which looks at one layer after another never
    holds the whole network.
    """
    live: dict[Value, Array] = dict(_checked(graph, inputs, arithmetic))
    last = {value: node for node in graph.nodes for value in node.inputs if value is not None}
    for node in graph.nodes:
        read = [None if v is None else _read(graph, live, v, arithmetic) for v in node.inputs]
        arrays = evaluate_node(graph, node, read, arithmetic)
        for value in node.inputs:
            if value is not None and last[value] is node:
                live.pop(value, None)
        live.update((v, a) for v, a in zip(node.outputs, arrays, strict=True) if v in last)
        if keep is None or (keep(node) if callable(keep) else node.name in keep):
            yield node, arrays


def evaluate_node(
    graph: Graph, node: Node, inputs: Sequence[Array | None], arithmetic: Exact = EXACT
) -> tuple[Array, ...]:
    """The outputs of one node with its epilogue; `inputs` include the operands of steps."""
    try:
        computed = arithmetic.compute(node, inputs[: node.arity])
        outputs = [
            arithmetic.store(_as_type(a, v.type), v.type) for a, v in zip(computed, node.outputs, strict=True)
        ]
        running = outputs[0]
        for step in node.epilogue:
            arguments = [running]
            if step.operand is not None:
                operand = inputs[step.operand]
                assert operand is not None
                arguments.insert(0 if step.swapped else 1, operand)
            (found,) = opdef(step.op).reference(step.attrs, arguments)
            running = arithmetic.store(_as_type(found, node.output.type), node.output.type)
    except (ValueError, IndexError) as error:
        raise GraphError(f"The reference of {node!r} in graph '{graph.name}' failed: {error}") from error
    arrays = (running, *outputs[1:])
    for array, value in zip(arrays, node.outputs, strict=True):
        if array.shape != value.type.shape:
            raise GraphError(
                f"The reference of {node!r} makes shape {array.shape}; its type is {value.type}."
            )
    return arrays


def wide(array: Array) -> Array:
    """`array` in the dtype in which references compute: float64 for any float, else its own."""
    return np.asarray(array, np.float64 if array.dtype.kind == "f" else array.dtype)


def _as_type(array: Array, kind: TensorType) -> Array:
    return np.asarray(array, np.float64 if kind.is_float else kind.dtype)


def _read(graph: Graph, live: dict[Value, Array], value: Value, arithmetic: Exact) -> Array:
    constant = graph.constant(value)
    return live[value] if constant is None else arithmetic.store(wide(constant), value.type)


def _checked(graph: Graph, inputs: Mapping[str, Array], arithmetic: Exact) -> dict[Value, Array]:
    wanted = {v.name: v for v in graph.inputs}
    if set(inputs) != set(wanted):
        raise InputError(
            f"The inputs given are {sorted(inputs)}; graph '{graph.name}' takes {sorted(wanted)}.",
            hint="Name each input once.",
        )
    for name, array in inputs.items():
        if array.shape != wanted[name].type.shape:
            raise InputError(f"Input '{name}' has shape {array.shape}; {wanted[name].type} is expected.")
    return {v: arithmetic.store(_as_type(inputs[name], v.type), v.type) for name, v in wanted.items()}
