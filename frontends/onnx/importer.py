"""From an ONNX model to a graph: each node goes to its handler; what the handlers refuse is collected."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from convc.errors import ConvcError, ModelError, UnsupportedError
from convc.frontends.models import shapes_of
from convc.frontends.onnx import functions
from convc.frontends.onnx.call import Call, Refusal
from convc.frontends.onnx.files import Model, ModelSource, load
from convc.frontends.onnx.handlers import NEWEST, OLDEST, find, known_opset
from convc.frontends.onnx.inputs import input_types
from convc.frontends.onnx.placeholders import placeholder_types
from convc.ir import Graph, Value
from convc.types import DTYPES, Array

DOMAINS = ("", "ai.onnx")
"""The names of ONNX's own set of operators."""


@dataclass
class Findings:
    """What a model asks for: how often each operator occurs that convc compiles, and what it cannot."""

    supported: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """For (operator and opset, reason) the names of the nodes."""
    wanted: set[str] = field(default_factory=set)
    """Values computed at run time that operators need when the model is compiled."""

    def lines(self) -> list[str]:
        """One line for each thing that convc cannot compile."""
        return [
            f"{kind} {'nodes' if len(nodes) > 1 else 'node'} {', '.join(map(repr, nodes))}: {reason}"
            for (kind, reason), nodes in self.refused.items()
        ]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def read(
    source: ModelSource,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Array] | None = None,
    notice: Callable[[str], None] = _warn,
) -> Graph:
    """Import a model from a path or a ModelProto.

    `input_shapes` gives extents to open dimensions by input name; `constants` are inputs that are built in,
    and so no longer inputs; `notice` is told of dimensions that are taken as 1 without being asked, and of
    shapes that the model states wrongly. Raises ModelError for a file that is broken, UnsupportedError that
    names every node without code at once, OptionError for wrong `input_shapes`, and TypeRuleError for nodes
    whose inputs do not fit.
    """
    importer = Importer(load(source), shapes_of(input_shapes), constants or {}, notice)
    graph = importer.run()
    if importer.findings.refused:
        raise UnsupportedError(
            f"'{importer.model.name}' cannot be compiled: {'; '.join(importer.findings.lines())}.",
            hint="Export these parts in another form, or cut the model before them; "
            "'convc check' lists what is supported.",
        )
    return graph


def check(
    source: ModelSource,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Array] | None = None,
) -> Findings:
    """What `read` would find unsupported, without raising; other faults raise as there."""
    importer = Importer(load(source), shapes_of(input_shapes), constants or {}, lambda message: None)
    importer.run()
    return importer.findings


class Importer:
    """The state of one import: the graph under construction and the IR value of each ONNX name."""

    def __init__(
        self,
        model: Model,
        input_shapes: Mapping[str, tuple[int, ...]],
        constants: Mapping[str, Array],
        notice: Callable[[str], None],
    ) -> None:
        self.model = model
        self.weights = {**model.weights, **constants}
        for name, array in constants.items():
            if str(array.dtype) not in DTYPES:
                raise UnsupportedError(f"Input '{name}' of '{model.name}' has data type {array.dtype}.")
        self.notice = notice
        self.findings = Findings()
        self.opset = _opset(model)
        self.proto = functions.inlined(model.proto, model.name)
        self.graph = Graph(self.proto.graph.name or "graph")
        self.values: dict[str, Value] = {}
        self.guessed: dict[str, Value] | None = None
        infos = [info for info in self.proto.graph.input if info.name not in self.weights]
        given = {name: shape for name, shape in input_shapes.items() if name not in constants}
        self.types = input_types(infos, given, notice)
        if len(self.types) < len(infos):
            raise ModelError(f"Two inputs of '{model.name}' have the same name.")

    def run(self) -> Graph:
        """Import inputs, weights, nodes and outputs, in this order."""
        for name, kind in self.types.items():
            self.values[name] = self.graph.add_input(name, kind)
        for name, array in self.weights.items():
            self.values[name] = self.graph.add_constant(name, array)
        nodes = self.proto.graph.node
        read_names = {name for node in nodes for name in node.input}
        read_names.update(output.name for output in self.proto.graph.output)
        names = unique_names(nodes)
        makers = {out: name for node, name in zip(nodes, names, strict=True) for out in node.output}
        for node, name in zip(nodes, names, strict=True):
            try:
                self._node(node, name, read_names, makers)
            except (ConvcError, MemoryError) as error:
                if self.findings.refused:
                    continue  # after a refusal this may come from what stands in for its result, or from none
                if isinstance(error, MemoryError):
                    raise ModelError(f"Node '{name}' ({node.op_type}) asks for too much memory.") from error
                raise
        if not self.findings.refused:
            self._outputs()
            self._prune()
        return self.graph

    def _node(self, node: onnx.NodeProto, name: str, read_names: set[str], makers: Mapping[str, str]) -> None:
        what = f"Node '{name}' ({node.op_type})"
        for output in node.output:
            if output in self.values:
                raise ModelError(f"{what} makes '{output}', which exists already.")
        handler = None
        opset = known_opset(node.op_type, self.opset) if node.domain in DOMAINS else None
        if opset is None:
            reason = f"an operator of domain '{node.domain}'"
            if node.domain in DOMAINS:
                reason = f"its definition is another than in opsets {OLDEST} to {NEWEST}"
        else:
            handler, reason = find(node.op_type, opset), "convc has no code for this operator"
        if handler is None or opset is None:
            self._refuse(node, name, reason)
            return
        inputs = [self._operand(what, i, makers) if i else None for i in node.input]
        _check_schema(node, what, self.proto)
        used = frozenset(i for i, output in enumerate(node.output) if output and output in read_names)
        try:
            result = handler(Call(self.graph, node, name, opset, inputs, used))
        except Refusal as refusal:
            self._refuse(node, name, refusal.message)
            self.findings.wanted.update(refusal.wanted)
            return
        if isinstance(result, np.ndarray):
            result = [self.graph.add_constant(node.output[0], result)]
        self.values.update((o, value) for o, value in zip(node.output, result, strict=False) if o)
        self.findings.supported[node.op_type] += 1

    def _operand(self, what: str, name: str, makers: Mapping[str, str]) -> Value:
        if name in self.values:
            return self.values[name]
        if name in makers:
            raise ModelError(
                f"{what} reads '{name}' before node '{makers[name]}' has made it.",
                hint="The nodes are out of order, or form a cycle.",
            )
        raise ModelError(
            f"{what} reads '{name}', which is neither an input, an initialiser nor a node's output."
        )

    def _refuse(self, node: onnx.NodeProto, name: str, reason: str) -> None:
        """Note the refusal, and let inferred types stand in for the outputs so that all are found."""
        kind = f"{node.op_type} (opset {self.opset})"
        self.findings.refused.setdefault((kind, reason), []).append(name)
        if self.guessed is None:
            self.guessed = {}
            for output, type_ in placeholder_types(self.proto, self.values, self.types).items():
                if output not in self.values:
                    self.guessed[output] = self.graph.add_input(self.graph.fresh(output), type_)
        for output in node.output:
            if output in self.guessed:
                self.values[output] = self.guessed[output]

    def _outputs(self) -> None:
        outputs = [output.name for output in self.proto.graph.output]
        for name in outputs:
            if name not in self.values:
                raise ModelError(f"No node of '{self.model.name}' makes the output '{name}'.")
        if not outputs or len(set(outputs)) < len(outputs):
            raise ModelError(f"'{self.model.name}' must have outputs of different names, not {outputs}.")
        self.graph.set_outputs([self.values[name] for name in outputs], outputs)
        for output in self.proto.graph.output:
            self._compare(output)

    def _compare(self, stated: onnx.ValueInfoProto) -> None:
        """Say so when the model states another shape for an output than follows from its nodes."""
        tensor, found = stated.type.tensor_type, self.values[stated.name].type.shape
        extents = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
        if tensor.HasField("shape") and (
            len(extents) != len(found) or any(e not in (None, f) for e, f in zip(extents, found, strict=True))
        ):
            shown = ["?" if e is None else e for e in extents]
            self.notice(f"Output '{stated.name}' is stated as {shown} by the model; it is {list(found)}.")

    def _prune(self) -> None:
        for value in self.graph.constants:
            if not self.graph.users(value) and not self.graph.is_output(value):
                self.graph.remove_constant(value)


def _opset(model: Model) -> int:
    """The version of ONNX's operators that the model uses."""
    versions = [entry.version for entry in model.proto.opset_import if entry.domain in DOMAINS]
    return max(versions, default=NEWEST)


def unique_names(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """A name for each node: its own, or operator and position, made unique by a suffix."""
    names: dict[str, None] = {}
    for index, node in enumerate(nodes):
        base = node.name or f"{node.op_type}_{index}"
        name, suffix = base, 1
        while name in names:
            name, suffix = f"{base}.{suffix}", suffix + 1
        names[name] = None
    return list(names)


def _check_schema(node: onnx.NodeProto, what: str, model: onnx.ModelProto) -> None:
    """Let onnx's own checker compare a node with the operator's schema."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    try:
        onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{what}: {str(error).splitlines()[0]}") from error
