"""ONNX's own opinion of a node, by its checker."""

from __future__ import annotations

import onnx

from convc.errors import ModelError
from convc.frontends.onnx.limits import VERSION
from convc.frontends.onnx.order import graphs_of

WITHDRAWN = {"GroupNormalization": range(18, 21)}
"""The opsets in which ONNX's checker refuses an operator as deprecated; models have them all the same."""


class Schemas:
    """The definitions that a model goes by."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._context = onnx.checker.C.CheckerContext()
        self._context.ir_version = model.ir_version
        self._context.opset_imports = {
            entry.domain: max(1, min(entry.version, VERSION)) for entry in model.opset_import
        }

    def fault(self, node: onnx.NodeProto) -> str:
        """What is wrong with a node, or nothing.

        The checker cannot judge nodes that hold graphs alone, nor find files beside the model.
        """
        opset = self._context.opset_imports.get(node.domain, 0)
        if opset in WITHDRAWN.get(node.op_type, ()) or any(True for _ in graphs_of(node)):
            return ""
        if any(a.t.data_location == onnx.TensorProto.EXTERNAL for a in node.attribute):
            return ""
        try:
            onnx.checker.check_node(node, self._context)
        except onnx.checker.ValidationError as error:
            return str(error).splitlines()[0]
        return ""

    def check(self, node: onnx.NodeProto, what: str) -> None:
        """Raise ModelError for a node that does not fit its operator's definition."""
        if fault := self.fault(node):
            raise ModelError(f"{what}: {fault}")
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise ModelError(
                    f"{what}: attribute {attribute.name} refers to attribute "
                    f"'{attribute.ref_attr_name}' of a function, and there is none around it."
                )
