"""ONNX's backend interface (onnx.backend.base) over any engine that runs graphs, for its test suite.

The suite hands shapes, axes and limits to a model as inputs. convc needs these when it compiles; so a model
is built at the first run with new input shapes, and inputs that must be constant are built in.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from convc.errors import InputError
from convc.frontends.onnx.files import load
from convc.frontends.onnx.handlers import NEWEST
from convc.frontends.onnx.importer import check, read
from convc.ir import Graph
from convc.types import Array, Shape

Runner: TypeAlias = "Callable[[Mapping[str, Array]], Sequence[Array]]"


class GraphRep(BackendRep):  # type: ignore[misc]
    """A model ready to run: one program for each combination of input shapes and built-in inputs."""

    def __init__(self, model: onnx.ModelProto, engine: Callable[[Graph], Runner]) -> None:
        weights = load(model).weights
        self.model = model
        self.engine = engine
        self.names = [info.name for info in model.graph.input if info.name not in weights]
        self._programs: dict[tuple[Any, ...], Runner] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for a sequence of arrays, in the order of the model's inputs, or a mapping by name."""
        if not isinstance(inputs, Mapping):
            inputs = [inputs] if isinstance(inputs, np.ndarray) else inputs
            if len(inputs) != len(self.names):
                raise InputError(f"{len(inputs)} arrays are given for the inputs {', '.join(self.names)}.")
            inputs = dict(zip(self.names, inputs, strict=True))
        arrays = {name: _array(name, value) for name, value in inputs.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        built_in = {name: array for name, array in arrays.items() if not array.size}
        while wanted := self._wanted(shapes, built_in) & (arrays.keys() - built_in.keys()):
            built_in.update((name, arrays[name]) for name in wanted)
        key = (*shapes.items(), *((name, array.tobytes()) for name, array in built_in.items()))
        if key not in self._programs:
            self._programs[key] = self.engine(read(self.model, input_shapes=shapes, constants=built_in))
        return tuple(self._programs[key]({n: a for n, a in arrays.items() if n not in built_in}))

    def _wanted(self, shapes: Mapping[str, Shape], built_in: Mapping[str, Array]) -> set[str]:
        """Inputs that operators need when the model is compiled, as far as can be seen so far."""
        return check(self.model, input_shapes=shapes, constants=built_in).wanted


def _array(name: str, value: Any) -> Array:
    """What is given for an input, which must be one array."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Input '{name}' is given a sequence of arrays; one array is expected.") from error
    if array.dtype == object:
        raise InputError(f"Input '{name}' is given a {type(value).__name__}; an array is expected.")
    return array


class GraphBackend(Backend):  # type: ignore[misc]
    """Runs ONNX models by an engine, which a subclass names: it takes a graph and returns a function."""

    @staticmethod
    @abstractmethod
    def engine(graph: Graph) -> Runner:
        """A function that runs the graph on inputs by name."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> GraphRep:
        """Check the model. Raises a ConvcError that says what is wrong with it."""
        return GraphRep(model, cls.engine)

    @classmethod
    def run_model(
        cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any
    ) -> tuple[Any, ...]:
        """Run a model once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node, at opset `opset_version` (by default the newest that convc reads)."""
        arrays = [np.asarray(array) for array in inputs]
        names = [name for name in node.input if name]
        infos = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "node", infos, outputs)
        opsets = [onnx.helper.make_opsetid("", kwargs.get("opset_version", NEWEST))]
        return cls.run_model(onnx.helper.make_model(graph, opset_imports=opsets), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device == "CPU"
