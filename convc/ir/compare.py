"""Whether two graphs are equal: the same text, and the same bytes in their constants."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from convc.ir.graph import Graph
from convc.ir.printing import print_graph
from convc.types import Array


def difference(a: Graph, b: Graph) -> str:
    """The first line in which two graphs differ, or the empty string when they are equal.

    Equal means: the same names, inputs, nodes (operators, attributes, operands, epilogues, origins, types),
    outputs and constants, all in the same order.
    """
    for one, other in zip_longest(
        print_graph(a).splitlines(), print_graph(b).splitlines(), fillvalue="(nothing)"
    ):
        if one != other:
            return f"{one.strip()}\n  against\n{other.strip()}"
    arrays = {v.name: array for v, array in b.constants.items()}
    for value, array in a.constants.items():
        if not _same(array, arrays[value.name]):
            return f"The elements of constant %{value.name} differ."
    return ""


def equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs are equal; `difference` says where they are not."""
    return not difference(a, b)


def _same(a: Array, b: Array) -> bool:
    return a.tobytes() == b.tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
