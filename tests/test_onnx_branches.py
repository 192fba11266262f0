"""If, and what is found in graphs inside nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from merged import feeds, merge
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_agree import outputs_of
from onnx_models import draw, ints, model, node
from onnx_refusals import refuse

from convc.compiler import compile
from convc.errors import ModelError, UnsupportedError
from convc.evaluate import evaluate
from convc.frontends.onnx import check, read

BOOL, INT64 = TensorProto.BOOL, TensorProto.INT64


def branch(
    nodes: Sequence[onnx.NodeProto], *outputs: str, weights: dict[str, Any] | None = None
) -> onnx.GraphProto:
    """A graph for an If: no inputs, and what it reads comes from around it."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()]
    return helper.make_graph(list(nodes), "branch", [], infos, tensors)


def choose(
    condition: str, then: onnx.GraphProto, other: onnx.GraphProto, outputs: str = "y"
) -> onnx.NodeProto:
    """An If called `choice`."""
    return node("If", condition, outputs, "choice", then_branch=then, else_branch=other)


def squeezed() -> onnx.ModelProto:
    """x.squeeze(1) as PyTorch exports it: only if the axis has extent 1."""
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s one", "n"),
        node("Equal", "n one", "is one"),
        node("Relu", "x", "r"),
        choose(
            "is_one", branch([node("Squeeze", "r one", "a")], "a"), branch([node("Identity", "r", "b")], "b")
        ),
    ]
    nodes[2].output[:] = ["is_one"]
    return model(nodes, {"x": (2, "C", 3)}, weights={"one": ints(1)})


@pytest.mark.parametrize("channels", [1, 4])
def test_conditions_that_follow_from_shapes(channels: int) -> None:
    graph = read(squeezed(), input_shapes={"x": (2, channels, 3)})
    assert [n.op for n in graph.nodes] == ["relu", "reshape" if channels == 1 else "identity"]
    proto = squeezed()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    x = draw(2, channels, 3)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_array_equal(evaluate(read(proto), {"x": x})[0], expected)


def by_rate() -> onnx.ModelProto:
    """Two nets in one file, and an input that says which; their results differ in shape."""
    nodes = [
        node("Equal", "sr fast", "is_fast"),
        choose(
            "is_fast", branch([node("MatMul", "x w", "a")], "a"), branch([node("MatMul", "x v", "b")], "b")
        ),
    ]
    weights = {"fast": np.int64(16000), "w": draw(4, 5), "v": draw(4, 3)}
    return model(nodes, {"x": (2, 4), "sr": ()}, weights=weights, dtypes={"sr": INT64})


def test_conditions_that_are_inputs() -> None:
    refuse(
        by_rate(),
        UnsupportedError,
        "If (opset 17) node 'choice': its condition 'is_fast' is computed at run time",
        "'y' is float32[2,5] in one branch and float32[2,3] in the other",
        "--constant sr=VALUE",
    )
    for rate, columns in ((16000, 5), (8000, 3)):
        graph = read(by_rate(), constants={"sr": rate})
        assert graph.outputs[0].type.shape == (2, columns)
        (expected,) = outputs_of(by_rate(), {"x": draw(2, 4), "sr": np.array(rate)})
        found = draw(2, 4).astype(np.float64) @ next(iter(graph.constants.values()))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_branch_that_does_not_fit_is_not_fatal() -> None:
    """The other net of the file reads inputs of another shape."""
    proto = by_rate()
    proto.graph.initializer[2].CopyFrom(numpy_helper.from_array(draw(9, 5), "v"))
    refuse(
        proto,
        UnsupportedError,
        "'choice'",
        "and a branch fails",
        "(2, 4) and (9, 5) differ",
        "--constant sr=VALUE",
    )
    assert read(proto, constants={"sr": 16000}).outputs[0].type.shape == (2, 5)


def computed() -> list[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """Conditions that depend on the data, of rank 0 and 2; several outputs; a nest; a branch with weights."""
    mean = [node("ReduceMean", "x", "m", keepdims=0), node("Greater", "m zero", "c")]
    kept = [node("ReduceMean", "x", "m", keepdims=1), node("Greater", "m zero", "c")]
    simple = choose("c", branch([node("Sigmoid", "x", "a")], "a"), branch([node("Tanh", "x", "b")], "b"))
    pair = choose(
        "c",
        branch([node("Neg", "x", "a"), node("Abs", "x", "b")], "a", "b"),
        branch([node("Add", "x w", "p"), node("Identity", "x", "q")], "p", "q", weights={"w": draw(3)}),
        "y z",
    )
    inner = choose("d", branch([node("Neg", "x", "e")], "e"), branch([node("Abs", "x", "f")], "f"), "g")
    nest = choose(
        "c",
        branch([node("ReduceMax", "x", "h", keepdims=0), node("Less", "h zero", "d"), inner], "g"),
        branch([node("Exp", "x", "i")], "i"),
    )
    weights = {"zero": np.float32(0)}
    x = draw(2, 3)
    return [
        (model([*nodes, last], {"x": (2, 3)}, outputs, weights=weights), {"x": sign * np.abs(x)})
        for nodes, last, outputs in (
            (mean, simple, ("y",)), (kept, simple, ("y",)), (mean, pair, ("y", "z")), (mean, nest, ("y",)),
        )
        for sign in (1, -1)
    ]  # fmt: skip


def test_conditions_that_are_computed() -> None:
    """Both branches are computed, as one module for all cases, and the results are onnxruntime's."""
    cases = computed()
    graphs = {f"{i}": read(proto) for i, (proto, _) in enumerate(cases)}
    module = compile(merge(graphs), threads=1, verify=False)
    found = module.run(None, feeds({f"{i}": given for i, (_, given) in enumerate(cases)}))
    expected = [array for proto, given in cases for array in outputs_of(proto, given)]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_branch_reads_only_what_is_around_it() -> None:
    proto = model(
        [choose("c", branch([node("Relu", "a", "b")], "b"), branch([node("Relu", "x", "a")], "a"))],
        {"x": (2,)},
        weights={"c": np.array(True)},
    )
    refuse(proto, ModelError, "Node 'choice/then_branch/Relu_0' (Relu)", "reads 'a', which is neither")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: n.attribute.pop(0), "attribute else_branch is missing"),
        (lambda n: n.attribute[0].g.ClearField("node"), "No node of 'choice/else_branch' makes"),
        (lambda n: n.attribute[0].g.ClearField("output"), "else_branch has 0 outputs, the node 1"),
        (lambda n: n.input.__setitem__(0, "x"), "the condition is float32[2,3]; one bool is expected"),
        (lambda n: n.attribute[0].g.sparse_initializer.add(), "sparse"),
    ],
)  # fmt: skip
def test_malformed_branches(change: Any, words: str) -> None:
    other = branch([node("Identity", "x", "b")], "b")
    chosen = choose("c", branch([node("Relu", "x", "a")], "a"), other)
    chosen.attribute.sort(key=lambda a: a.name)
    change(chosen)
    proto = model([chosen], {"x": (2, 3)}, weights={"c": np.array(False)})
    refuse(proto, (ModelError, UnsupportedError), words)  # type: ignore[arg-type]


def test_graphs_in_graphs_have_an_end() -> None:
    inner = branch([node("Relu", "x", "y")], "y")
    for _ in range(20):
        inner = branch([choose("c", inner, branch([node("Neg", "x", "y")], "y"))], "y")
    proto = model(list(inner.node), {"x": (2,)}, weights={"c": np.array(True)})
    refuse(proto, ModelError, "graphs inside nodes of graphs, more than 16 deep")


# ---- what check finds


def test_check_looks_into_branches_bodies_and_functions() -> None:
    then = branch([node("GridSample", "x g", "a", "warp")], "a")
    other = branch([node("Relu", "x", "r"), node("Det", "r", "b", "det")], "b")
    loop = helper.make_graph(
        [
            node("Identity", "go", "on"),
            node("NonMaxSuppression", "v v", "n", "nms"),
            choose("on", branch([node("Multinomial", "v", "p", "dice")], "p"), branch([], "v"), "w"),
        ],
        "body",
        [helper.make_tensor_value_info("i", INT64, []), helper.make_tensor_value_info("go", BOOL, []),
         helper.make_tensor_value_info("v", 1, (2, 2))],
        [helper.make_tensor_value_info("on", BOOL, []), helper.make_tensor_value_info("w", 1, (2, 2))],
    )  # fmt: skip
    scan = helper.make_graph(
        [node("TopK", "e k", "v t", "top")], "scan",
        [helper.make_tensor_value_info("e", 1, (3,))], [helper.make_tensor_value_info("v", 1, None)],
    )  # fmt: skip
    called = helper.make_function(
        "my", "F", ["a"], ["b"], [node("Hardmax", "a", "b", "hard")], [helper.make_opsetid("", 17)]
    )
    nodes = [
        node("Less", "m zero", "c"),
        choose("c", then, other, "chosen"),
        node("Loop", "count go sq", "looped", "loop", body=loop),
        node("Scan", "x", "scanned", "scan", body=scan, num_scan_inputs=1),
        helper.make_node("F", ["x"], ["y"], domain="my"),
        node("Relu", "x", "fine"),
    ]
    inputs = {"x": (2, 3), "m": (), "g": (1, 2, 2, 2), "sq": (2, 2)}
    weights = {"zero": np.float32(0), "count": np.int64(3), "go": np.array(True), "k": ints(1)}
    outputs = ("y", "chosen", "looped", "scanned", "fine")
    proto = model(nodes, inputs, outputs, weights=weights, functions=[called])
    lines = " | ".join(check(proto).lines())
    for kind, name in (
        ("GridSample", "warp"), ("Det", "det"), ("Loop", "loop"), ("NonMaxSuppression", "nms"),
        ("Multinomial", "dice"), ("Scan", "scan"), ("TopK", "top"), ("Hardmax", "hard"),
    ):  # fmt: skip
        assert f"{kind} (opset 17) node '{name}" in lines, (name, lines)
    assert check(proto).supported["Relu"] == 2


def test_check_skips_the_branch_that_is_not_taken() -> None:
    then = branch([node("Relu", "x", "a")], "a")
    other = branch([node("Det", "x", "b", "det")], "b")
    proto = model([choose("c", then, other)], {"x": (2, 2)}, weights={"c": np.array(True)})
    assert check(proto).lines() == []


def test_an_unknown_operator_before_a_broken_loop() -> None:
    """ONNX's shape inference does not survive a Loop without a body."""
    nodes = [node("TopK", "x k", "v i", "top"), node("Loop", "v", "y", "loop")]
    proto = model(nodes, {"x": (1, 4)}, weights={"k": ints(1)})
    refuse(proto, UnsupportedError, "TopK (opset 17) node 'top'", "Loop (opset 17) node 'loop'")
