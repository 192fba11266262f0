"""The graph IR: values, nodes and the graph that owns them.

A node may carry an epilogue: elementwise steps applied to its (first) output while that is still in
registers. So `conv(%x, %w, %b) | add(., %r) | relu(.)` is one node and, later, one kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import networkx as nx

from convc.dtype import DType
from convc.errors import GraphError
from convc.ir.opdef import Attrs, opdef
from convc.ir.order import Names, Order
from convc.ir.printing import print_graph
from convc.types import Array, TensorType


class Value:
    """A tensor in a graph: an input, a constant, or one output of a node. Compared by identity."""

    __slots__ = ("name", "producer", "type")

    def __init__(self, name: str, type: TensorType) -> None:
        self.name = name
        self.type = type
        self.producer: Node | None = None

    def __repr__(self) -> str:
        return f"%{self.name} : {self.type}"


@dataclass(frozen=True)
class Step:
    """One elementwise step of an epilogue: `op` applied to the running value and, if binary, one operand.

    `operand` is an index into the node's inputs, or None for a unary step; `swapped` puts the operand on
    the left: `sub(%r, .)` instead of `sub(., %r)`.
    """

    op: str
    attrs: Attrs = field(default_factory=Attrs)
    operand: int | None = None
    swapped: bool = False


class Node:
    """One operation. `inputs` holds the operator's own inputs, then the operands of the epilogue.

    `name` is what the user calls the layer; `origin` lists the nodes of the imported model that it came
    from, with the modules whose weights these read, and survives every pass. `arity` is the number of the
    operator's own inputs.
    """

    __slots__ = ("arity", "attrs", "epilogue", "inputs", "name", "op", "origin", "outputs")

    def __init__(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attrs: Attrs,
        outputs: Sequence[Value],
        name: str,
        origin: Sequence[str] = (),
        epilogue: Sequence[Step] = (),
        arity: int | None = None,
    ) -> None:
        self.op = op
        self.inputs = tuple(inputs)
        self.attrs = attrs
        self.outputs = tuple(outputs)
        self.name = name
        self.origin = tuple(origin)
        self.epilogue = tuple(epilogue)
        self.arity = len(self.inputs) if arity is None else arity

    @property
    def output(self) -> Value:
        """The first output, which for nearly every operator is the only one."""
        return self.outputs[0]

    @property
    def operands(self) -> tuple[Value | None, ...]:
        """The operator's own inputs, without the epilogue's."""
        return self.inputs[: self.arity]

    def __repr__(self) -> str:
        return f"<{self.op} '{self.name}'>"


class Graph:
    """A network: inputs, constants, nodes in topological order, outputs. Changed only through its methods."""

    def __init__(self, name: str = "graph") -> None:
        self.name = name
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._output_names: list[str] = []
        self._returned: set[Value] = set()
        self._nodes: Order[Node] = Order()
        self._constants: dict[Value, Array] = {}
        self._users: dict[Value, dict[Node, None]] = {}  # of each value: a set in order
        self._names = Names()
        self._node_names = Names()

    # ---- reading

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The graph's inputs, in order."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The graph's outputs, in order."""
        return tuple(self._outputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names under which users know the outputs; kept when a pass replaces a value."""
        return tuple(self._output_names)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, each after the producers of its inputs."""
        return self._nodes.row

    def __contains__(self, node: Node) -> bool:
        return node in self._nodes

    @property
    def constants(self) -> dict[Value, Array]:
        """A copy of the table of constants (the arrays themselves are shared; do not write to them)."""
        return dict(self._constants)

    def constant(self, value: Value | None) -> Array | None:
        """The array of a constant, or None when `value` is absent or computed."""
        return None if value is None else self._constants.get(value)

    def users(self, value: Value) -> tuple[Node, ...]:
        """The nodes that read `value`, each once, in the order in which they were added."""
        return tuple(self._users.get(value, ()))

    def is_output(self, value: Value) -> bool:
        """Whether `value` is an output of the graph."""
        return value in self._returned

    def sole_user(self, value: Value) -> Node | None:
        """The only reader of `value`, or None when there are more, none, or the graph returns it."""
        users = self._users.get(value, {})
        return next(iter(users)) if len(users) == 1 and not self.is_output(value) else None

    def node(self, name: str) -> Node:
        """The node of that name. Raises GraphError."""
        for node in self._nodes:
            if node.name == name:
                return node
        raise GraphError(f"No layer is named '{name}'.")

    def values(self) -> Iterator[Value]:
        """Every value: inputs, constants, then the outputs of nodes."""
        yield from self._inputs
        yield from self._constants
        for node in self._nodes:
            yield from node.outputs

    def network(self) -> nx.DiGraph:
        """A networkx view: nodes are `Node`s, an edge for each value that one makes and another reads.

        Questions of order, dominance, paths and drawing are asked of this view.
        """
        view = nx.DiGraph(name=self.name)
        view.add_nodes_from(self._nodes)
        for node in self._nodes:
            for value in node.inputs:
                if value is not None and value.producer is not None:
                    view.add_edge(value.producer, node, value=value)
        return view

    # ---- building

    def fresh(self, name: str) -> str:
        """`name`, or `name.1`, `name.2`, ... when it is taken by another value."""
        return self._names.fresh(name)

    def add_input(self, name: str, type: TensorType) -> Value:
        """Append an input. Raises GraphError when the name is taken: users address inputs by name."""
        if name in self._names:
            raise GraphError(f"Two values are named '{name}'.", hint="Give each input its own name.")
        value = Value(self._names.take(name), type)
        self._inputs.append(value)
        return value

    def add_constant(self, name: str, array: Array) -> Value:
        """Add a constant (weights, shapes). The array must not be changed afterwards."""
        value = Value(self._names.take(name), TensorType(tuple(array.shape), DType.of(str(array.dtype))))
        self._constants[value] = array
        return value

    def set_outputs(self, values: Iterable[Value], names: Iterable[str] | None = None) -> None:
        """Choose what the graph returns, under `names` (by default the values' own)."""
        self._outputs = list(values)
        self._returned = set(self._outputs)
        self._output_names = [v.name for v in self._outputs] if names is None else list(names)
        if len(self._output_names) != len(self._outputs):
            raise GraphError(f"{len(self._outputs)} outputs have {len(self._output_names)} names.")

    def add(
        self,
        op: str,
        inputs: Sequence[Value | None],
        attrs: Attrs | None = None,
        *,
        name: str = "",
        origin: Sequence[str] = (),
        output_names: Sequence[str] = (),
        epilogue: Sequence[Step] = (),
        arity: int | None = None,
        before: Node | None = None,
    ) -> Node:
        """Append a node (or insert it just before another) and infer the types of its outputs.

        Raises TypeRuleError when the inputs do not fit the operator.
        """
        definition = opdef(op)
        attrs = definition.attrs() if attrs is None else attrs
        own = inputs if arity is None else inputs[:arity]
        types = definition.infer(attrs, [None if v is None else v.type for v in own])
        node_name = self._node_names.take(name or op)
        names = list(output_names) or [node_name if i == 0 else f"{node_name}:{i}" for i in range(len(types))]
        outputs = [Value(self._names.take(n), t) for n, t in zip(names, types, strict=True)]
        node = Node(op, inputs, attrs, outputs, node_name, origin, epilogue, arity)
        for value in outputs:
            value.producer = node
        self._link(node)
        self._nodes.insert(node, before)
        return node

    # ---- changing

    def replace_uses(self, old: Value, new: Value) -> None:
        """Make every reader of `old`, and the graph's outputs, use `new`; output names stay."""
        for node in self.users(old):
            self.set_inputs(node, [new if v is old else v for v in node.inputs])
        if old in self._returned:
            self.set_outputs([new if v is old else v for v in self._outputs], self._output_names)

    def set_inputs(self, node: Node, inputs: Sequence[Value | None], arity: int | None = None) -> None:
        """Give a node other inputs; `arity` of them are the operator's own (as many as before by default)."""
        self._unlink(node)
        node.inputs = tuple(inputs)
        node.arity = node.arity if arity is None else arity
        self._link(node)

    def set_attrs(self, node: Node, attrs: Attrs) -> None:
        """Give a node other attributes."""
        node.attrs = attrs

    def become(self, node: Node, op: str, inputs: Sequence[Value | None], attrs: Attrs | None = None) -> None:
        """Turn a node without an epilogue into another operation that makes the same outputs.

        Raises GraphError when it would make other types.
        """
        definition = opdef(op)
        attrs = definition.attrs() if attrs is None else attrs
        types = definition.infer(attrs, [None if v is None else v.type for v in inputs])
        if node.epilogue or [(t.shape, t.dtype) for t in types] != [
            (v.type.shape, v.type.dtype) for v in node.outputs
        ]:
            raise GraphError(f"{node!r} cannot become {op}: that makes {', '.join(map(str, types))}.")
        node.op, node.attrs = op, attrs
        self.set_inputs(node, inputs, len(inputs))

    def fold(self, node: Node, arrays: Sequence[Array]) -> None:
        """Replace a node by the constants that it computes; its outputs keep names and readers."""
        for value, array in zip(node.outputs, arrays, strict=True):
            if (tuple(array.shape), str(array.dtype)) != (value.type.shape, value.type.dtype):
                raise GraphError(f"{value!r} cannot become a constant of {array.dtype} {array.shape}.")
        self._take_out(node)
        for value, array in zip(node.outputs, arrays, strict=True):
            value.producer = None
            self._constants[value] = array

    def move(self, node: Node, before: Node) -> None:
        """Place a node just before another; the caller sees to it that the order stays topological."""
        self._nodes.remove(node)
        self._nodes.insert(node, before)

    def append_step(self, node: Node, step: Step, operand: Value | None, origin: Sequence[str]) -> None:
        """Extend a node's epilogue by one step; a binary step brings its operand, added to the inputs."""
        if operand is not None:
            self.set_inputs(node, (*node.inputs, operand))
            step = replace(step, operand=len(node.inputs) - 1)
        node.epilogue = (*node.epilogue, step)
        node.origin = tuple(dict.fromkeys((*node.origin, *origin)))

    def set_type(self, value: Value, type: TensorType) -> None:
        """Change how a value is stored; shape and dtype must stay."""
        if (type.shape, type.dtype) != (value.type.shape, value.type.dtype):
            raise GraphError(f"The type of {value!r} cannot become {type}: only layouts may change.")
        value.type = type

    def set_dtype(self, value: Value, dtype: str) -> None:
        """Change what a result is made of; the caller sees to it that the rules of the operators hold."""
        value.type = replace(value.type, dtype=DType.of(dtype))

    def set_origin(self, node: Node, origin: Sequence[str]) -> None:
        """Say which nodes of the imported model a node stands for."""
        node.origin = tuple(dict.fromkeys(origin))

    def rename(self, node: Node, name: str) -> None:
        """Give a node the name by which the user knows the layer, made unique if another node has it."""
        if name != node.name:
            self._node_names.free(node.name)
            node.name = self._node_names.take(name)

    def remove(self, node: Node) -> None:
        """Take out a node whose outputs nobody uses. Raises GraphError otherwise."""
        for value in node.outputs:
            if self._users.get(value) or self.is_output(value):
                raise GraphError(f"{node!r} cannot be removed: its output %{value.name} is still used.")
        self._take_out(node)
        for value in node.outputs:
            self._names.free(value.name)

    def _take_out(self, node: Node) -> None:
        self._unlink(node)
        self._nodes.remove(node)
        self._node_names.free(node.name)

    def remove_constant(self, value: Value) -> None:
        """Take out a constant that nobody uses. Raises GraphError otherwise."""
        if self._users.get(value) or self.is_output(value):
            raise GraphError(f"Constant %{value.name} cannot be removed: it is still used.")
        del self._constants[value]
        self._names.free(value.name)

    def sort(self) -> None:
        """Restore the topological order, keeping the present order where it is free."""
        position = {node: i for i, node in enumerate(self._nodes)}
        self._nodes = Order(nx.lexicographical_topological_sort(self.network(), key=position.__getitem__))

    def _link(self, node: Node) -> None:
        for value in node.inputs:
            if value is not None:
                self._users.setdefault(value, {})[node] = None

    def _unlink(self, node: Node) -> None:
        for value in node.inputs:
            if value is not None:
                self._users[value].pop(node, None)

    def __str__(self) -> str:
        return print_graph(self)
