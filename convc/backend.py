"""convc as an ONNX backend: `convc.backend.prepare(model).run(inputs)`, as onnx.backend.base describes."""

from __future__ import annotations

from convc.compiler import compile
from convc.frontends.onnx.backend import GraphBackend, Runner
from convc.ir import Graph


class ConvcBackend(GraphBackend):
    """Compiles for this machine; `prepare` and its kin are also functions of this module."""

    @staticmethod
    def engine(graph: Graph) -> Runner:
        """Compile a graph; the caller compares results, so they are not verified here."""
        module = compile(graph, verify=False)
        return lambda inputs: module.run(None, dict(inputs))


is_compatible = ConvcBackend.is_compatible
prepare = ConvcBackend.prepare
run_model = ConvcBackend.run_model
run_node = ConvcBackend.run_node
supports_device = ConvcBackend.supports_device
