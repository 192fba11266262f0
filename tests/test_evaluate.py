"""The float64 evaluation of graphs."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from cases import CASES, Case
from pass_checks import CONV, graph_of

from convc.errors import GraphError, InputError
from convc.evaluate import evaluate, evaluate_values
from convc.ir import opdef

CHAIN = """
input %x : float32[2,3]
const %c : float32[1,3] = [1.0, 2.0, 4.0]
%a : float32[2,3] = add(%x, %c) name "A"
%b : float32[2,3] = exp(%a) | sub(%x, .) | mul(., %c) | relu(.) name "B"
%k : int64[2] = argmax(%b) {axis=1, keepdims=False} name "K"
output %b
output %k
output %x
output %c
"""


def test_a_chain_by_hand():
    x = np.array([[1.0, -2.0, 0.5], [5.0, 40.0, -3.0]])
    b, k, x_out, c_out = evaluate(graph_of(CHAIN), {"x": x})
    c = np.array([1.0, 2.0, 4.0])
    expected = np.maximum((x - np.exp(x + c)) * c, 0)
    assert b.dtype == np.float64
    np.testing.assert_array_equal(b, expected)
    assert k.dtype == np.int64
    np.testing.assert_array_equal(k, expected.argmax(1))
    np.testing.assert_array_equal(x_out, x)
    np.testing.assert_array_equal(c_out, c[None])


def test_float32_inputs_are_widened():
    graph = graph_of(
        """
        input %x : float32[1,2]
        const %w : float32[2,1] = [1e8, 1.0]
        %y : float32[1,1] = matmul(%x, %w)
        output %y
        """
    )
    (y,) = evaluate(graph, {"x": np.ones((1, 2), np.float32)})
    assert y.item() == 1e8 + 1  # which float32 cannot hold


def test_convolution_with_epilogue():
    graph = graph_of(
        f"""
        input %x : float32[1,1,2,2]
        input %r : float32[1,2,1,1]
        const %w : float32[2,1,1,1] = [2.0, -1.0]
        %y : float32[1,2,2,2] = conv(%x, %w) {CONV} | add(., %r) | relu(.)
        output %y
        """
    )
    x, r = np.arange(4.0).reshape(1, 1, 2, 2), np.array([0.5, 2.0]).reshape(1, 2, 1, 1)
    (y,) = evaluate(graph, {"x": x, "r": r})
    np.testing.assert_array_equal(y[0, 0], 2 * x[0, 0] + 0.5)
    np.testing.assert_array_equal(y[0, 1], np.maximum(2 - x[0, 0], 0))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.op in ("split", "cast", "max_pool", "where", "gemm")], ids=str
)
def test_nodes_are_their_references(case: Case):
    arrays = [a if a is None or a.dtype.kind != "f" else a.astype(np.float64) for a in case.arrays()]
    expected = opdef(case.op).reference(case.attrs, arrays)
    for found, wanted in zip(evaluate(case.graph(), case.feeds()), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_keep_by_name_predicate_and_all():
    graph, inputs = graph_of(CHAIN), {"x": np.zeros((2, 3))}
    assert [n.name for n, _ in evaluate_values(graph, inputs)] == ["A", "B", "K"]
    assert [n.name for n, _ in evaluate_values(graph, inputs, ["K", "A"])] == ["A", "K"]
    assert [n.name for n, _ in evaluate_values(graph, inputs, lambda n: n.op == "exp")] == ["B"]


def test_values_are_dropped_after_their_last_reader():
    steps = "".join(f"%v{i} : float32[9] = neg(%{f'v{i - 1}' if i else 'x'})\n" for i in range(10))
    graph = graph_of(f"input %x : float32[9]\n{steps}output %v9")
    seen: list[weakref.ref[np.ndarray]] = []
    for _, (array,) in evaluate_values(graph, {"x": np.ones(9)}):
        assert sum(ref() is not None for ref in seen) <= 2  # the loop's own, and this node's input
        seen.append(weakref.ref(array))
    assert len(seen) == 10


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"The inputs given are \[\]; graph 'test' takes \['x'\]"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(1)}, r"given are \['x', 'y'\]"),
        ({"x": np.zeros((3, 2))}, r"Input 'x' has shape \(3, 2\); float32\[2,3\] is expected"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(InputError, match=message):
        evaluate(graph_of(CHAIN), inputs)


def test_a_failing_reference_names_the_node():
    graph = graph_of(
        """
        input %x : float32[2]
        input %i : int64[1]
        %y : float32[1] = gather(%x, %i) name "pick"
        output %y
        """
    )
    with pytest.raises(
        GraphError, match=r"The reference of <gather 'pick'> in graph 'test' failed: .*out of bounds"
    ):
        evaluate(graph, {"x": np.zeros(2), "i": np.array([5])})
