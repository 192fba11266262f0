"""What the exporters of operators write on: nodes and initialisers under names that nothing else has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from convc.types import Array, TensorType


class Writer:
    """Nodes and initialisers of an ONNX graph under construction. `taken` are the names already given."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._taken = set(taken)

    def fresh(self, name: str) -> str:
        """A value name that nothing else has."""
        suffix, candidate = 1, name
        while candidate in self._taken:
            candidate, suffix = f"{name}.{suffix}", suffix + 1
        self._taken.add(candidate)
        return candidate

    def constant(self, array: Array, name: str) -> str:
        """Add an initialiser; returns its name."""
        found = self.fresh(name)
        self.constants[found] = array
        return found

    def add(
        self, op_type: str, inputs: Sequence[str], outputs: Sequence[str], name: str, **attributes: Any
    ) -> None:
        """Append a node; trailing absent inputs are left out."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        self.nodes.append(helper.make_node(op_type, given, list(outputs), name=name, **attributes))


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator as its exporter sees it: attributes, the names and types of inputs, names of outputs."""

    writer: Writer
    attrs: Any
    inputs: Sequence[str]
    types: Sequence[TensorType | None]
    outputs: Sequence[str]
    name: str

    def emit(self, op_type: str, inputs: Sequence[str] | None = None, **attributes: Any) -> None:
        """Append the node that makes the outputs."""
        given = self.inputs if inputs is None else inputs
        self.writer.add(op_type, given, self.outputs, self.name, **attributes)

    def part(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node that makes an intermediate value; returns its name."""
        name = self.writer.fresh(f"{self.name}/{op_type}")
        self.writer.add(op_type, inputs, [name], name, **attributes)
        return name

    def ints(self, values: Sequence[int], what: str) -> str:
        """A vector of int64 as an initialiser; returns its name."""
        return self.writer.constant(np.asarray(values, np.int64), f"{self.name}/{what}")

    def number(self, value: float, what: str) -> str:
        """A scalar of the first input's dtype as an initialiser; returns its name."""
        kind = self.types[0]
        assert kind is not None
        return self.writer.constant(np.asarray(value, kind.dtype), f"{self.name}/{what}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first input."""
        kind = self.types[0]
        assert kind is not None
        return kind.shape
