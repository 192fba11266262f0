"""What the importer works out at once, what it keeps of names and shapes, and what users are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_agree import agree
from onnx_models import draw, ints, model, node

from convc.evaluate import evaluate
from convc.frontends.onnx import read

# ---- constants and shapes


def flatten_as_pytorch_exports() -> list[onnx.NodeProto]:
    """x.view(x.size(0), -1), as exporters write it."""
    return [
        node("Shape", "x", "shape"),
        node("Constant", "", "zero", value=helper.make_tensor("", TensorProto.INT64, [], [0])),
        node("Gather", "shape zero", "n", axis=0),
        node("Constant", "", "axis", value=helper.make_tensor("", TensorProto.INT64, [1], [0])),
        node("Unsqueeze", "n axis", "n1"),
        node("Constant", "", "rest", value_ints=[-1]),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]


def test_shape_arithmetic_is_folded_away() -> None:
    proto = model(flatten_as_pytorch_exports(), {"x": (2, 3, 4)}, opset=13)
    graph = read(proto)
    assert [n.op for n in graph.nodes] == ["reshape"]
    assert graph.constants == {}
    agree(proto, x=draw(2, 3, 4))


def test_interpolation_to_a_computed_size() -> None:
    """F.interpolate(x, scale_factor=1.7), in the float32 arithmetic of exporters."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Slice", "shape two four", "hw"),
        node("Cast", "hw", "hwf", to=TensorProto.FLOAT),
        node("Mul", "hwf factor", "scaled"),
        node("Floor", "scaled", "floored"),
        node("Cast", "floored", "sizes", to=TensorProto.INT64),
        node("Slice", "shape zero two", "nc"),
        node("Concat", "nc sizes", "target", axis=0),
        node("Resize", "x _ _ target", "y", mode="linear"),
    ]
    weights = {"two": ints(2), "four": ints(4), "zero": ints(0), "factor": np.float32(0.7)}
    proto = model(nodes, {"x": (1, 2, 10, 10)}, weights=weights, opset=13)
    graph = read(proto)
    assert [n.op for n in graph.nodes] == ["resize"]
    assert graph.outputs[0].type.shape == (1, 2, 7, 7)  # 0.7 * 10 is 6.99 in float64, but 7 in float32
    agree(proto, x=draw(1, 2, 10, 10))


def test_arithmetic_on_constants_keeps_integers() -> None:
    nodes = [
        node("Div", "a b", "q"),  # toward zero, as in C
        node("Mod", "a b", "m"),
        node("ConstantOfShape", "one", "c", value=helper.make_tensor("", TensorProto.INT64, [1], [1 << 53])),
        node("Add", "c plus", "big"),
        node("Range", "start stop step", "r"),
        node("Where", "mask a b", "w"),
        node("Equal", "a b", "e"),
        node("Cast", "e", "ei", to=TensorProto.INT64),
        node("Concat", "q m big r w ei k", "y", axis=0),
        node("Identity", "x", "k"),
    ]
    nodes.insert(0, nodes.pop())
    weights = {
        "a": ints(-7, 7, 9), "b": ints(2, -2, 9), "one": ints(1), "plus": ints(1), "start": np.int64(3),
        "stop": np.int64(-4), "step": np.int64(-2), "mask": np.array([True, False, True]),
    }  # fmt: skip
    proto = model(nodes, {"x": (1,)}, weights=weights, opset=13, dtypes={"x": 7, "y": 7})
    graph = read(proto)
    assert [n.op for n in graph.nodes] == ["identity", "concat"]
    agree(proto, x=ints(5))


def test_weights_may_be_computed_and_listed_as_inputs() -> None:
    nodes = [node("Reshape", "w s", "weights"), node("MatMul", "x weights", "y")]
    proto = model(
        nodes, {"x": (2, 6), "w": (3, 2, 4)}, weights={"w": draw(3, 2, 4), "s": ints(6, 4)}, opset=7
    )
    graph = read(proto)
    assert [v.name for v in graph.inputs] == ["x"]
    assert [n.op for n in graph.nodes] == ["matmul"]
    np.testing.assert_allclose(evaluate(graph, {"x": np.eye(2, 6)})[0], draw(3, 2, 4).reshape(6, 4)[:2])


def test_weights_share_the_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model([node("MatMul", "x w", "y")], {"x": (1, 64)}, weights={"w": draw(64, 9)}), path)
    (weights,) = read(path).constants.values()
    assert not weights.flags.owndata
    assert not weights.flags.writeable


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool", "uint64"]
)
def test_tensors_in_fields_and_in_bytes(dtype: str) -> None:
    array = np.array([[0, 1, 2], [3, 100, 7]]).astype(dtype)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    by_field = helper.make_tensor("w", number, array.shape, array.reshape(-1).tolist())
    for tensor in (by_field, onnx.numpy_helper.from_array(array, "w")):
        proto = model([node("Identity", "w", "y"), node("Relu", "x", "z")], {"x": (1,)}, ("y", "z"))
        proto.graph.initializer.append(tensor)
        graph = read(proto)
        (value,) = (v for v in graph.outputs if v.type.dtype == dtype and v.type.shape == (2, 3))
        np.testing.assert_array_equal(graph.constant(value), array)


def test_functions_are_inlined() -> None:
    swish = helper.make_function(
        "my",
        "Swish",
        ["a"],
        ["b"],
        [node("Sigmoid", "a", "s"), node("Mul", "a s", "b")],
        [helper.make_opsetid("", 17)],
    )
    call = helper.make_node("Swish", ["x"], ["y"], domain="my")
    proto = model([call], {"x": (3,)}, functions=[swish])
    assert [n.op for n in read(proto).nodes] == ["sigmoid", "mul"]
    agree(proto, x=draw(3))


# ---- names, shapes, notices


def test_names_and_origins_are_the_users() -> None:
    nodes = [
        node("Relu", "in put", "a", "stem/relu"),
        node("Neg", "a", "b"),
        node("Relu", "b", "out", "stem/relu"),
    ]
    nodes[0].input[:] = ["in put"]
    graph = read(model(nodes, {"in put": (2,)}, ("out", "a")))
    assert [n.name for n in graph.nodes] == ["stem/relu", "Neg_1", "stem/relu.1"]
    assert [n.origin for n in graph.nodes] == [("stem/relu",), ("Neg_1",), ("stem/relu.1",)]
    assert graph.output_names == ("out", "a")
    assert [v.name for v in graph.inputs] == ["in put"]


def test_outputs_may_be_inputs_constants_and_repeated_values() -> None:
    proto = model(
        [node("Identity", "w", "c"), node("Relu", "x", "y")], {"x": (2,)}, ("c", "y"), {"w": draw(3)}
    )
    agree(proto, x=draw(2))


def test_open_batch_is_one_and_said_aloud() -> None:
    said: list[str] = []
    graph = read(model([node("Relu", "x", "y")], {"x": ("N", 3)}), notice=said.append)
    assert graph.inputs[0].type.shape == (1, 3)
    assert said == ["Input 'x' has an open batch (N); it is taken as 1. --input-shapes x:8x3 would choose 8."]


def test_given_shapes_and_shared_symbols() -> None:
    said: list[str] = []
    proto = model([node("Add", "x z", "y")], {"x": ("N", "H", 2), "z": ("N", "H", 2)})
    graph = read(proto, input_shapes={"x": (4, 5, 2)}, notice=said.append)
    assert [v.type.shape for v in graph.inputs] == [(4, 5, 2), (4, 5, 2)]
    assert said == []


def test_default_notice_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="open batch"):
        read(model([node("Relu", "x", "y")], {"x": ("N", 3)}))


def test_wrongly_stated_output_shapes_are_noticed() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (1, 3)})
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, (7, "C")))
    said: list[str] = []
    read(proto, notice=said.append)
    assert said == ["Output 'y' is stated as [7, '?'] by the model; it is [1, 3]."]
