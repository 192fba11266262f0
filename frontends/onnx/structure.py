"""Whether a model's messages are what the rest of the import may take for granted: texts, versions, depth."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from convc.errors import ModelError
from convc.frontends.onnx.limits import DEPTH, VERSION
from convc.frontends.onnx.order import graphs_of


def check_structure(model: onnx.ModelProto, name: str) -> None:
    """Raise ModelError for a model called `name` with versions beyond any that there will be, with names that
    are not UTF-8, or with graphs in graphs beyond the limit.
    """
    if not 0 <= model.ir_version <= VERSION:
        raise ModelError(
            f"'{name}' states version {model.ir_version} of the file format, which cannot be.",
            hint="The file is damaged; export the model again.",
        )
    for entry in model.opset_import:
        _check_texts(entry, ("domain",), f"The opsets of '{name}'")
        if entry.domain in ("", "ai.onnx") and not 0 < entry.version <= VERSION:
            raise ModelError(
                f"'{name}' states version {entry.version} of ONNX's operators, which cannot be.",
                hint="The file is damaged; export the model again.",
            )
    _check_graph(model.graph, f"'{name}'", 0)
    for function in model.functions:
        place = f"Function '{function.name!s}' of '{name}'"
        _check_texts(function, ("name", "domain", "input", "output", "attribute", "overload"), place)
        _check_nodes(function.node, place, 0)


def _check_graph(graph: onnx.GraphProto, place: str, depth: int) -> None:
    if depth > DEPTH:
        raise ModelError(f"{place} holds graphs inside nodes of graphs, more than {DEPTH} deep.")
    _check_texts(graph, ("name",), place)
    for info in (*graph.input, *graph.output):
        _check_texts(info, ("name",), f"An input or output of {place}")
        for dim in info.type.tensor_type.shape.dim:
            _check_texts(dim, ("dim_param",), f"The shape of '{info.name}' of {place}")
    for tensor in graph.initializer:
        _check_tensor(tensor, f"An initialiser of {place}")
    _check_nodes(graph.node, place, depth)


def _check_nodes(nodes: Iterable[onnx.NodeProto], place: str, depth: int) -> None:
    for index, node in enumerate(nodes):
        where = f"Node {index} of {place}"
        _check_texts(node, ("op_type", "name", "domain", "input", "output", "overload"), where)
        for attribute in node.attribute:
            _check_texts(attribute, ("name", "ref_attr_name"), f"An attribute of node {index} of {place}")
            if attribute.HasField("t"):
                _check_tensor(attribute.t, f"Attribute '{attribute.name}' of node {index} of {place}")
        for graph in graphs_of(node):
            _check_graph(graph, where, depth + 1)


def _check_tensor(tensor: onnx.TensorProto, place: str) -> None:
    _check_texts(tensor, ("name",), place)
    for entry in tensor.external_data:
        _check_texts(entry, ("key", "value"), place)


def _check_texts(message: object, fields: Iterable[str], place: str) -> None:
    """Text fields that are not UTF-8 are read as bytes."""
    for field in fields:
        value = getattr(message, field, "")
        for text in (value,) if isinstance(value, str | bytes) else value:
            if isinstance(text, bytes):
                raise ModelError(
                    f"{place} has the {field} {text!r}, which is not UTF-8.",
                    hint="The file is damaged; export the model again.",
                )
