"""ONNX in and out: `read` and `check` import models, `to_onnx` writes graphs."""

from convc.frontends.onnx import (
    branches,
    constants,
    convolution,
    early,
    elementwise,
    linear,
    normalization,
    pooling,
    reduction,
    resize,
    shape,
)
from convc.frontends.onnx.export import to_onnx
from convc.frontends.onnx.findings import Findings
from convc.frontends.onnx.importer import check, constant_inputs, read

__all__ = [
    "Findings", "branches", "check", "constant_inputs", "constants", "convolution", "early", "elementwise",
    "linear", "normalization", "pooling", "read", "reduction", "resize", "shape", "to_onnx",
]  # fmt: skip
