"""A model imported and evaluated in float64, compared with onnxruntime."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx_models import model, node

from convc.evaluate import evaluate
from convc.frontends.onnx import read
from convc.types import Array

EPS = 2.0**-23


def outputs_of(proto: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def agree(proto: onnx.ModelProto, *, terms: int = 1, **feeds: Array) -> None:
    """Import and evaluate in float64; onnxruntime may differ by float32 rounding of sums of `terms` terms."""
    graph = read(proto)
    assert [v.name for v in graph.inputs] == list(feeds)
    assert list(graph.output_names) == [o.name for o in proto.graph.output]
    expected = outputs_of(proto, feeds)
    for ours, theirs, value in zip(evaluate(graph, feeds), expected, graph.outputs, strict=True):
        assert ours.shape == theirs.shape == value.type.shape
        assert str(theirs.dtype) == value.type.dtype
        if value.type.is_float:
            scale = max(1.0, float(np.abs(theirs).max(initial=0)))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=8 * math.sqrt(terms + 3) * EPS * scale)
        else:
            np.testing.assert_array_equal(ours, theirs)


def one(op: str, x: Array, weights: dict[str, Any] | None = None, opset: int = 17, **attributes: Any) -> None:
    """Agreement on a model of one node with input x and the weights as constants."""
    given = weights or {}
    names = " ".join(["x", *[name if array is not None else "_" for name, array in given.items()]])
    constants = {name: array for name, array in given.items() if array is not None}
    proto = model([node(op, names, "y", **attributes)], {"x": x.shape}, weights=constants, opset=opset)
    largest = max((a.size for a in constants.values()), default=1)
    agree(proto, terms=largest, x=x)
