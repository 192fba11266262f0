"""Writing a graph as an ONNX model, so that other engines can run it. Epilogues become plain nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convc.errors import UnsupportedError
from convc.frontends.models import HasGraph, own_graph
from convc.frontends.onnx import export_joined  # noqa: F401  (registers exporters)
from convc.frontends.onnx.export_ops import EXPORTERS
from convc.frontends.onnx.tensors import onnx_dtype
from convc.frontends.onnx.writer import Operator, Writer
from convc.ir import Attrs, Graph, Node, Value, opdef
from convc.types import Array, TensorType

OPSET = 21
IR_VERSION = 10
"""Both are read by onnxruntime 1.20 and later."""

_LARGEST = (1 << 31) - (1 << 20)
"""Bytes of weights: protobuf messages end at 2 GiB, and the nodes take some space too."""


def to_onnx(graph: Graph | HasGraph) -> onnx.ModelProto:
    """The network as an ONNX model of opset 21 that computes the same, whatever its layouts and epilogues.

    Raises UnsupportedError when its weights exceed the 2 GiB that a protobuf message holds.
    """
    graph = own_graph(graph)
    size = sum(a.nbytes for a in graph.constants.values())
    if size > _LARGEST:
        raise UnsupportedError(
            f"The weights of '{graph.name}' take {size / 2**30:.1f} GiB; an ONNX file holds at most 2 GiB.",
            hint="Export the network in parts.",
        )
    writer = GraphWriter(graph)
    for node in graph.nodes:
        writer.write(node)
    return writer.model()


class GraphWriter(Writer):
    """Writes the nodes of one graph; `names` maps the values of the IR to ONNX names."""

    def __init__(self, graph: Graph) -> None:
        super().__init__({value.name for value in graph.values()} | set(graph.output_names))
        self.graph = graph
        self.names = self._name_values()

    def _name_values(self) -> dict[Value, str]:
        """Names of values; a node's output that the graph returns takes the name that users know."""
        names: dict[Value, str] = {value: value.name for value in (*self.graph.inputs, *self.graph.constants)}
        users_names = set(self.graph.output_names)
        for value, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            if value not in names and name not in names.values():
                names[value] = name
        for value in self.graph.values():
            if value not in names:
                names[value] = self.fresh(value.name) if value.name in users_names else value.name
        return names

    def write(self, node: Node) -> None:
        """Append what a node computes: its operator, then one node for each step of its epilogue."""
        outputs = [self.names[v] for v in node.outputs]
        operands = [None if v is None else v.type for v in node.inputs]
        inputs = ["" if v is None else self.names[v] for v in node.inputs]
        last = len(node.epilogue)
        running = outputs[0] if not last else self.fresh(f"{node.name}/{node.op}")
        own = operands[: node.arity]
        self._operator(node.op, node.attrs, inputs[: node.arity], own, [running, *outputs[1:]], node.name)
        kind = opdef(node.op).infer(node.attrs, own)[0]
        for index, step in enumerate(node.epilogue, 1):
            name = f"{node.name}/{index}.{step.op}"
            result = outputs[0] if index == last else self.fresh(name)
            arguments: list[tuple[str, TensorType | None]] = [(running, kind)]
            if step.operand is not None:
                arguments.insert(0 if step.swapped else 1, (inputs[step.operand], operands[step.operand]))
            names, types = [a for a, _ in arguments], [t for _, t in arguments]
            self._operator(step.op, step.attrs, names, types, [result], name)
            running, kind = result, opdef(step.op).infer(step.attrs, types)[0]

    def _operator(
        self,
        op: str,
        attrs: Attrs,
        inputs: Sequence[str],
        types: Sequence[TensorType | None],
        outputs: Sequence[str],
        name: str,
    ) -> None:
        if op not in EXPORTERS:
            raise UnsupportedError(f"Layer '{name}': operator '{op}' has no ONNX form in convc.")
        EXPORTERS[op](Operator(self, attrs, inputs, types, outputs, name))

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        outputs = []
        for value, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            if self.names[value] != name:  # an input, a constant, or a value returned twice
                self.add("Identity", [self.names[value]], [name], f"return {name}")
            outputs.append(
                helper.make_tensor_value_info(name, onnx_dtype(value.type.dtype), value.type.shape)
            )
        inputs = [
            helper.make_tensor_value_info(v.name, onnx_dtype(v.type.dtype), v.type.shape)
            for v in self.graph.inputs
        ]
        arrays: Mapping[str, Array] = {
            **{value.name: array for value, array in self.graph.constants.items()},
            **self.constants,
        }
        tensors = [
            numpy_helper.from_array(np.ascontiguousarray(a).reshape(a.shape), n) for n, a in arrays.items()
        ]
        proto = helper.make_graph(self.nodes, self.graph.name, inputs, outputs, tensors)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION, producer_name="convc")
