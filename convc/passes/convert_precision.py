"""Half precision: every float32 tensor between the graph's inputs and outputs becomes float16 or bfloat16."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convc.ir import Graph, Value
from convc.ops.unary import CastAttrs
from convc.passes.base import Changes, Pass
from convc.types import numpy_dtype

SINGLE = "float32"


@dataclass(frozen=True)
class ConvertPrecision(Pass):
    """Store tensors as `dtype`; casts at the graph's inputs and outputs keep its signature.

    Constants are rounded once, from float32. What each operator does with its operands is up to its lowering:
    kernels sum and finish in float32.
    """

    name: ClassVar[str] = "convert-precision"
    dtype: str = "float16"

    def run(self, graph: Graph) -> Changes:
        changes = Changes()
        outputs = [(v, v.type.dtype) for v in graph.outputs]
        nodes = graph.nodes
        for node in nodes:
            if isinstance(node.attrs, CastAttrs) and node.attrs.dtype == SINGLE:
                graph.set_attrs(node, replace(node.attrs, dtype=self.dtype))
            if [value for value in node.outputs if self._convert(graph, value)]:
                changes.did(node, f"stores {self.dtype}")
        for value in graph.constants:
            self._round(graph, value)
        for value in graph.inputs:
            if value.type.dtype == SINGLE and graph.users(value):
                self._narrow(graph, value)
        restored = {v: self._restored(graph, v, dtype) for v, dtype in dict(outputs).items()}
        graph.set_outputs([restored[v] for v, _ in outputs], graph.output_names)
        return changes

    def _convert(self, graph: Graph, value: Value) -> bool:
        if value.type.dtype != SINGLE:
            return False
        graph.set_dtype(value, self.dtype)
        return True

    def _round(self, graph: Graph, value: Value) -> None:
        array = graph.constant(value)
        if array is None or value.type.dtype != SINGLE or not graph.users(value):
            return
        rounded = graph.add_constant(f"{value.name}:{self.dtype}", array.astype(numpy_dtype(self.dtype)))
        for node in graph.users(value):
            graph.set_inputs(node, [rounded if v is value else v for v in node.inputs])
        if not graph.is_output(value):
            graph.remove_constant(value)

    def _narrow(self, graph: Graph, value: Value) -> None:
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
