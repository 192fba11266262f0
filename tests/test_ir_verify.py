"""The verifier: each broken invariant is found, and the message names the node."""

from __future__ import annotations

import numpy as np
import pytest
from pass_checks import CONV, graph_of

from convc.errors import GraphError
from convc.ir import Attrs, Graph, Node, Step, Value, verify
from convc.types import TensorType

TEXT = f"""
input %x : float32[1,2,3,3]
const %w : float32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
%y : float32[1,2,3,3] = conv(%x, %w, _) {CONV} | add(., %x) | relu(.) name "first"
%z : float32[1,2,3,3] = add(%y, %x) name "second"
output %z
"""


@pytest.fixture
def graph() -> Graph:
    return graph_of(TEXT)


def broken(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify(graph)


def test_a_good_graph_passes(graph):
    verify(graph)


def test_order(graph):
    graph.move(graph.node("second"), before=graph.nodes[0])
    broken(graph, "<add 'second'> reads %y, which no input, constant or earlier node provides. Sort")
    graph.sort()
    verify(graph)


def test_foreign_value(graph):
    graph.set_inputs(graph.node("second"), [graph.inputs[0], Value("stray", TensorType((1, 2, 3, 3)))])
    broken(graph, "<add 'second'> reads %stray")


def test_recorded_type(graph):
    graph.node("first").output.type = TensorType((1, 2, 3, 4))
    broken(
        graph, r"<conv 'first'> records float32\[1,2,3,4\]; by the rule of conv it makes float32\[1,2,3,3\]"
    )


def test_recorded_dtype(graph):
    graph.node("second").output.type = TensorType((1, 2, 3, 3), "float16")
    broken(graph, "<add 'second'> records float16")


def test_type_rule(graph):
    node = graph.node("first")
    w = graph.add_constant("v", np.zeros((2, 3, 1, 1), np.float32))
    graph.set_inputs(node, [node.inputs[0], w, *node.inputs[2:]])
    broken(graph, "<conv 'first'>: .* has 2 channels")


def test_attributes_of_another_operator(graph):
    graph.set_attrs(graph.node("first"), Attrs())
    broken(graph, r"<conv 'first'> has Attrs\(\); conv takes ConvAttrs")


def test_number_of_inputs(graph):
    node = graph.node("second")
    graph.set_inputs(node, node.inputs[:1], 1)
    broken(graph, "<add 'second'> has 1 inputs; add takes 2 to 2")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 2, 3, 3), r"the step 'add' turns float32\[1,2,3,3\] into float32\[2,2,3,3\]"),
        ((1, 1, 2, 3, 3), r"turns float32\[1,2,3,3\] into float32\[1,1,2,3,3\]"),
        ((1, 3, 1, 1), "<conv 'first'>, step 'add': Shapes .* do not broadcast"),
    ],
)
def test_operand_of_a_step_enlarges(graph, shape, message):
    node = graph.node("first")
    operand = graph.add_constant("r", np.zeros(shape, np.float32))
    graph.set_inputs(node, [*node.inputs[:3], operand])
    broken(graph, message)


def test_step_changes_the_dtype(graph):
    node = graph.node("first")
    node.epilogue = (Step("greater", operand=3),)
    broken(graph, "<conv 'first'>: the step 'greater' turns .* into bool")


def test_step_is_not_elementwise(graph):
    node = graph.node("first")
    node.epilogue = (*node.epilogue, Step("softmax"))
    broken(graph, "<conv 'first'>: the step 'softmax' is not an elementwise operator")


@pytest.mark.parametrize("operands", [(), (2,), (3, 3), (4,)])
def test_each_operand_has_one_step(graph, operands):
    graph.node("first").epilogue = tuple(Step("add", operand=i) for i in operands)
    broken(graph, r"<conv 'first'>: the epilogue uses inputs .*; its operands are inputs 3 to 3")


def test_operand_is_missing(graph):
    node = graph.node("first")
    graph.set_inputs(node, [*node.inputs[:3], None])
    broken(graph, "<conv 'first'>: the operand of the step 'add' is missing")


def test_users(graph):
    graph._users[graph.inputs[0]].pop(graph.node("second"))
    broken(graph, r"users says that %x is read by \[<conv 'first'>\]; it is read by \[<conv 'first'>, <add")


def test_producer(graph):
    node = graph.node("first")
    node.output.producer = graph.node("second")
    broken(graph, "%y, an output of <conv 'first'>, is made by <add 'second'>")


def test_input_with_a_producer(graph):
    graph.inputs[0].producer = graph.node("second")
    broken(graph, "%x is an input or constant, but also made by <add 'second'>")


def test_constant_and_its_type(graph):
    (value,) = graph.constants
    graph._constants[value] = np.zeros((2, 2, 1, 1))
    broken(graph, r"Constant %w : float32\[2,2,1,1\] holds an array of float64 \(2, 2, 1, 1\)")


def test_unknown_output(graph):
    graph.set_outputs([Value("lost", TensorType((1,)))])
    broken(graph, "The graph returns %lost, which none of its nodes makes")


def test_names_of_values(graph):
    graph.node("second").output.name = "y"
    broken(graph, "2 values are named 'y'")


def test_names_of_nodes(graph):
    graph.node("second").name = "first"
    broken(graph, "2 nodes are named 'first'")


def test_names_of_outputs(graph):
    graph.set_outputs([graph.outputs[0]] * 2, ["out", "out"])
    broken(graph, "2 outputs of the graph are named 'out'")


def test_rename_keeps_names_apart(graph):
    graph.rename(graph.node("second"), "first")
    assert [n.name for n in graph.nodes] == ["first", "first.1"]


def test_become_refuses_another_type(graph):
    node = graph.add("relu", [graph.inputs[0]], name="third")
    with pytest.raises(GraphError, match="<relu 'third'> cannot become matmul: that makes float32"):
        graph.become(node, "matmul", [graph.inputs[0], graph.add_constant("v", np.zeros((3, 1), np.float32))])


def test_fold_refuses_another_type(graph):
    with pytest.raises(GraphError, match="cannot become a constant of float64"):
        graph.fold(graph.node("second"), [np.zeros((1, 2, 3, 3))])


def test_move_and_sort():
    graph = graph_of(
        "input %x : float32[1]\n%a : float32[1] = relu(%x)\n%b : float32[1] = neg(%x)\noutput %b"
    )
    graph.move(graph.node("b"), before=graph.node("a"))
    verify(graph)
    assert [n.name for n in graph.nodes] == ["b", "a"]
    assert isinstance(graph.nodes[0], Node)
