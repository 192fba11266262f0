"""One ONNX node as its handler sees it: inputs, attributes, and the means to build nodes of the IR."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NoReturn, Protocol

import numpy as np
import onnx

from convc.errors import ModelError, TypeRuleError, UnsupportedError
from convc.frontends.onnx.folding import evaluate_constant, work_of
from convc.frontends.onnx.limits import Allowance, size_fault
from convc.ir import Attrs, Graph, Value, opdef
from convc.naming import module_of
from convc.types import Array, Shape, TensorType

_Kind = onnx.AttributeProto


def shortest(number: Any) -> float:
    """The shortest decimal that stands for a float32 (or another type of NumPy's): 0.1, not 0.10000000149."""
    return float(str(np.float32(number) if isinstance(number, float) else number))


class Refusal(UnsupportedError):
    """A node asks for something that convc has no code for. Collected, so that all are reported at once.

    `wanted` names the values that are computed at run time but needed when the model is compiled.
    """

    def __init__(self, reason: str, wanted: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.wanted = tuple(wanted)


class Scope(Protocol):
    """What a handler may ask of the graph in which its node lies."""

    @property
    def allowance(self) -> Allowance:
        """What may still be spent on constants that follow from others."""

    @property
    def folder(self) -> str | None:
        """Where external data lie."""

    @property
    def refusals(self) -> int:
        """How much of the model has been refused so far."""

    def want(self, names: Sequence[str]) -> None:
        """Note that these values would have to be known when the model is compiled."""

    def enter(self, graph: onnx.GraphProto, place: str) -> Sequence[Value]:
        """Import a graph that a node holds; returns its outputs."""


class Call:
    """A node of an ONNX model in the course of being imported.

    `name` is what messages call the node, `opset` the version of its domain, `inputs` its operands (None
    where an optional one is absent), `used` the positions of those outputs that anybody reads, `scope` the
    graph around it.
    """

    def __init__(
        self,
        graph: Graph,
        proto: onnx.NodeProto,
        name: str,
        opset: int,
        inputs: Sequence[Value | None],
        used: frozenset[int],
        scope: Scope,
    ) -> None:
        self.graph = graph
        self.proto = proto
        self.name = name
        self.opset = opset
        self.inputs = tuple(inputs)
        self.used = used
        self.scope = scope
        self._attributes = {a.name: a for a in proto.attribute}

    # ---- complaints

    def __str__(self) -> str:
        return f"Node '{self.name}' ({self.proto.op_type})"

    def refuse(self, reason: str) -> NoReturn:
        """Say that this node is valid ONNX for which convc has no code."""
        raise Refusal(reason)

    def malformed(self, reason: str, hint: str = "") -> NoReturn:
        """Say that this node is not valid ONNX."""
        raise ModelError(f"{self}: {reason}", hint=hint)

    def afford(self, kind: TensorType, work: int = 0) -> None:
        """Raise ModelError for a tensor that is too large, or that takes too much `work` to compute now."""
        if fault := size_fault(kind):
            self.malformed(f"a tensor of this node has {fault}.")
        if work and not self.scope.allowance.spend(work):
            million = self.scope.allowance.total >> 20
            self.malformed(
                f"the constants that follow from others take more than {million} million steps to compute.",
                "Compute them before the export, and store the results.",
            )

    # ---- inputs

    def input(self, index: int) -> Value:
        """Input `index`, which must be there."""
        found = self.optional(index)
        if found is None:
            self.malformed(f"input {index} is missing.")
        return found

    def optional(self, index: int) -> Value | None:
        """Input `index`, or None where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def rest(self, start: int = 0) -> list[Value]:
        """Inputs `start` and later, each of which must be there."""
        return [self.input(i) for i in range(start, max(len(self.inputs), start + 1))]

    def constant(self, index: int, what: str) -> Array | None:
        """The array of input `index`, or None where it is absent. Refuses one computed at run time."""
        value = self.optional(index)
        if value is None:
            return None
        array = self.graph.constant(value)
        if array is None:
            raise Refusal(
                f"input {index} ({what}) '{value.name}' is computed at run time, not constant", [value.name]
            )
        return array

    def constant_ints(self, index: int, what: str) -> tuple[int, ...] | None:
        """Input `index` as integers (a scalar or a vector), or None where it is absent."""
        array = self.constant(index, what)
        if array is None:
            return None
        if array.dtype.kind not in "iu" or array.ndim > 1:
            self.malformed(
                f"input {index} ({what}) is {array.dtype}{list(array.shape)}, not a vector of integers."
            )
        return tuple(map(int, array.reshape(-1)))

    def constant_number(self, index: int, what: str, default: float) -> float:
        """Input `index` as one number, or the default where it is absent."""
        array = self.constant(index, what)
        if array is None or not array.size:
            return default
        if array.size != 1 or array.dtype.kind not in "iufb":
            self.malformed(f"input {index} ({what}) is {array.dtype}{list(array.shape)}, not one number.")
        return float(array.reshape(-1)[0])

    # ---- attributes

    def has(self, name: str) -> bool:
        """Whether the node states attribute `name`."""
        return name in self._attributes

    def _attribute(self, name: str, kind: int, default: Any) -> Any:
        attribute = self._attributes.get(name)
        if attribute is None:
            if default is None:
                self.malformed(
                    f"attribute {name} is missing.", "Export the model again, or run onnx.checker."
                )
            return default
        if attribute.type != kind:
            found, wanted = (_Kind.AttributeType.Name(k) for k in (attribute.type, kind))
            self.malformed(f"attribute {name} has type {found}; {wanted} is expected.")
        return onnx.helper.get_attribute_value(attribute)

    def integer(self, name: str, default: int | None = None) -> int:
        """An integer attribute; without a default it must be there."""
        return int(self._attribute(name, _Kind.INT, default))

    def flag(self, name: str, default: bool = False) -> bool:
        """An integer attribute that means yes or no."""
        value = self._attribute(name, _Kind.INT, default)
        if value not in (0, 1):
            self.malformed(f"attribute {name} = {value} is neither 0 nor 1.")
        return bool(value)

    def real(self, name: str, default: float | None = None) -> float:
        """A float attribute."""
        return shortest(self._attribute(name, _Kind.FLOAT, default))

    def text(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        value = self._attribute(name, _Kind.STRING, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def ints(self, name: str, default: Sequence[int] | None = None, count: int | None = None) -> Shape:
        """A list of integers, of `count` entries where that is given."""
        values = tuple(map(int, self._attribute(name, _Kind.INTS, default)))
        if count is not None and len(values) != count:
            self.malformed(
                f"attribute {name} = {list(values)} has {len(values)} entries; {count} are expected."
            )
        return values

    def reals(self, name: str) -> tuple[float, ...]:
        """A list of floats, which must be there."""
        return tuple(map(shortest, self._attribute(name, _Kind.FLOATS, None)))

    def tensor(self, name: str) -> onnx.TensorProto:
        """A tensor attribute, which must be there."""
        value: onnx.TensorProto = self._attribute(name, _Kind.TENSOR, None)
        return value

    def graph_of(self, name: str) -> Sequence[Value]:
        """The outputs of a graph attribute, imported here."""
        return self.scope.enter(self._attribute(name, _Kind.GRAPH, None), f"{self.name}/{name}")

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front. A negative one counts from the end."""
        if not -rank <= axis < rank:
            self.malformed(f"axis {axis} is out of range for a tensor of {rank} dimensions.")
        return axis + rank if axis < 0 else axis

    def axes(self, axes: Sequence[int], rank: int) -> Shape:
        """Several axes, counted from the front. Each may occur once."""
        found = tuple(self.axis(a, rank) for a in axes)
        if len(set(found)) != len(found):
            self.malformed(f"axes {list(axes)} of a tensor of {rank} dimensions name one axis twice.")
        return found

    # ---- results

    @cached_property
    def origin(self) -> tuple[str, ...]:
        """This node, and the modules whose weights it reads: exporters name nodes after their numbers."""
        arrays = [self.graph.constant(v) for v in self.inputs]
        weights = [n for n, a in zip(self.proto.input, arrays, strict=False) if a is not None and a.ndim]
        return tuple(dict.fromkeys(filter(None, [self.name, *map(module_of, weights)])))

    def emit(
        self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None = None, *, count: int = 1
    ) -> Sequence[Value]:
        """Build the node whose `count` outputs are the ONNX node's first ones, under their ONNX names."""
        names = list(self.proto.output[:count])
        return self._build(op, inputs, attrs, [name or f"{self.name}:{i}" for i, name in enumerate(names)])

    def part(self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None = None) -> Value:
        """Build a node for an intermediate value, where one ONNX operator takes several of the IR's."""
        return self._build(op, inputs, attrs, [])[0]

    def scalar(self, value: float, like: Value) -> Value:
        """A scalar constant of the dtype of `like`."""
        return self.graph.add_constant(f"{self.name}/constant", np.asarray(value, like.type.dtype))

    def _build(
        self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None, names: Sequence[str]
    ) -> Sequence[Value]:
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        arrays = [self.graph.constant(v) for v in given]
        attrs = opdef(op).attrs() if attrs is None else attrs
        types = [None if v is None else v.type for v in given]
        try:
            results = opdef(op).infer(attrs, types)
            for kind in results:
                self.afford(kind)
            if all(a is not None for a, v in zip(arrays, given, strict=True) if v is not None):
                self.afford(results[0], work_of(op, attrs, types, results))
                found = evaluate_constant(op, attrs, arrays, results)
                names = list(names) or [f"{self.name}/{op}"] * len(found)
                return [self.graph.add_constant(n, a) for n, a in zip(names, found, strict=False)]
            node = self.graph.add(op, given, attrs, name=self.name, origin=self.origin, output_names=names)
        except TypeRuleError as error:
            raise TypeRuleError(f"{self}: {error.message}", hint=error.hint) from error
        return node.outputs
