"""The nodes of an ONNX graph: their names, what they read, and an order in which they can be computed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import onnx


def unique_names(nodes: Sequence[onnx.NodeProto], prefix: str = "") -> list[str]:
    """A name for each node: its own, or operator and position behind `prefix`; made unique by a suffix."""
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    for index, node in enumerate(nodes):
        base = node.name or f"{prefix}{node.op_type}_{index}"
        name = base
        while name in names:
            counts[base] = counts.get(base, 0) + 1
            name = f"{base}.{counts[base]}"
        names[name] = None
    return list(names)


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds: branches of an If, bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, those included that graphs inside it take from around it."""
    found = {name for name in node.input if name}
    for graph in graphs_of(node):
        found |= captured(graph)
    return found


def captured(graph: onnx.GraphProto) -> set[str]:
    """The values that a graph takes from around it, its own outputs included where it does not make them."""
    own = {info.name for info in (*graph.input, *graph.initializer)}
    wanted = {output.name for output in graph.output}
    for node in graph.node:
        wanted |= reads(node)
        own.update(node.output)
    return wanted - own


def computable(nodes: Sequence[onnx.NodeProto]) -> list[int]:
    """The positions of the nodes, each after those whose results it reads; as they are where that is free.

    Nodes on a cycle come last, in the order in which they are.
    """
    makers = {output: i for i, node in reversed(list(enumerate(nodes))) for output in node.output if output}
    needs = [{makers[name] for name in reads(node) if name in makers} for node in nodes]
    if all(max(before, default=-1) < i for i, before in enumerate(needs)):
        return list(range(len(nodes)))
    users: list[list[int]] = [[] for _ in nodes]
    for i, before in enumerate(needs):
        for maker in before:
            users[maker].append(i)
    missing = [len(before) for before in needs]
    ready = [i for i, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for user in users[order[-1]]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, user)
    return [*order, *(i for i, count in enumerate(missing) if count)]
