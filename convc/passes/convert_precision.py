"""Another floating-point format for all that lies between a graph's inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.dtype import FLOAT16, FLOAT32, DType
from convc.ir import Graph, Node, Value
from convc.ops.unary import CastAttrs
from convc.passes.base import Changes, Pass

SINGLE = FLOAT32


@dataclass(frozen=True)
class ConvertPrecision(Pass):
    """Tensors of `source` become tensors of `dtype`; casts at inputs and outputs keep the graph's signature.

    From float32 to half, constants are rounded once. What each operator does with its operands is up to its
    lowering: kernels sum and finish in float32.

    From float16 to float32, a model in half is computed as one in float32 is, with the same algorithms at the
    same speed, and rounds at its outputs alone. Where the model itself casts numbers of another format to
    float16, they are rounded as it says, and what reads them reads float32.
    """

    name: ClassVar[str] = "convert-precision"
    dtype: str = FLOAT16
    source: str = SINGLE

    def run(self, graph: Graph) -> Changes:
        changes = Changes()
        outputs = [(v, v.type.dtype) for v in graph.outputs]
        rounding = {node for node in graph.nodes if self._rounds(node)}
        entering = [v for v in graph.inputs if v.type.dtype == self.source]
        entering += [node.output for node in graph.nodes if node in rounding]
        for node in graph.nodes:
            if node in rounding:
                continue
            if isinstance(node.attrs, CastAttrs) and node.attrs.dtype == self.source:
                graph.set_attrs(node, replace(node.attrs, dtype=self.dtype))
            if [value for value in node.outputs if self._convert(graph, value)]:
                changes.did(node, f"stores {self.dtype}")
        for value in graph.constants:
            self._convert_constant(graph, value)
        for value in entering:
            if graph.users(value):
                self._cast_for_readers(graph, value)
        restored = {v: self._restored(graph, v, dtype) for v, dtype in dict(outputs).items()}
        graph.set_outputs([restored[v] for v, _ in outputs], graph.output_names)
        return changes

    def _rounds(self, node: Node) -> bool:
        """Whether a node is a cast of the model's to `source` whose rounding `dtype` would not do."""
        if not isinstance(node.attrs, CastAttrs) or node.attrs.dtype != self.source:
            return False
        (given,) = node.inputs
        assert given is not None
        return (
            given.type.dtype != self.source and DType.of(self.dtype).rounding < DType.of(self.source).rounding
        )

    def _convert(self, graph: Graph, value: Value) -> bool:
        if value.type.dtype != self.source:
            return False
        graph.set_dtype(value, self.dtype)
        return True

    def _convert_constant(self, graph: Graph, value: Value) -> None:
        array = graph.constant(value)
        if array is None or value.type.dtype != self.source or not graph.users(value):
            return
        converted = graph.add_constant(f"{value.name}:{self.dtype}", array.astype(DType.of(self.dtype).numpy))
        for node in graph.users(value):
            graph.set_inputs(node, [converted if v is value else v for v in node.inputs])
        if not graph.is_output(value):
            graph.remove_constant(value)

    def _cast_for_readers(self, graph: Graph, value: Value) -> None:
        readers = graph.users(value)
        cast_node = graph.add(
            "cast",
            [value],
            CastAttrs(self.dtype),
            name=f"{value.name}:{self.dtype}",
            before=next(node for node in graph.nodes if node in readers),
        )
        for node in readers:
            graph.set_inputs(node, [cast_node.output if v is value else v for v in node.inputs])

    def _restored(self, graph: Graph, value: Value, dtype: str) -> Value:
        if value.type.dtype == dtype:
            return value
        # Without an origin, so that an algorithm for the layer before is not asked of this one.
        return graph.add("cast", [value], CastAttrs(dtype), name=f"{value.name}:{dtype}").output
