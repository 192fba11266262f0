"""convc: a compiler for convolutional networks.

    module = convc.compile("resnet50.onnx", target="host", threads=2)
    y = module(x)
    module.save("resnet50.so")
    module = convc.load("resnet50.so")

Loading and running need NumPy alone; what belongs to the compiler is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convc.errors import ConvcError
from convc.runtime.module import Module, load

if TYPE_CHECKING:
    from convc.compiler import compile
    from convc.frontends.builder import Network
    from convc.frontends.onnx import read as read_onnx
    from convc.frontends.onnx import to_onnx
    from convc.ir import Graph
    from convc.tune.autotune import autotune
    from convc.tune.records import open_records

__all__ = [
    "ConvcError", "Graph", "Module", "Network", "autotune", "compile", "load", "open_records", "read_onnx",
    "to_onnx",
]  # fmt: skip

_LAZY = {
    "Graph": ("convc.ir", "Graph"),
    "Network": ("convc.frontends.builder", "Network"),
    "autotune": ("convc.tune.autotune", "autotune"),
    "compile": ("convc.compiler", "compile"),
    "open_records": ("convc.tune.records", "open_records"),
    "read_onnx": ("convc.frontends.onnx", "read"),
    "to_onnx": ("convc.frontends.onnx", "to_onnx"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'convc' has no attribute '{name}'")
    import importlib

    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value
