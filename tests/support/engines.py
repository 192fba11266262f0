"""Other engines, run on convc's graphs."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime

from convc.frontends.onnx.export import to_onnx
from convc.ir import Graph
from convc.types import Array

onnxruntime.set_default_logger_severity(4)  # errors reach the tests as exceptions


def run_onnxruntime(graph: Graph, inputs: Mapping[str, Array]) -> list[Array]:
    """The graph's outputs as onnxruntime computes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    model = to_onnx(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(inputs)))
