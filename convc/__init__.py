"""convc: a compiler for convolutional networks.

    module = convc.compile("resnet50.onnx", target="host", threads=2)
    y = module(x)
    module.save("resnet50.so")
    module = convc.load("resnet50.so")

    compile       a model to a verified Module
    autotune      measure how each layer is best computed, and compile accordingly
    load          a compiled module from its file
    Module        a network that can be called
    Network       networks in Python, layer by layer
    Graph         what a network is, between import and compilation
    read_onnx     an ONNX model as a Graph
    to_onnx       a Graph or Network as an ONNX model
    open_records  what tuning measured, for `compile(records=...)`
    ConvcError    base of all errors that a user can act on

Loading and running need NumPy alone; what belongs to the compiler is imported when it is first used.
"""

from __future__ import annotations

import os
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

# A Python that is started in a clone finds this folder. Two packages lie beside it there, which are inside
# where convc is installed.
_BESIDE = os.path.dirname(__path__[0])
if not os.path.isdir(os.path.join(__path__[0], "schedules")) and all(
    os.path.isfile(os.path.join(_BESIDE, name, "__init__.py")) for name in ("frontends", "schedules")
):
    __path__.append(_BESIDE)

__version__: str

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
    if name == "__version__":
        return _version()
    if name not in _LAZY:
        raise AttributeError(f"module 'convc' has no attribute '{name}'")
    import importlib

    module, attribute = _LAZY[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("convc")
    except metadata.PackageNotFoundError:  # a clone that was never installed
        return "0+clone"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
