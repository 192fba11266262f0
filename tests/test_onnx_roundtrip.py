"""Graphs written as ONNX and read back: for every operator, epilogues, and the names that users know."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cases import CASES, Case
from engines import run_onnxruntime
from onnx_models import draw

from convc.errors import UnsupportedError
from convc.evaluate import evaluate
from convc.frontends.onnx import read, to_onnx
from convc.frontends.onnx.export import IR_VERSION, OPSET
from convc.ir import Attrs, Graph, Step
from convc.ops.conv import ConvAttrs
from convc.ops.unary import ClipAttrs
from convc.types import TensorType

ROUNDINGS = 8 * 2.0**-24
"""Attributes travel as float32, and a few operators are stated by several of ONNX's with such constants."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_operator_survives(case: Case) -> None:
    graph, feeds = case.graph(), case.feeds()
    model = to_onnx(graph)
    ceil = getattr(case.attrs, "ceil_mode", False)  # inference before opset 22 counts a window too many
    onnx.checker.check_model(model, full_check=not ceil)
    back = read(model, notice=lambda message: pytest.fail(message))
    assert back.output_names == graph.output_names
    assert [v.type for v in back.inputs] == [v.type for v in graph.inputs]
    assert [v.type for v in back.outputs] == [v.type for v in graph.outputs]
    for ours, theirs in zip(evaluate(back, feeds), evaluate(graph, feeds), strict=True):
        size = float(np.abs(theirs).max(initial=0)) if theirs.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=ROUNDINGS * size)


def test_epilogues_become_nodes() -> None:
    graph = Graph("fused")
    x = graph.add_input("x", TensorType((1, 3, 6, 6)))
    r = graph.add_input("r", TensorType((1, 4, 6, 6)))
    w, s = graph.add_constant("w", draw(4, 3, 3, 3)), graph.add_constant("s", draw(4, 1, 1))
    steps = [Step("add", operand=2), Step("clip", ClipAttrs(-0.5, 2.0)), Step("sub", operand=3, swapped=True)]
    attrs = ConvAttrs((1, 1), (1, 1), ((1, 1), (1, 1)))
    conv = graph.add("conv", [x, w, r, s], attrs, name="conv", epilogue=steps, arity=2)
    graph.set_outputs([conv.output], ["result"])
    model = to_onnx(graph)
    assert [n.op_type for n in model.graph.node] == ["Conv", "Add", "Clip", "Sub"]
    assert model.graph.node[3].input[0] == "s"
    feeds = {"x": draw(1, 3, 6, 6), "r": draw(1, 4, 6, 6)}
    expected = evaluate(graph, feeds)[0]
    np.testing.assert_allclose(evaluate(read(model), feeds)[0], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run_onnxruntime(graph, feeds)[0], expected, rtol=0, atol=1e-5)


def test_names_of_outputs_are_the_users() -> None:
    graph = Graph("names")
    x = graph.add_input("x", TensorType((2,)))
    c = graph.add_constant("c", draw(2))
    inner = graph.add("relu", [x], name="y")
    outer = graph.add("neg", [inner.output], name="z")
    values = [outer.output, inner.output, outer.output, x, c]
    graph.set_outputs(values, ["y", "inner", "again", "x_too", "c_too"])
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    assert [o.name for o in model.graph.output] == ["y", "inner", "again", "x_too", "c_too"]
    feeds = {"x": draw(2, seed=5)}
    for ours, theirs in zip(run_onnxruntime(graph, feeds), evaluate(graph, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(np.float32))


def test_versions_are_those_promised() -> None:
    graph = Graph("versions")
    graph.set_outputs(graph.add("relu", [graph.add_input("x", TensorType((1,)))]).outputs)
    model = to_onnx(graph)
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET) == (10, 21)


def test_more_weights_than_a_file_holds_are_refused() -> None:
    graph = Graph("big")
    x = graph.add_input("x", TensorType((1,)))
    huge = np.broadcast_to(np.float32(1), (1 << 29, 1))  # 2 GiB that take no memory
    graph.set_outputs(graph.add("add", [x, graph.add_constant("w", huge)], Attrs()).outputs)
    with pytest.raises(UnsupportedError, match=r"weights of 'big' take 2\.0 GiB"):
        to_onnx(graph)
