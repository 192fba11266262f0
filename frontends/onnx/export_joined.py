"""An operator that a pass has joined is written in ONNX as what it was made from, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from convc.frontends.onnx.export_ops import EXPORTERS, exports
from convc.frontends.onnx.writer import Operator
from convc.ir import Attrs, opdef
from convc.ops.separable import Separable

Part = tuple[str, Attrs, tuple[int, ...]]
"""An operator, its attributes, and which inputs of the joined one follow the running value."""


@exports("conv_max_pool")
def conv_max_pool(op: Operator) -> None:
    """Conv, MaxPool."""
    conv, pool = op.attrs.halves()
    _sequence(op, [("conv", conv, (1, 2)), ("max_pool", pool, ())])


@exports("depthwise_pointwise")
def depthwise_pointwise(op: Operator) -> None:
    """Conv with groups, the steps between, Conv."""
    _separable(op, cast(Separable, opdef("depthwise_pointwise")))


@exports("pointwise_depthwise")
def pointwise_depthwise(op: Operator) -> None:
    """Conv, the steps between, Conv with groups."""
    _separable(op, cast(Separable, opdef("pointwise_depthwise")))


def _separable(op: Operator, definition: Separable) -> None:
    weights = op.types[1]
    assert weights is not None
    first, second = definition.halves(op.attrs, weights.shape[0])
    between: list[Part] = [(name, opdef(name).attrs(*arguments), ()) for name, arguments in op.attrs.between]
    _sequence(op, [("conv", first[0], first[1:]), *between, ("conv", second[0], second[1:])])


def _sequence(op: Operator, parts: Sequence[Part]) -> None:
    running, kind = op.inputs[0], op.types[0]
    for number, (what, attrs, constants) in enumerate(parts, 1):
        there = [i for i in constants if i < len(op.inputs) and op.types[i] is not None]
        inputs, types = [running, *(op.inputs[i] for i in there)], [kind, *(op.types[i] for i in there)]
        name = op.name if number == len(parts) else f"{op.name}/{number}.{what}"
        running = op.outputs[0] if number == len(parts) else op.writer.fresh(name)
        EXPORTERS[what](Operator(op.writer, attrs, inputs, types, [running], name))
        kind = opdef(what).infer(attrs, types)[0]
