"""ONNX in and out: `read` and `check` import models, `to_onnx` writes graphs."""

from convc.frontends.onnx import (
    constants,
    convolution,
    elementwise,
    linear,
    normalization,
    pooling,
    reduction,
    resize,
    shape,
)
from convc.frontends.onnx.export import to_onnx
from convc.frontends.onnx.importer import Findings, check, read

__all__ = [
    "Findings", "check", "constants", "convolution", "elementwise", "linear", "normalization", "pooling",
    "read", "reduction", "resize", "shape", "to_onnx",
]  # fmt: skip
