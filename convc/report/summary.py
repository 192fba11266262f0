"""The layer table of a network, as papers print it: shapes, parameters, multiply-adds, receptive fields.

    rows = summary(graph)
    rich.print(render(rows, title="resnet50"))       # a table
    json.dumps(to_json(rows))                        # the same for programs

JSON: `{"layers": [...], "totals": {"layers", "parameters", "multiply_adds"}}`; a layer has

| key | meaning |
|---|---|
| `name` | the user's name of the layer (or of the input) |
| `op` | operator, `input` for the network's inputs |
| `epilogue` | operators that are computed within the layer, in order |
| `kernel`, `strides` | of a sliding window, one entry for each spatial axis; else `[]` |
| `output_shape` | logical shape of the first output, batch first |
| `parameters` | trained numbers that the layer is the first to read |
| `multiply_adds` | of one evaluation at this batch size |
| `receptive_field` | input pixels that reach one output pixel, on each spatial axis; `[]` without any |
| `stride` | input pixels between neighbouring output pixels (cumulative), below 1 after enlarging |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from convc.frontends.models import HasGraph, own_graph
from convc.ir.fields import Fields
from convc.ir.graph import Graph, Node, Value
from convc.ir.opdef import opdef
from convc.report.receptive import receptive_fields
from convc.types import Shape


@dataclass(frozen=True)
class LayerRow:
    """One line of the table; the fields are those of the JSON form."""

    name: str
    op: str
    output_shape: Shape
    parameters: int = 0
    multiply_adds: int = 0
    receptive_field: tuple[int, ...] = ()
    stride: tuple[Fraction, ...] = ()
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    epilogue: tuple[str, ...] = ()


def summary(graph: Graph | HasGraph) -> list[LayerRow]:
    """A row for each input, then one for each node, in order."""
    graph = own_graph(graph)
    fields = receptive_fields(graph)
    counted: set[Value] = set()
    rows = [_row(v.name, "input", v, fields[v]) for v in graph.inputs]
    for node in graph.nodes:
        types = [None if v is None else v.type for v in node.operands]
        definition = opdef(node.op)
        cost = definition.cost(node.attrs, types, [v.type for v in node.outputs])
        rows.append(
            _row(
                node.name,
                node.op,
                node.output,
                fields[node.output],
                parameters=_parameters(graph, node, counted),
                multiply_adds=cost.multiply_adds,
                epilogue=tuple(step.op for step in node.epilogue),
                **_window(node),
            )
        )
    return rows


def _row(name: str, op: str, value: Value, fields: Fields, **others: Any) -> LayerRow:
    seen = [f for f in fields if f is not None]
    size, jump = tuple(math.ceil(f.size) for f in seen), tuple(f.jump for f in seen)
    return LayerRow(name, op, value.type.shape, receptive_field=size, stride=jump, **others)


def _window(node: Node) -> dict[str, tuple[int, ...]]:
    types = [None if v is None else v.type for v in node.operands]
    window = opdef(node.op).window(node.attrs, types)
    if window is not None:
        return {"kernel": window.kernel, "strides": window.strides}
    if node.op == "conv_transpose" and types[1] is not None:
        return {"kernel": types[1].shape[2:], "strides": node.attrs.strides}  # type: ignore[attr-defined]
    return {}


def _parameters(graph: Graph, node: Node, counted: set[Value]) -> int:
    """Elements of the floating-point constants that no earlier layer reads.

    As PyTorch counts: a batch normalisation's mean and variance are statistics and not parameters. Nor is a
    single number with which an elementwise operator works, such as the 0.5 of an average.
    """
    total = 0
    statistics = [node.inputs[index] for index in opdef(node.op).statistics]
    for index, value in enumerate(node.inputs):
        if value is None or graph.constant(value) is None or value in counted or not value.type.is_float:
            continue
        elementwise = opdef(node.op).elementwise or index >= node.arity
        if value in statistics or (elementwise and value.type.size == 1):
            continue
        counted.add(value)
        total += value.type.size
    return total


def totals(rows: Sequence[LayerRow]) -> dict[str, int]:
    """`layers` (inputs not counted), `parameters` and `multiply_adds` of the whole network."""
    return {
        "layers": sum(row.op != "input" for row in rows),
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
    }


def to_json(rows: Sequence[LayerRow]) -> dict[str, Any]:
    """The table as plain values for `json.dumps`; the keys are explained above."""
    layers = []
    for row in rows:
        layer: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in vars(row).items()
        }
        layer["stride"] = [int(s) if s.denominator == 1 else float(s) for s in row.stride]
        layers.append(layer)
    return {"layers": layers, "totals": totals(rows)}


def render(rows: Sequence[LayerRow], title: str | None = None) -> Table:
    """The table for a terminal, with a line of totals. Equal extents of a square are written once."""
    total = totals(rows)
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        show_footer=True,
        padding=0,
        header_style="bold",
        footer_style="bold",
    )
    table.add_column("layer", f"{total['layers']} layers", overflow="fold")
    table.add_column("operation", overflow="fold")
    table.add_column("output", no_wrap=True)
    table.add_column("parameters", f"{total['parameters']:,}", justify="right", no_wrap=True)
    table.add_column("mult-adds", _scaled(total["multiply_adds"]), justify="right", no_wrap=True)
    table.add_column("field", justify="right", no_wrap=True)
    table.add_column("stride", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            _operation(row),
            "x".join(map(str, row.output_shape)),
            f"{row.parameters:,}" if row.parameters else "",
            _scaled(row.multiply_adds) if row.multiply_adds else "",
            _extents(row.receptive_field),
            _extents(row.stride),
        )
    return table


def show(graph: Graph | HasGraph) -> None:
    """Print the table of a network."""
    graph = own_graph(graph)
    Console().print(render(summary(graph), title=graph.name))


def _operation(row: LayerRow) -> str:
    """Operator, kernel, stride and epilogue: `conv 7x7 / 2 + relu`."""
    kernel = f" {'x'.join(map(str, row.kernel))}" if row.kernel else ""
    stride = f" / {_extents(row.strides)}" if set(row.strides) - {1} else ""
    return " + ".join((f"{row.op}{kernel}{stride}", *row.epilogue))


def _extents(numbers: Sequence[int | Fraction]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else "x".join(map(str, numbers))


def _scaled(count: int) -> str:
    """A count with a unit: 4.09 G, 118 M, 48.1 k."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
