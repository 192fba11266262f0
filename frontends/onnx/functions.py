"""Functions of a model: operators that it defines by others, put in place of each call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from convc.errors import ModelError
from convc.frontends.onnx.limits import CALLS, EXPANDED_BYTES, NODES, VERSION
from convc.frontends.onnx.order import graphs_of

Key: TypeAlias = "tuple[str, str, str]"
"""Domain, operator and overload, by which a node calls a function."""


@dataclass(frozen=True)
class _Size:
    """What a list of nodes comes to once its calls are expanded; how many calls lie inside each other."""

    nodes: int
    bytes: int
    depth: int


def inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model without functions of its own. Weights must have been taken out: the inliner copies all.

    Functions that use other opsets than the model are converted where ONNX can. Raises ModelError when a
    function of the model called `name` calls itself or is called wrongly, or when what results is too large.
    """
    if not model.functions:
        return model
    sizes = _sizes(model, name)
    whole = _size(model.graph.node, sizes)
    if whole.nodes > NODES or whole.bytes > EXPANDED_BYTES or whole.depth > CALLS:
        raise ModelError(
            f"The functions of '{name}' expand to {whole.nodes} nodes, {whole.bytes >> 20} MiB and "
            f"{whole.depth} calls inside each other; convc takes {NODES}, {EXPANDED_BYTES >> 20} and {CALLS}."
        )
    try:
        return onnx.inliner.inline_local_functions(model, convert_version=True)
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError, DecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"The functions of '{name}' cannot be expanded: {reason}") from error


def _sizes(model: onnx.ModelProto, name: str) -> dict[Key, _Size]:
    """The size of each function, from those that call none upward."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    calls = nx.DiGraph()
    calls.add_nodes_from(functions)
    for key, function in functions.items():
        for entry in function.opset_import:
            if not 0 < entry.version <= VERSION:
                raise ModelError(
                    f"Function '{function.name}' of '{name}' states version {entry.version} of the operators "
                    f"of domain '{entry.domain}', which cannot be."
                )
        calls.add_edges_from(
            (key, called) for called in map(_called, _nodes(function.node)) if called in functions
        )
    if not nx.is_directed_acyclic_graph(calls):  # onnx's inliner crashed on these before 1.20
        (domain, op_type, _), _ = nx.find_cycle(calls)[0]
        raise ModelError(f"Function '{op_type}' of domain '{domain}' in '{name}' calls itself.")
    sizes: dict[Key, _Size] = {}
    for key in reversed(list(nx.topological_sort(calls))):
        sizes[key] = _size(functions[key].node, sizes)
    return sizes


def _called(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type, node.overload


def _nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those in graphs that they hold."""
    for node in nodes:
        yield node
        for graph in graphs_of(node):
            yield from _nodes(graph.node)


def _size(nodes: Sequence[onnx.NodeProto], sizes: dict[Key, _Size]) -> _Size:
    count, total, depth = 0, sum(node.ByteSize() for node in nodes), 0
    for node in _nodes(nodes):
        size = sizes.get(_called(node), _Size(1, 0, 0))
        count, total = count + size.nodes, total + size.bytes
        depth = max(depth, size.depth + (_called(node) in sizes))
    return _Size(count, total, depth)
