"""Types for the outputs of nodes without code in convc, so that an import can look at the nodes behind."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from convc.frontends.onnx.tensors import dtype_name, onnx_dtype
from convc.ir import Value
from convc.types import TensorType


def placeholder_types(
    model: onnx.ModelProto, values: Mapping[str, Value], inputs: Mapping[str, TensorType]
) -> dict[str, TensorType]:
    """The static types that ONNX's shape inference finds, by value name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {**{name: value.type for name, value in values.items()}, **inputs}
    makers = {output for node in model.graph.node for output in node.output}
    del copy.graph.input[:]
    del copy.graph.node[:]
    copy.graph.node.extend(node for node in model.graph.node if node.domain in ("", "ai.onnx"))
    for name, kind in known.items():
        if name not in makers:
            copy.graph.input.append(
                onnx.helper.make_tensor_value_info(name, onnx_dtype(kind.dtype), kind.shape)
            )
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return {}
    types = {}
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        tensor = info.type.tensor_type
        dtype = dtype_name(tensor.elem_type)
        static = tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)
        if dtype is not None and static:
            types[info.name] = TensorType(tuple(d.dim_value for d in tensor.shape.dim), dtype)
    return types
