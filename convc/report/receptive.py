"""Receptive fields through a whole graph, by the rules of its operators (`ir.fields`, `OpDef.receptive`).

A transposed convolution and a resize divide the jump; their fields can come out fractional, an average over
the positions of a pixel in its cell, and are rounded up. Reductions see the whole axis. Means and variances
that a normalisation takes over the image are not counted, and nothing is cut off at the image's border.
"""

from __future__ import annotations

from collections.abc import Sequence

from convc.ir.fields import Field, Fields, met
from convc.ir.graph import Graph, Node, Value
from convc.ir.opdef import opdef
from convc.types import TensorType


def receptive_fields(graph: Graph) -> dict[Value, Fields]:
    """The fields of every value. Each input's own pixels have field and jump 1, from axis 2 on."""
    known: dict[Value, Fields] = {v: (None,) * v.type.rank for v in graph.constants}
    for value in graph.inputs:
        known[value] = tuple(Field() if axis >= 2 else None for axis in range(value.type.rank))
    for node in graph.nodes:
        own = _own(node, [(v.type, known[v]) for v in node.operands if v is not None])
        for index, value in enumerate(node.outputs):
            joined = [(value.type.shape, own)]
            if index == 0:  # operands of the epilogue, such as the other branch of a residual sum
                joined += [(v.type.shape, known[v]) for v in node.inputs[node.arity :] if v is not None]
            known[value] = met(joined, value.type.shape)
    return known


def _own(node: Node, operands: Sequence[tuple[TensorType, Fields]]) -> Fields:
    """The fields of a node's outputs, without its epilogue."""
    shape = node.output.type.shape
    return opdef(node.op).receptive(node.attrs, operands, shape) if operands else (None,) * len(shape)
