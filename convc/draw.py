"""Inputs to try a network with: random arrays that its operators can be expected to take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convc.dtype import DType
from convc.errors import InputError
from convc.ir import Graph, Node, Value, opdef
from convc.ir.traits import IntegerUse
from convc.runtime.manifest import TensorInfo
from convc.types import Array, Shape

Floats = Callable[[np.random.Generator, Shape], Array]

KINDS: tuple[Floats, ...] = (
    lambda rng, shape: rng.standard_normal(shape),
    lambda rng, shape: 8 * np.abs(rng.standard_normal(shape)),
    lambda rng, shape: 0.01 * rng.standard_normal(shape),
    lambda rng, shape: rng.uniform(0, 255, shape),  # as an image's bytes
)
"""Floating-point values: the usual ones, then others, for networks to which these all look alike."""

SMALL = 9
"""Largest magnitude of an integer of which nothing is known."""
EXPONENT = 3


@dataclass(frozen=True)
class Range:
    """Integers from `low` to `high` inclusive, perhaps without 0, of those that a dtype holds up to `most`.

    `fixed` ones are always drawn alike.
    """

    low: int
    high: int
    most: int
    index: bool = False
    nonzero: bool = False
    fixed: bool = False

    def draw(self, rng: np.random.Generator, shape: Shape) -> Array:
        values = rng.integers(self.low, max(self.high, self.low), shape, endpoint=True)
        return np.where(values == 0, self.high, values) if self.nonzero and self.high else values


def random_inputs(graph: Graph, seed: int = 0, kind: int = 0) -> dict[str, Array]:
    """Random arrays for a graph's inputs, by name.

    Floating-point values are of one of KINDS. Integers are in range where they index, not 0 where they
    divide, 0 to 255 where they are bytes, and else of both signs and small.
    """
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph.inputs:
        shape, dtype = value.type.shape, value.type.dtype
        if value.type.is_float:
            feeds[value.name] = KINDS[kind](rng, shape).astype(dtype)
        else:
            integers = integer_range(graph, value)
            own = np.random.default_rng(0) if integers.fixed else rng
            feeds[value.name] = integers.draw(own, shape).astype(dtype)
    return feeds


def several_inputs(graph: Graph, seed: int, given: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Inputs to try one after the other, of each of KINDS; only one where all are `given`."""
    check_given(graph, given)
    for kind in range(1 if len(given) == len(graph.inputs) else len(KINDS)):
        yield {**random_inputs(graph, seed + kind, kind), **given}


def check_given(graph: Graph, given: Mapping[str, Array]) -> None:
    """Raise InputError for arrays by input name that the graph cannot take."""
    known = {v.name: v.type for v in graph.inputs}
    for name, array in given.items():
        if name not in known:
            raise InputError(
                f"There is no input named '{name}' to verify with.",
                hint=f"The inputs are {', '.join(known)}.",
            )
        kind = known[name]
        if (array.shape, str(array.dtype)) != (kind.shape, kind.dtype):
            raise InputError(
                f"The array to verify input '{name}' with is {array.dtype}{list(array.shape)}; "
                f"the model takes {kind.dtype}{list(kind.shape)}."
            )


def random_feeds(inputs: Sequence[TensorInfo], seed: int = 0) -> dict[str, Array]:
    """Standard normal values for floating-point inputs, 0 and 1 for all others, which may be indices."""
    rng = np.random.default_rng(seed)

    def draw(info: TensorInfo) -> Array:
        floats = DType.of(info.dtype).is_float
        values: Any = rng.standard_normal(info.shape) if floats else rng.integers(0, 2, info.shape)
        return np.asarray(values).astype(info.dtype)

    return {info.name: draw(info) for info in inputs}


# ---- what integers are for


def _index(found: Range, graph: Graph, node: Node) -> Range:
    source = node.inputs[0]
    assert source is not None
    attrs: Any = node.attrs
    last = source.type.shape[attrs.axis] - 1
    return replace(found, low=0, high=min(found.high if found.index else found.most, last), index=True)


def _exponent(found: Range, graph: Graph, node: Node) -> Range:
    return replace(found, low=0, high=min(found.high, EXPONENT))


def _divisor(found: Range, graph: Graph, node: Node) -> Range:
    return replace(found, nonzero=True)


USES: dict[IntegerUse, Callable[[Range, Graph, Node], Range]] = {
    IntegerUse.INDEX: _index,
    IntegerUse.DIVISOR: _divisor,
    IntegerUse.EXPONENT: _exponent,
}
"""What an integer must be for such a use."""


def integer_range(graph: Graph, value: Value) -> Range:
    """The integers that an input may hold, as far as its readers tell.

    What is computed from an input may index as well; it is fixed then, so that one try stands for all.
    """
    found = _whole_range(value.type.dtype)
    indexing = ancestors(graph, indices(graph))
    pending, seen = [value], {value}
    while pending:
        read = pending.pop()
        for node in graph.users(read):
            for position, operand in enumerate(node.inputs):
                use = opdef(node.op).integers.get(position)
                if operand is read and use is not None:
                    found = USES[use](found, graph, node)
            moved = [v for v in node.outputs if v not in seen]
            if opdef(node.op).moves and not node.epilogue:
                pending += moved
                seen.update(moved)
            elif indexing.intersection(node.outputs):
                found = replace(found, fixed=True)
    return found


def indices(graph: Graph) -> list[Value | None]:
    """The values that index others."""
    return [
        node.inputs[position]
        for node in graph.nodes
        for position, use in opdef(node.op).integers.items()
        if use is IntegerUse.INDEX
    ]


def _whole_range(dtype: str) -> Range:
    if dtype == "bool":
        return Range(0, 1, 1)
    limits = np.iinfo(dtype)
    most = int(limits.max)
    return Range(0, most, most) if dtype == "uint8" else Range(max(-SMALL, int(limits.min)), SMALL, most)


def ancestors(graph: Graph, values: Sequence[Value | None]) -> set[Value]:
    """The values, and all that they are computed from."""
    found = {v for v in values if v is not None}
    for node in reversed(graph.nodes):
        if found.intersection(node.outputs):
            found.update(v for v in node.inputs if v is not None)
    return found
