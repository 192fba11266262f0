"""Functions of a model: operators that it defines by others, put in place of each call."""

from __future__ import annotations

import onnx
import onnx.inliner


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own. Weights must have been taken out: the inliner copies all."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model
