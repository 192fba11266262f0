"""From an ONNX model to a graph: what is built in, inputs, nodes and outputs; refusals are collected."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import onnx

from convc.errors import ModelError, UnsupportedError, printable
from convc.frontends.models import shapes_of
from convc.frontends.onnx import functions
from convc.frontends.onnx.body import Body, Import
from convc.frontends.onnx.built_in import built_in
from convc.frontends.onnx.files import Model, ModelSource, load
from convc.frontends.onnx.findings import Findings
from convc.frontends.onnx.handlers import DOMAINS, NEWEST
from convc.frontends.onnx.inputs import input_types
from convc.frontends.onnx.limits import Allowance
from convc.frontends.onnx.schema import Schemas
from convc.ir import Graph, Value
from convc.types import Array

BUILT_IN_AT_MOST = 64
"""Elements of an input that a message proposes to build in: a size, a rate or a mode, not an image."""


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)


def read(
    source: ModelSource,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Any] | None = None,
    notice: Callable[[str], None] = _warn,
) -> Graph:
    """Import a model from a path or a ModelProto.

    `input_shapes` gives extents to open dimensions by input name; `constants` are inputs that are built in
    (numbers, lists or arrays), and so no longer inputs; `notice` is told of dimensions that are taken as 1
    without being asked, and of shapes that the model states wrongly. Raises ModelError for a file that is
    broken, UnsupportedError that names every node without code at once, OptionError for wrong `input_shapes`
    or `constants`, and TypeRuleError for nodes whose inputs do not fit.
    """
    importer = Importer(load(source), shapes_of(input_shapes), constants or {}, notice)
    graph = importer.run()
    if importer.findings.refused:
        raise UnsupportedError(
            f"'{importer.model.name}' cannot be compiled: {'; '.join(importer.findings.lines())}.",
            hint=importer.advice(),
        )
    return graph


def check(
    source: ModelSource,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Findings:
    """What `read` would find unsupported, without raising; other faults raise as there."""
    importer = Importer(load(source), shapes_of(input_shapes), constants or {}, lambda message: None)
    importer.run()
    return importer.findings


def constant_inputs(source: ModelSource, constants: Mapping[str, Any]) -> dict[str, Array]:
    """What `read` builds in for these `constants`, as arrays of the types that the model states."""
    return built_in(load(source).proto.graph.input, constants) if constants else {}


class Importer:
    """The state of one import: the graph under construction and the IR value of each ONNX name."""

    def __init__(
        self,
        model: Model,
        input_shapes: Mapping[str, tuple[int, ...]],
        constants: Mapping[str, Any],
        notice: Callable[[str], None],
    ) -> None:
        self.model = model
        self._listener = notice
        self.findings = Findings()
        self.proto = functions.inlined(model.proto, model.name)
        self.graph = Graph(self.proto.graph.name or "graph")
        self.values: dict[str, Value] = {}
        declared = self.proto.graph.input
        if len({info.name for info in declared}) < len(declared):
            raise ModelError(f"Two inputs of '{model.name}' have the same name.")
        self.weights = {**model.weights, **built_in(declared, constants)}
        infos = [info for info in declared if info.name not in self.weights]
        given = {name: shape for name, shape in input_shapes.items() if name not in constants}
        self.types = input_types(infos, given, self.notice)

    def notice(self, text: str) -> None:
        """Tell the caller, on one line."""
        self._listener(printable(text))

    def run(self) -> Graph:
        """Import inputs, weights, nodes and outputs, in this order."""
        for name, kind in self.types.items():
            self.values[name] = self.graph.add_input(name, kind)
        for name, array in self.weights.items():
            self.values[name] = self.graph.add_constant(name, array)
        context = Import(
            self.graph,
            self.proto,
            _opset(self.model),
            Schemas(self.proto),
            self.findings,
            Allowance(sum(array.nbytes for array in self.weights.values())),
            self.model.folder,
        )
        Body(context, self.proto.graph, self.values).run()
        if not self.findings.refused:
            self._outputs()
            self._prune()
        return self.graph

    def advice(self) -> str:
        """What to do about refusals."""
        small = [name for name, kind in self.types.items() if kind.size <= BUILT_IN_AT_MOST]
        wanted = [name for name in small if name in self.findings.wanted]
        if wanted:
            typed = " ".join(f"--constant {name}=VALUE" for name in wanted)
            return (
                f"Where an input's value is known, build it in: {typed} (in Python constants={{...}}). "
                "Else export these parts in another form, or cut the model before them."
            )
        return (
            "Export these parts in another form, or cut the model before them; "
            "'convc check' lists what is supported."
        )

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
