"""Models in float16 on a CPU: sums in float32, one rounding of each result."""

from __future__ import annotations

import networks
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import convc
from convc.dtype import FLOAT16
from convc.errors import VerificationError
from convc.evaluate import evaluate
from convc.frontends.onnx import read, to_onnx
from convc.types import Array
from convc.verify import random_inputs

HALF = FLOAT16.rounding
LAYER_ERROR = 1e-5


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its float32 tensors rounded to float16."""
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def model_of(nodes: list[onnx.NodeProto], inputs: dict[str, Array], **constants: Array) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "half",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, None)],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", ["residual", "up_down", "separable", "volume"])
def test_networks_are_off_by_one_rounding(name: str) -> None:
    model = in_half(to_onnx(networks.NETWORKS[name]()))
    graph = read(model)
    module = convc.compile(model, threads=1, max_error=LAYER_ERROR, verify=False)
    feeds = random_inputs(graph, seed=7)
    layers = LAYER_ERROR * len(graph.nodes)
    for found, exact in zip(module.run(None, feeds), evaluate(graph, feeds), strict=True):
        assert found.dtype == np.float16
        limit = HALF * np.abs(exact) + layers * np.abs(exact).max() + np.finfo(np.float16).smallest_subnormal
        assert (np.abs(found - exact) <= limit).all()


def test_a_long_sum_is_made_in_float32() -> None:
    """4,096 terms of one sign: in float16 the sum stops growing at 2,048."""
    x = np.ones((2, 4096), np.float16)
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": x}, w=np.ones((4096, 3), np.float16)
    )
    np.testing.assert_array_equal(convc.compile(model, threads=1)(x), np.full((2, 3), 4096, np.float16))


def test_the_models_own_roundings_are_kept() -> None:
    """2,049 has no float16: a cast rounds it to 2,048, and what follows reads that."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["f", "base"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT16),
    ]
    x = np.array([2049, 2051, 1e6, -1e6, 3.25], np.float32)
    model = model_of(nodes, {"x": x}, base=np.float32(2048))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(expected, np.array([0, 4, np.inf, -np.inf, -2045], np.float16))
    np.testing.assert_array_equal(convc.compile(model, threads=1)(x), expected)


def test_a_wrong_network_in_half_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that half's own rounding does not explain."""
    from convc.lowering.direct import Direct

    right = Direct.pack
    monkeypatch.setattr(Direct, "pack", lambda s, w, t, i, a: right(s, w, t, i, a * 1.01 if i == 1 else a))
    with pytest.raises(VerificationError, match="off by"):
        convc.compile(in_half(to_onnx(networks.lines())), algorithms={"conv1": "direct"}, threads=1)
