"""Small ONNX models for the tests of the importer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Dims = Sequence[int | str | None] | None


def node(op: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """A node; names of inputs and outputs are separated by blanks, and `_` stands for an absent one."""
    given = ["" if word == "_" else word for word in inputs.split()]
    return helper.make_node(op, given, outputs.split(), name=name, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, Any] | None = None,
    opset: int = 17,
    dtypes: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model. Arrays without a dtype of their own are float32; `inputs` maps names to dimensions."""
    types = dtypes or {}
    tensors = [
        numpy_helper.from_array(np.asarray(a) if hasattr(a, "dtype") else np.asarray(a, np.float32), n)
        for n, a in (weights or {}).items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info(n, types.get(n, 1), dims) for n, dims in inputs.items()],
        [helper.make_tensor_value_info(n, types.get(n, 1), None) for n in outputs],
        tensors,
    )
    domains = dict.fromkeys(f.domain for f in functions)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def ints(*values: int) -> np.ndarray:
    """A vector of int64."""
    return np.asarray(values, np.int64)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers in float32."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
