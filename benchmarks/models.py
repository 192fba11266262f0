"""The networks that are measured: ONNX files, pages of `examples/`, exported for the peers, packaged ones."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from packaged import PACKAGED, Packaged
from ready import Ready

from convc.errors import OptionError
from convc.frontends.onnx import to_onnx
from convc.ir import Graph
from convc.types import Shape

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class FileModel:
    """An ONNX file of the user's."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def ready(self, folder: Path, batch: int) -> Ready:
        """The file itself; a symbolic first dimension becomes `batch`. Raises OptionError otherwise."""
        try:
            graph = onnx.load(self.path, load_external_data=False).graph
        except (OSError, DecodeError) as error:
            raise OptionError(f"'{self.path}' is not an ONNX model: {error}.") from error
        weights = {tensor.name for tensor in graph.initializer}
        shapes = {i.name: self._shape(i, batch) for i in graph.input if i.name not in weights}
        return Ready(self.path, shapes)

    def _shape(self, info: Any, batch: int) -> Shape:
        dims = info.type.tensor_type.shape.dim
        shape = tuple(d.dim_value or (batch if axis == 0 else 0) for axis, d in enumerate(dims))
        if 0 in shape:
            raise OptionError(
                f"Input '{info.name}' of '{self.name}' has symbolic dimensions beside its batch."
            )
        if shape and shape[0] != batch:
            raise OptionError(f"The batch of '{self.name}' is fixed at {shape[0]}; {batch} was asked for.")
        return shape


@dataclass(frozen=True)
class Example:
    """A network of `examples/`: the module, its function and the options."""

    name: str
    module: str
    function: str = "build"
    options: dict[str, Any] = field(default_factory=dict)

    def graph(self, batch: int, **options: Any) -> Graph:
        """The network with drawn weights; further options go to its function."""
        if str(EXAMPLES) not in sys.path:
            sys.path.append(str(EXAMPLES))
        build = getattr(importlib.import_module(self.module), self.function)
        graph: Graph = build(batch=batch, **{**self.options, **options})
        return graph

    def ready(self, folder: Path, batch: int, **options: Any) -> Ready:
        """The network as an ONNX file in `folder`."""
        graph = self.graph(batch, **options)
        path = folder / f"{self.name}.onnx"
        onnx.save(to_onnx(graph), path)
        return Ready(path, {value.name: value.type.shape for value in graph.inputs})


Model = FileModel | Example | Packaged

SUITE = (
    Example("vgg16", "vgg16"),
    Example("unet", "unet", options={"size": 256, "padded": True, "width": 32}),
    Example("resnet18", "resnet", options={"depth": 18}),
    Example("googlenet", "googlenet"),
    Example("squeezenet1_1", "squeezenet"),
    Example("inception_v3", "inception_v3"),
    Example("densenet121", "densenet"),
    Example("resnet50", "resnet"),
    Example("alexnet", "alexnet", "build_2014"),
    Example("mobilenet_v2", "mobilenet_v2"),
)
"""Ten networks in the forms that are in common use; what is measured when no files are given."""

MORE = (
    Example("lenet5", "lenet5"),
    Example("alexnet_2012", "alexnet"),
    Example("unet_2015", "unet"),
    *(Example(f"resnet{depth}", "resnet", options={"depth": depth}) for depth in (34, 101, 152)),
    *(Example(f"densenet{depth}", "densenet", options={"depth": depth}) for depth in (169, 201)),
)
"""Others that can be named with --models."""


def chosen(paths: Sequence[Path], names: Sequence[str]) -> list[Model]:
    """The files, those in the folders, or else the suite; of these the ones that are named, if any are.

    Raises OptionError for a path or a name that does not exist.
    """
    models: list[Model] = []
    for path in paths:
        found = sorted(path.glob("*.onnx")) if path.is_dir() else [path]
        if not found or not all(file.exists() for file in found):
            raise OptionError(f"There is no ONNX file at '{path}'.")
        models += [FileModel(file) for file in found]
    everyone: Sequence[Model] = models or [*SUITE, *MORE, *PACKAGED]
    known = {model.name: model for model in everyone}
    for name in names:
        if name not in known:
            raise OptionError(f"--models names '{name}'.", hint=f"There are {', '.join(sorted(known))}.")
    return [known[name] for name in names] if names else models or list(SUITE)
