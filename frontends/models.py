"""What may stand for a network where Python is asked for one: a path, an ONNX model, a Graph, a Network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

from convc.errors import ModelError, OptionError
from convc.ir import Graph
from convc.types import Shape


class HasGraph(Protocol):
    """A Network, whose graph is known when it is finished."""

    @property
    def graph(self) -> Graph: ...


def own_graph(network: Graph | HasGraph) -> Graph:
    """The Graph of a Graph or a finished Network. Raises ModelError for anything else."""
    graph = network if isinstance(network, Graph) else getattr(network, "graph", None)
    if not isinstance(graph, Graph):
        raise ModelError(
            f"A convc Graph or Network is needed here, not {_described(network)}.",
            hint="convc.read_onnx makes a Graph from an ONNX model.",
        )
    return graph


def graph_of(model: Any, input_shapes: Mapping[str, Shape] | None = None) -> Any:
    """The Graph of a Graph or a finished Network; any other model as it was given, for the importer.

    Raises ModelError for what is no model, GraphError for a Network that has no output, and OptionError for
    shapes other than those of the Graph.
    """
    if isinstance(model, Graph) or isinstance(getattr(model, "graph", None), Graph):
        graph = own_graph(model)
        _same_shapes(graph, shapes_of(input_shapes))
        return graph
    if isinstance(model, str | os.PathLike) or type(model).__name__ == "ModelProto":
        return model
    raise ModelError(
        "A model is the path of an ONNX file, an onnx.ModelProto, or a convc Graph or Network, not "
        f"{_described(model)}.",
        hint=_ADVICE.get(_library(model), ""),
    )


def shapes_of(input_shapes: Any) -> dict[str, Shape]:
    """`input_shapes` with tuples of Python integers as shapes. Raises OptionError where they are none."""
    if not isinstance(input_shapes, Mapping | None):
        raise OptionError(
            f"input_shapes= is {input_shapes!r}, not a shape for each name.",
            hint='For instance input_shapes={"image": (1, 3, 224, 224)}.',
        )
    return {name: _shape(name, given) for name, given in (input_shapes or {}).items()}


def _shape(name: str, given: Any) -> Shape:
    try:
        return tuple(int(n.__index__()) for n in given)
    except (TypeError, AttributeError):
        raise OptionError(
            f"input_shapes= gives '{name}' the shape {given!r}.",
            hint="A shape is a sequence of integers, for instance (1, 3, 224, 224).",
        ) from None


def _same_shapes(graph: Graph, given: Mapping[str, Shape]) -> None:
    own = {value.name: value.type.shape for value in graph.inputs}
    for name, shape in given.items():
        if name not in own:
            raise OptionError(
                f"input_shapes= names '{name}', which is no input of '{graph.name}'.",
                hint=f"Its inputs are {', '.join(own) or 'none'}.",
            )
        if shape != own[name]:
            raise OptionError(
                f"input_shapes= gives '{name}' the shape {shape}, but in a Graph or Network it is fixed: "
                f"{own[name]}.",
                hint="Build the network for the other shape, or read the ONNX file with it: "
                "convc.read_onnx(path, input_shapes=...).",
            )


def _library(model: Any) -> str:
    """The package that an object's class, or one of its bases, is from, or its name if it is Python's own."""
    names = (n for base in type(model).__mro__ for n in (base.__module__.partition(".")[0], base.__name__))
    return next((name for name in names if name in _ADVICE), "")


_ADVICE = {
    "bytes": "onnx.load_from_string(data) reads a model from them.",
    "torch": "Export it: torch.onnx.export(model, (example,), 'model.onnx').",
    "tensorflow": "Convert it with tf2onnx.",
    "keras": "Convert it with tf2onnx, or model.export('model.onnx', format='onnx').",
    "jax": "Convert it with jax2onnx.",
    "onnxruntime": "Give the path of the file that the session was made from.",
}


def _described(model: Any) -> str:
    kind = type(model)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return "None" if model is None else f"an object of {name}"
