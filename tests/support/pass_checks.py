"""How passes are tested: the text before and after, and equal results on random inputs."""

from __future__ import annotations

import re
from textwrap import dedent

import numpy as np

import convc.ops  # noqa: F401  (fills the registry)
from convc.evaluate import evaluate, evaluate_values
from convc.ir import Graph, difference, opdef, parse_graph, print_graph, verify
from convc.passes.base import Changes, Pass
from convc.types import Array

CONV = "{strides=(1, 1), dilations=(1, 1), pads=((0, 0), (0, 0))}"
PADDED = "{strides=(1, 1), dilations=(1, 1), pads=((1, 1), (1, 1))}"

NORM = """
const %gamma : float32[2] = [2.0, 3.0]
const %beta : float32[2] = [1.0, -1.0]
const %mean : float32[2] = [0.5, 1.0]
const %var : float32[2] = [0.75, 3.75]
"""  # with epsilon 0.25 the factors are 2 and 1.5, the summands 0 and -2.5


def norm(before: str, after: str = "x") -> str:
    """A statement: `after` is the batch norm of `before`."""
    return f"{after} : float32[1,2,3,3] = batch_norm(%{before}, %gamma, %beta, %mean, %var) {{epsilon=0.25}}"


def graph_of(statements: str, constants: dict[str, Array] | None = None) -> Graph:
    """A verified graph of these statements."""
    graph = parse_graph(f'graph "test" {{\n{dedent(statements)}\n}}', constants)
    verify(graph)
    return graph


def text_of(graph: Graph) -> str:
    """A graph's statements, one a line, without indentation."""
    return "\n".join(line.strip() for line in print_graph(graph).splitlines()[1:-1])


def random_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Normal numbers, or integers from 0 to 3, for each input, in its dtype."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for value in graph.inputs:
        shape, kind = value.type.shape, value.type
        array = rng.standard_normal(shape) if kind.is_float else rng.integers(0, 4, shape)
        inputs[value.name] = array.astype(kind.dtype)
    return inputs


def rounding_bound(graph: Graph, inputs: dict[str, Array], eps: float) -> float:
    """How far results can be off when every constant and every operation is rounded to `eps`.

    With n the most operations on any way through the graph (sums counted term by term) and m the largest
    number met, each of n roundings is at most eps times a sum of n products of two such numbers.
    """
    terms, largest = 4, 1.0
    for array in (*graph.constants.values(), *inputs.values()):
        largest = max(largest, float(np.abs(array).max(initial=0)) if array.dtype.kind == "f" else 1.0)
    for node, arrays in evaluate_values(graph, inputs):
        types = [None if v is None else v.type for v in node.operands]
        cost = opdef(node.op).cost(node.attrs, types, [v.type for v in node.outputs])
        terms += (
            -(-(cost.multiply_adds + cost.other) // max(1, node.output.type.size)) + len(node.epilogue) + 2
        )
        largest = max(largest, *(float(np.abs(a).max(initial=0)) for a in arrays if a.dtype.kind == "f"), 1.0)
    return eps * terms * terms * largest * largest


def check_same_results(before: Graph, after: Graph, eps: float) -> None:
    """Both graphs compute the same on random inputs, up to rounding at `eps`; 0 asks for equal bits."""
    inputs = random_inputs(before)
    bound = rounding_bound(before, inputs, eps) if eps else 0.0
    for expected, found in zip(evaluate(before, inputs), evaluate(after, inputs), strict=True):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        error = np.abs(np.subtract(found, expected, dtype=np.float64)).max(initial=0)
        assert error <= bound, f"{error} is beyond {bound}"


def check_pass(
    step: Pass, before: str, after: str, *, constants: dict[str, Array] | None = None, exact: bool = False
) -> Changes:
    """Run a pass on `before`; compare with the text `after`, and the results on random inputs.

    The results are compared in float64 throughout (unless `exact`, which asks for equal bits), so that
    the tolerance is far below any wrong factor. A second run must change nothing.
    """
    graph = graph_of(before, constants)
    changes = step.run(graph)
    verify(graph)
    expected = "\n".join(line.strip() for line in after.strip().splitlines())
    assert text_of(graph) == expected
    assert changes, "the pass must say that it changed the graph"

    wide = re.sub("float32", "float32" if exact else "float64", before)
    reference, transformed = (graph_of(wide, _widened(constants, exact)) for _ in range(2))
    step.run(transformed)
    check_same_results(reference, transformed, 0.0 if exact else float(np.finfo(np.float64).eps))

    again = step.run(graph)
    assert not again, f"a second run changed: {again}"
    assert text_of(graph) == expected
    return changes


def check_refused(step: Pass, text: str, reason: str, constants: dict[str, Array] | None = None) -> None:
    """The pass leaves the graph as it is and gives a reason that matches the pattern `reason`."""
    graph = graph_of(text, constants)
    changes = step.run(graph)
    assert not changes, f"the pass changed: {changes}"
    assert difference(graph, graph_of(text, constants)) == ""
    reasons = [c.text for c in changes.refused]
    assert any(re.search(reason, r) for r in reasons), f"'{reason}' is not among {reasons}"


def check_untouched(step: Pass, text: str) -> None:
    """The pass has nothing to say about the graph."""
    graph = graph_of(text)
    assert list(step.run(graph)) == []
    assert difference(graph, graph_of(text)) == ""


def _widened(constants: dict[str, Array] | None, exact: bool) -> dict[str, Array] | None:
    if constants is None or exact:
        return constants
    return {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in constants.items()}
