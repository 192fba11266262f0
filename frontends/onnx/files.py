"""Reading model files: from a path or a ModelProto to a model without weights and the weights as arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from convc.errors import ModelError, UnsupportedError
from convc.formats import MODEL, not_a
from convc.frontends.models import graph_of
from convc.frontends.onnx.structure import check_structure
from convc.frontends.onnx.tensors import tensor_array
from convc.ir import Graph
from convc.types import Array

ModelSource: TypeAlias = "str | os.PathLike[str] | onnx.ModelProto"


@dataclass(frozen=True)
class Model:
    """A model whose initialisers have been taken out: `proto` is small, `weights` share the file's bytes."""

    proto: onnx.ModelProto
    weights: dict[str, Array]
    name: str
    """How messages call the model: its file's name, or that of its graph."""
    folder: str | None
    """Where external data lie; None for a model in memory."""


def load(source: ModelSource) -> Model:
    """Read a model. Raises ModelError when the file is missing, truncated, not ONNX, or lacks data."""
    if isinstance(graph_of(source), Graph):
        raise ModelError("That is no ONNX model, but a Graph already.", hint="Use it as it is.")
    if isinstance(source, onnx.ModelProto):
        whole, folder = source, None
        name = source.graph.name or "model"
    else:
        path = os.fspath(source)
        whole, folder = _parse(path), os.path.dirname(os.path.abspath(path))
        name = os.path.basename(path)
    _check(whole, name, None if isinstance(source, onnx.ModelProto) else source)
    check_structure(whole, str(name))
    weights = weights_of(whole.graph, name, folder)
    proto = onnx.ModelProto()
    _copy_without_weights(whole, proto)
    return Model(proto, weights, name, folder)


def weights_of(graph: onnx.GraphProto, name: str, folder: str | None) -> dict[str, Array]:
    """The initialisers of a graph called `name`, as arrays. Raises ModelError and UnsupportedError."""
    if graph.sparse_initializer:
        raise UnsupportedError(f"'{name}' has sparse initialisers.", hint="Store them as dense tensors.")
    weights: dict[str, Array] = {}
    for tensor in graph.initializer:
        what = f"Initialiser '{tensor.name}' of '{name}'"
        if tensor.name in weights:
            raise ModelError(f"{what} occurs twice.")
        weights[tensor.name] = tensor_array(tensor, what, folder)
    return weights


def _parse(path: str) -> onnx.ModelProto:
    if not os.path.exists(path):
        raise ModelError(f"There is no file '{path}'.")
    if not os.path.isfile(path):
        raise ModelError(f"'{path}' is not a file.")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ModelError(f"'{path}' cannot be read: {error.strerror}.") from error
    if not data:
        raise ModelError(f"'{path}' is empty.", hint="Export or download the model again.")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        what, advice = not_a(path, MODEL)
        cut = "" if advice else f", or is truncated ({len(data)} bytes)"
        raise ModelError(f"{what}{cut}.", hint=advice or "Export or download the model again.") from error
    return proto


def _copy_without_weights(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    """Copy a model but for the initialisers of its graph, which may take gigabytes."""
    for descriptor, value in source.ListFields():
        if descriptor.name != "graph":
            _copy_field(target, descriptor, value)
    for descriptor, value in source.graph.ListFields():
        if descriptor.name not in ("initializer", "sparse_initializer"):
            _copy_field(target.graph, descriptor, value)


def _copy_field(target: object, descriptor: object, value: object) -> None:
    name = descriptor.name  # type: ignore[attr-defined]
    field = getattr(target, name)
    if hasattr(field, "MergeFrom"):
        field.MergeFrom(value)
    else:
        setattr(target, name, value)


def _check(proto: onnx.ModelProto, name: str, path: str | os.PathLike[str] | None) -> None:
    """Any file of a few bytes may parse as an empty message; a model has a graph and names its opset."""
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        what, advice = (f"'{name}' is not an ONNX model", "") if path is None else not_a(path, MODEL)
        raise ModelError(f"{what}: it contains no graph.", hint=advice or "Is it truncated?")
    if not proto.opset_import:
        raise ModelError(f"'{name}' does not say which opset it uses.", hint="Export the model again.")
