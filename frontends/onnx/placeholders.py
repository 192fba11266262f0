"""Types for the outputs of nodes without code in convc, so that an import can look at the nodes behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from convc.dtype import DType
from convc.frontends.onnx.handlers import DOMAINS
from convc.frontends.onnx.limits import size_fault
from convc.frontends.onnx.order import graphs_of
from convc.frontends.onnx.schema import Schemas
from convc.frontends.onnx.tensors import dtype_name, onnx_dtype
from convc.types import TensorType


def stated_type(info: onnx.ValueInfoProto) -> TensorType | None:
    """The type that a model states for a value, or None where it leaves something open."""
    tensor = info.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    dims = tensor.shape.dim
    if dtype is None or not tensor.HasField("shape") or not all(d.HasField("dim_value") for d in dims):
        return None
    kind = TensorType(tuple(d.dim_value for d in dims), DType.of(dtype))
    return None if size_fault(kind) else kind


def placeholder_types(
    model: onnx.ModelProto,
    schemas: Schemas,
    nodes: Sequence[tuple[onnx.NodeProto, str]],
    known: Mapping[str, TensorType],
) -> dict[str, TensorType]:
    """The static types that ONNX's shape inference finds for the results of nodes, by value name.

    It is given sound nodes of ONNX's own only, since it takes for granted that they fit their definition.
    """
    sound = [
        node
        for node, _ in nodes
        if node.domain in DOMAINS
        and not any(output in known for output in node.output)
        and not any(True for _ in graphs_of(node))
        and not schemas.fault(node)
    ]
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx_dtype(kind.dtype), kind.shape)
        for name, kind in known.items()
    ]
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.graph.name = "placeholders"
    copy.graph.input.extend(inputs)
    copy.graph.node.extend(sound)
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    types = {info.name: stated_type(info) for info in inferred.graph.value_info}
    return {name: kind for name, kind in types.items() if kind is not None}
