"""The nodes of one graph of a model, the main one or one that a node holds, on their way into the IR."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from convc.errors import ConvcError, ModelError
from convc.frontends.onnx.call import Call, Refusal
from convc.frontends.onnx.files import weights_of
from convc.frontends.onnx.findings import Findings
from convc.frontends.onnx.handlers import DOMAINS, NEWEST, OLDEST, Handler, find, known_opset
from convc.frontends.onnx.limits import Allowance
from convc.frontends.onnx.order import captured, computable, graphs_of, reads, unique_names
from convc.frontends.onnx.placeholders import placeholder_types, stated_type
from convc.frontends.onnx.schema import Schemas
from convc.ir import Graph, Value
from convc.types import TensorType


@dataclass(frozen=True)
class Import:
    """What all bodies of one import share."""

    graph: Graph
    model: onnx.ModelProto
    opset: int
    schemas: Schemas
    findings: Findings
    allowance: Allowance
    folder: str | None
    """Where external data lie."""


class Body:
    """Imports the nodes of `proto`. `values` maps the names that they may read, and takes what they make."""

    def __init__(
        self,
        context: Import,
        proto: onnx.GraphProto,
        values: MutableMapping[str, Value],
        prefix: str = "",
        *,
        surveyed: bool = False,
    ) -> None:
        self.context = context
        self.proto = proto
        self.values = values
        self.prefix = prefix
        self.surveyed = surveyed
        """Whether the graph is only searched for what is not supported, and nothing will be computed."""
        self.guessed: dict[str, Value] | None = None
        names = unique_names(proto.node, prefix)
        self._nodes = [(proto.node[i], names[i]) for i in computable(proto.node)]
        self._makers = {output: name for node, name in reversed(self._nodes) for output in node.output}
        self._made: set[str] = set()
        self._read = {output.name for output in proto.output}.union(*(reads(node) for node in proto.node))

    def run(self) -> None:
        """Import every node. Refusals are noted; a fault is raised, unless a refusal may be its cause."""
        for node, name in self._nodes:
            try:
                self._node(node, name)
            except (ConvcError, MemoryError) as error:
                if self.context.findings.refused:
                    continue  # this may come from what stands in for a refused node's result, or from none
                if isinstance(error, MemoryError):
                    raise ModelError(f"Node '{name}' ({node.op_type}) asks for too much memory.") from error
                raise

    def _node(self, node: onnx.NodeProto, name: str) -> None:
        what = f"Node '{name}' ({node.op_type})"
        for output in filter(None, node.output):
            if output in self._made or (not self.prefix and output in self.values):
                raise ModelError(f"{what} makes '{output}', which exists already.")
        handler, opset = self._handler(node, name)
        if handler is None:
            return
        inputs = [self._operand(what, i) if i else None for i in node.input]
        self.context.schemas.check(node, what)
        used = frozenset(i for i, output in enumerate(node.output) if output and output in self._read)
        try:
            result = handler(Call(self.context.graph, node, name, opset, inputs, used, self))
        except Refusal as refusal:
            if not (self.surveyed and refusal.wanted):  # what is constant cannot be told without computing
                self._refuse(node, name, refusal.message)
                self.want(refusal.wanted)
            return
        if isinstance(result, np.ndarray):
            result = [self.context.graph.add_constant(node.output[0], result)]
        self.values.update((o, value) for o, value in zip(node.output, result, strict=False) if o)
        self._made.update(node.output)
        self.context.findings.supported[node.op_type] += 1

    def _handler(self, node: onnx.NodeProto, name: str) -> tuple[Handler | None, int]:
        """The handler of a node with the opset that it follows; a node without one is refused."""
        opset = known_opset(node.op_type, self.context.opset) if node.domain in DOMAINS else None
        if opset is None:
            reason = f"an operator of domain '{node.domain}'"
            if node.domain in DOMAINS:
                reason = f"its definition is another than in opsets {OLDEST} to {NEWEST}"
        elif handler := find(node.op_type, opset):
            return handler, opset
        else:
            reason = "convc has no code for this operator"
        self._refuse(node, name, reason)
        for graph in graphs_of(node):
            self._survey(graph, name)
        return None, 0

    def _operand(self, what: str, name: str) -> Value:
        if name in self.values:
            return self.values[name]
        if name in self._makers:
            raise ModelError(
                f"{what} reads '{name}' before node '{self._makers[name]}' has made it.",
                hint="The nodes form a cycle.",
            )
        raise ModelError(
            f"{what} reads '{name}', which is neither an input, an initialiser nor a node's output."
        )

    # ---- graphs inside nodes

    @property
    def allowance(self) -> Allowance:
        """What may still be spent on constants."""
        return self.context.allowance

    @property
    def refusals(self) -> int:
        """How much has been refused so far."""
        return sum(map(len, self.context.findings.refused.values()))

    def want(self, names: Sequence[str]) -> None:
        """Note that these values would have to be known when the model is compiled."""
        self.context.findings.wanted.update(deciding(self.context.graph, names))

    @property
    def folder(self) -> str | None:
        """Where external data lie."""
        return self.context.folder

    def enter(self, graph: onnx.GraphProto, place: str) -> list[Value]:
        """Import a graph that a node holds, in the scope of this one; returns its outputs."""
        values = self._scope(graph, place)
        Body(self.context, graph, values, f"{place}/", surveyed=self.surveyed).run()
        for output in graph.output:
            if output.name not in values:
                raise ModelError(f"No node of '{place}' makes the output '{output.name}'.")
        return [values[output.name] for output in graph.output]

    def _survey(self, graph: onnx.GraphProto, place: str) -> None:
        """Search a graph of a refused node for more that is not supported, as far as types are known."""
        values = self._scope(graph, place)
        for info in graph.input:
            kind = stated_type(info)
            if kind is not None:
                values[info.name] = self._placeholder(info.name, kind)
        Body(self.context, graph, values, f"{place}/", surveyed=True).run()

    def _scope(self, graph: onnx.GraphProto, place: str) -> ChainMap[str, Value]:
        """The names that a graph inside a node may read: those around it, and its own weights."""
        values: ChainMap[str, Value] = ChainMap({}, self.values)
        for name, array in weights_of(graph, place, self.context.folder).items():
            values[name] = self.context.graph.add_constant(name, array)
        return values

    # ---- what is refused

    def _placeholder(self, name: str, kind: TensorType) -> Value:
        return self.context.graph.add_input(self.context.graph.fresh(name), kind)

    def _refuse(self, node: onnx.NodeProto, name: str, reason: str) -> None:
        """Note the refusal, and let inferred types stand in for the outputs so that all are found."""
        self.context.findings.refuse(f"{node.op_type} (opset {self.context.opset})", reason, name)
        if self.guessed is None:
            outer = captured(self.proto)
            known = {n: v.type for n, v in self.values.items() if not self.prefix or n in outer}
            self.guessed = {}
            kinds = placeholder_types(self.context.model, self.context.schemas, self._nodes, known)
            for output, kind in kinds.items():
                if output not in self.values:
                    self.guessed[output] = self._placeholder(output, kind)
        for output in node.output:
            if output in self.guessed:
                self.values[output] = self.guessed[output]
        self._made.update(node.output)


def deciding(graph: Graph, names: Sequence[str]) -> set[str]:
    """The inputs of a graph that decide these values: themselves, or inputs of integers that lead to them.

    An image does not count among the latter: what depends on one cannot be built in.
    """
    found = {value.name for value in graph.inputs if value.name in names}
    waiting = [value for node in graph.nodes for value in node.outputs if value.name in names]
    seen: set[Value] = set()
    leading: set[Value] = set()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.producer is not None:
            waiting.extend(v for v in value.producer.inputs if v is not None)
        elif graph.constant(value) is None:
            leading.add(value)
    if any(value.type.is_float and value.type.size > 1 for value in leading):
        return found
    return found | {value.name for value in leading}
