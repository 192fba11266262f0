"""Readers that keep a part of a map's positions: what is left is then judged by its own size.

An error relative to the largest value of a map says little of a crop that does not hold that value, or of a
map that a mask has taken it from.
"""

from __future__ import annotations

import math

from convc.ir import Graph, Node, Value, opdef
from convc.types import Array


def part_reader(graph: Graph, node: Node) -> str | None:
    """Who keeps a part of the positions of a node's first output, as part of a sentence; None if nobody."""
    if node.output.type.rank < 3:
        return None
    for step in node.epilogue:
        operand = None if step.operand is None else node.inputs[step.operand]
        if opdef(step.op).zeroed_by and _masks(graph.constant(operand), node.output.type.rank):
            return f"a mask behind '{node.name}'"
    pending, seen = [node.output], {node.output}
    while pending:
        value = pending.pop()
        for user in graph.users(value):
            if _keeps_part(graph, user, value):
                return f"'{user.name}' ({user.op})"
            if opdef(user.op).elementwise and user.output not in seen:
                seen.add(user.output)
                pending.append(user.output)
    return None


def _keeps_part(graph: Graph, user: Node, value: Value) -> bool:
    if opdef(user.op).moves and any(_positions(v) < _positions(value) for v in user.outputs):
        return True
    operands = (user.inputs[i] for i in opdef(user.op).zeroed_by if i < len(user.inputs))
    return any(_masks(graph.constant(v), value.type.rank) for v in operands)


def _positions(value: Value) -> float:
    """How many a map has; unlimited for what is no map."""
    return math.prod(value.type.shape[2:]) if value.type.rank > 2 else math.inf


def _masks(array: Array | None, rank: int) -> bool:
    """Whether a factor of maps of that rank is zero at some positions, in all channels, and not at others."""
    if array is None or array.size == 1 or array.ndim > rank:
        return False
    kept = (array != 0).reshape((1,) * (rank - array.ndim) + array.shape).any(axis=(0, 1))
    return bool(kept.any() and not kept.all())
