"""Models of 2017, operators that ONNX has withdrawn, and nodes in any order."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_agree import agree, outputs_of
from onnx_models import draw, ints, model, node
from onnx_refusals import refuse

from convc.errors import ModelError, UnsupportedError
from convc.evaluate import evaluate
from convc.frontends.onnx import read

# ---- before opset 7


def agrees_with_now(proto: onnx.ModelProto, now: onnx.ModelProto, **feeds: np.ndarray) -> None:
    """The importer's graph of an old model computes what onnxruntime computes for a new one."""
    for ours, theirs in zip(evaluate(read(proto), feeds), outputs_of(now, feeds), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3,), 1), ((3, 4), 1), ((5,), None), ((4, 5), -2), ((), None), ((3, 1), 1), ((2, 3, 4, 5), 0)],
)  # fmt: skip
def test_broadcasting_by_an_axis(op: str, shape: tuple[int, ...], axis: int | None) -> None:
    """The axis is counted from either end; without one the last axes are meant."""
    x, b = np.abs(draw(2, 3, 4, 5)) + 0.5, np.abs(draw(*shape, seed=1)) + 0.5
    chosen = {"broadcast": 1, **({} if axis is None else {"axis": axis})}
    proto = model([node(op, "x b", "y", **chosen)], {"x": x.shape}, weights={"b": b}, opset=6)
    first = 4 - len(shape) if axis is None else axis % 4
    wide = b.reshape((*shape, *[1] * (4 - first - len(shape))))
    now = model([node(op, "x b", "y")], {"x": x.shape}, weights={"b": wide}, opset=7)
    agrees_with_now(proto, now, x=x)


@pytest.mark.parametrize(("op", "dtype"), [("Greater", 1), ("Less", 1), ("And", 9), ("Or", 9), ("Xor", 9)])
def test_comparisons_by_an_axis(op: str, dtype: int) -> None:
    x, b = draw(2, 3, 4), draw(3, seed=1)
    if dtype == TensorProto.BOOL:
        x, b = x > 0, b > 0
    types = {"x": dtype, "y": TensorProto.BOOL}
    proto = model(
        [node(op, "x b", "y", axis=1, broadcast=1)], {"x": x.shape}, weights={"b": b}, opset=6, dtypes=types
    )
    now = model([node(op, "x b", "y")], {"x": x.shape}, weights={"b": b.reshape(3, 1)}, opset=7, dtypes=types)
    agrees_with_now(proto, now, x=x)


@pytest.mark.parametrize(
    ("shape", "attributes", "words"),
    [
        ((3,), {}, "attribute broadcast is not 1"),
        ((3,), {"broadcast": 1}, "does not fit (2, 3, 4) from axis 2 on"),
        ((3,), {"broadcast": 1, "axis": 2}, "does not fit"),
        ((4, 5), {"broadcast": 1, "axis": 2}, "does not fit"),
        ((3,), {"broadcast": 1, "axis": 7}, "axis 7 is out of range"),
        ((2, 2, 3, 4), {"broadcast": 1}, "does not fit (2, 3, 4) from axis -1 on"),
        ((3,), {"broadcast": 2, "axis": 1}, "broadcast = 2 is neither 0 nor 1"),
    ],
)  # fmt: skip
def test_operands_that_do_not_fit(shape: tuple[int, ...], attributes: dict[str, int], words: str) -> None:
    proto = model(
        [node("Add", "x b", "y", **attributes)], {"x": (2, 3, 4)}, weights={"b": draw(*shape)}, opset=6
    )
    refuse(proto, ModelError, "(Add)", words)


def test_a_network_of_2017() -> None:
    """As caffe2 wrote it: statistics in test mode, scales by axis, slopes by channel, hints about memory."""
    x = draw(1, 4, 6, 6)
    weights: dict[str, Any] = {
        "w": draw(6, 4, 3, 3), "g": draw(6), "b": draw(6, seed=1), "m": draw(6, seed=2),
        "v": np.abs(draw(6, seed=3)) + 0.5, "s": draw(6, seed=4), "p": draw(6, seed=5),
        "fc": draw(10, 24), "fb": draw(10),
    }  # fmt: skip

    def network(
        opset: int, early: dict[str, Any], test: dict[str, Any], memory: dict[str, Any]
    ) -> onnx.ModelProto:
        nodes = [
            node("Conv", "x w", "a", kernel_shape=[3, 3]),
            node("BatchNormalization", "a g b m v", "c", **test),
            node("Mul", "c s", "d", **early),
            node("PRelu", "d p", "e"),
            node("Relu", "e", "r", **memory),
            node("MaxPool", "r", "q", kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", "q", "f"),
            node("Dropout", "f", "o", **test),
            node("Gemm", "o fc fb", "y", transB=1, **({"broadcast": 1} if early else {})),
        ]
        shaped = {} if early else {n: weights[n].reshape(6, 1, 1) for n in "sp"}
        return model(nodes, {"x": x.shape}, weights={**weights, **shaped}, opset=opset)

    old = network(6, {"broadcast": 1, "axis": 1}, {"is_test": 1}, {})
    now = network(7, {}, {}, {})
    agrees_with_now(old, now, x=x)
    training = network(6, {"broadcast": 1, "axis": 1}, {}, {})
    refuse(
        training,
        UnsupportedError,
        "BatchNormalization (opset 6)",
        "is_test = 0 (training)",
        "Dropout (opset 6)",
    )


def test_hints_about_memory_mean_nothing() -> None:
    proto = model(
        [node("Relu", "x", "a", consumed_inputs=[0]), node("Add", "a a", "y", consumed_inputs=[0, 0])],
        {"x": (4,)},
        opset=5,
    )
    x = draw(4)
    np.testing.assert_allclose(evaluate(read(proto), {"x": x})[0], 2 * np.maximum(x, 0))


# ---- withdrawn


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("constant", [True, False])
def test_group_normalisation_by_group(opset: int, constant: bool) -> None:
    """Opset 18 has a scale for each group; from 21 on each channel has its own."""
    x, vectors = draw(2, 6, 3, 4), {"s": draw(2), "b": draw(2, seed=1)}
    made = node("GroupNormalization", "x s b", "y", num_groups=2, epsilon=1e-3)
    inputs = {"x": x.shape, **({} if constant else dict.fromkeys(vectors, (2,)))}
    proto = model([made], inputs, weights=vectors if constant else {}, opset=opset)
    each = {name: np.repeat(vector, 3) for name, vector in vectors.items()}
    now = model([made], {"x": x.shape}, weights=each, opset=21)
    graph = read(proto)
    assert not constant or [n.op for n in graph.nodes] == ["group_norm"]
    (ours,) = evaluate(graph, {"x": x, **({} if constant else vectors)})
    np.testing.assert_allclose(ours, outputs_of(now, {"x": x})[0], atol=1e-5)


def test_group_normalisation_of_the_wrong_length() -> None:
    made = node("GroupNormalization", "x s b", "y", "norm", num_groups=2)
    for vectors, words in (
        ({"s": draw(6), "b": draw(2)}, "scale has shape (6,); (2,) is expected"),
        ({"s": draw(2), "b": draw(3)}, "bias has shape (3,)"),
    ):
        refuse(model([made], {"x": (1, 6, 2, 2)}, weights=vectors, opset=18), ModelError, "'norm'", words)
    made = node("GroupNormalization", "x s b", "y", "norm", num_groups=4)
    refuse(
        model([made], {"x": (1, 6, 2, 2)}, weights={"s": draw(4), "b": draw(4)}, opset=18),
        ModelError,
        "4 groups",
    )


# ---- order


def test_nodes_in_any_order() -> None:
    nodes = [
        node("Relu", "x", "a"), node("Add", "a x", "b"), node("Mul", "a b", "c"), node("Neg", "c", "d"),
        node("Slice", "d zero two", "e"), node("Sub", "e b", "y"),
    ]  # fmt: skip
    weights = {"zero": ints(0, 0), "two": ints(2, 3)}
    straight = read(model(nodes, {"x": (2, 3)}, weights=weights))
    for seed in range(4):
        random.Random(seed).shuffle(nodes)
        proto = model(nodes, {"x": (2, 3)}, weights=weights)
        agree(proto, x=draw(2, 3))
        assert len(read(proto).nodes) == len(straight.nodes)


def test_nodes_in_order_stay_as_they_are() -> None:
    nodes = [
        node("Relu", "x", "b", "second"),
        node("Neg", "x", "a", "first"),
        node("Add", "a b", "y", "last"),
    ]
    assert [n.name for n in read(model(nodes, {"x": (2,)})).nodes] == ["second", "first", "last"]


def test_cycles_are_named() -> None:
    nodes = [node("Relu", "x", "a", "good"), node("Add", "a c", "b", "one"), node("Neg", "b", "c", "two")]
    refuse(
        model(nodes, {"x": (2,)}, ("b",)),
        ModelError,
        "Node 'one' (Add) reads 'c' before node 'two' has made it. The nodes form a cycle.",
    )


def test_what_a_branch_reads_counts_as_read() -> None:
    """The node that makes it comes after the If."""
    graphs = [
        onnx.helper.make_graph(
            [node(op, "late", out)], "branch", [], [onnx.helper.make_tensor_value_info(out, 1, None)]
        )
        for op, out in (("Relu", "p"), ("Neg", "q"))
    ]
    chosen = node("If", "c", "y", then_branch=graphs[0], else_branch=graphs[1])
    proto = model([chosen, node("Exp", "x", "late")], {"x": (2,)}, weights={"c": np.array(False)})
    np.testing.assert_allclose(evaluate(read(proto), {"x": draw(2)})[0], -np.exp(draw(2)))
