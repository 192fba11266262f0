"""Gemm and MatMul."""

from __future__ import annotations

from convc.frontends.onnx.call import Call
from convc.frontends.onnx.handlers import Result, onnx_op
from convc.ops.linear import GemmAttrs


@onnx_op("Gemm")
def gemm(call: Call) -> Result:
    """alpha * A' B' + beta * C."""
    attrs = GemmAttrs(
        call.real("alpha", 1.0), call.real("beta", 1.0), call.flag("transA"), call.flag("transB")
    )
    return call.emit("gemm", [call.input(0), call.input(1), call.optional(2)], attrs)


@onnx_op("MatMul")
def matmul(call: Call) -> Result:
    """NumPy's matrix product."""
    return call.emit("matmul", [call.input(0), call.input(1)])
