"""Tensors of an ONNX model as arrays, without a copy where the file's bytes serve as they are."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from convc.dtype import DTYPES, DType
from convc.errors import ModelError, UnsupportedError
from convc.frontends.onnx.external import external_array
from convc.frontends.onnx.limits import size_fault
from convc.types import Array, TensorType

_PROTO = onnx.TensorProto
_NAMES = {
    _PROTO.FLOAT: "float32", _PROTO.DOUBLE: "float64", _PROTO.FLOAT16: "float16", _PROTO.BOOL: "bool",
    _PROTO.INT8: "int8", _PROTO.INT16: "int16", _PROTO.INT32: "int32", _PROTO.INT64: "int64",
    _PROTO.UINT8: "uint8", _PROTO.UINT16: "uint16", _PROTO.UINT32: "uint32", _PROTO.UINT64: "uint64",
}  # fmt: skip
_FIELDS = {
    "float32": "float_data", "float64": "double_data", "int64": "int64_data",
    "uint32": "uint64_data", "uint64": "uint64_data",
}  # fmt: skip


def dtype_name(number: int) -> str | None:
    """The dtype for a number of ONNX's TensorProto.DataType, or None where convc has none."""
    return _NAMES.get(number)


def onnx_dtype(dtype: str) -> int:
    """The number of ONNX's TensorProto.DataType for a dtype."""
    if dtype == "bfloat16":  # which models may not have, though GPUs compute in it
        return int(_PROTO.BFLOAT16)
    return next(int(number) for number, name in _NAMES.items() if name == dtype)


def type_text(number: int) -> str:
    """How messages call a number of TensorProto.DataType."""
    return _PROTO.DataType.Name(number) if number in _PROTO.DataType.values() else f"type {number}"


def tensor_array(tensor: onnx.TensorProto, what: str, folder: str | None = None) -> Array:
    """The contents of a tensor, which must not be written to.

    `what` names it in messages; `folder` is where its external data may lie. Raises ModelError when its
    bytes do not fit its shape, and UnsupportedError for a data type that convc does not have.
    """
    dtype = dtype_name(tensor.data_type)
    if dtype is None:
        raise UnsupportedError(
            f"{what} has data type {type_text(tensor.data_type)}.", hint=f"convc knows {', '.join(DTYPES)}."
        )
    shape = tuple(tensor.dims)
    if fault := size_fault(TensorType(shape, DType.of(dtype))):
        raise ModelError(f"{what} has {fault}.")
    if tensor.HasField("segment"):
        raise UnsupportedError(f"{what} is stored in segments.")
    kind = np.dtype(dtype)
    if tensor.data_location == _PROTO.EXTERNAL:
        return external_array(tensor, what, folder, kind, shape)
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != math.prod(shape) * kind.itemsize:
            raise ModelError(
                f"{what} has {len(raw)} bytes; {dtype}{list(shape)} needs {math.prod(shape) * kind.itemsize}."
            )
        return np.frombuffer(raw, kind.newbyteorder("<")).astype(kind, copy=False).reshape(shape)
    found = len(getattr(tensor, _FIELDS.get(dtype, "int32_data")))
    if found != math.prod(shape):
        raise ModelError(f"{what} has {found} elements; {dtype}{list(shape)} needs {math.prod(shape)}.")
    try:
        array: Array = numpy_helper.to_array(tensor)
    except (ValueError, OverflowError, TypeError) as error:
        raise ModelError(f"{what} holds numbers that are no {dtype}.") from error
    return array
