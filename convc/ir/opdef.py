"""What the IR knows of an operator: one definition that serves every user of it.

The definitions themselves are in `convc.ops`; importing that package fills the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from convc.errors import GraphError
from convc.types import Array, TensorType


@dataclass(frozen=True)
class Attrs:
    """Base of every operator's attributes: hashable values of fixed types (numbers, str, bool, tuples)."""


@dataclass(frozen=True)
class Cost:
    """Work of one node. A multiply-add counts once; elementwise operations and comparisons are `other`."""

    multiply_adds: int = 0
    parameters: int = 0
    other: int = 0


@dataclass(frozen=True)
class Window:
    """What one output pixel sees along each spatial axis, for receptive fields: kernel, stride, dilation."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]


A = TypeVar("A", bound=Attrs)


class OpDef(ABC, Generic[A]):
    """Attributes, type rule, float64 reference and cost of one operator.

    `inputs` is (fewest, most); an absent optional input is None. The reference receives floating-point
    arrays as float64 and integers in their own dtype.
    """

    name: ClassVar[str]
    attrs: ClassVar[type[Attrs]] = Attrs
    inputs: ClassVar[tuple[int, int]] = (1, 1)
    elementwise: ClassVar[bool] = False
    """Whether the output at an index depends on the (broadcast) inputs at that index alone."""
    instructions: ClassVar[int] = 4
    """About how many vector instructions an elementwise operator takes for a vector of results."""
    linear: ClassVar[bool] = False
    """Whether outputs are sums of products of the inputs, of which rounding loses a part of the terms."""
    moves: ClassVar[bool] = False
    """Whether outputs hold values of the inputs and no others, perhaps in another dtype."""

    @abstractmethod
    def infer(self, attrs: A, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        """Types of the outputs, in plain layout. Raises TypeRuleError, quoting the values that do not fit."""

    @abstractmethod
    def reference(self, attrs: A, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """The outputs by definition, in float64 for floating-point inputs; written for clarity."""

    def terms(self, attrs: A, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
        """For a linear operator: sums of the magnitudes of the terms that the outputs are sums of."""
        return self.reference(attrs, [None if a is None else np.abs(a) for a in inputs])

    def cost(self, attrs: A, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType]) -> Cost:
        """Work of one evaluation. By default one operation for each output element."""
        return Cost(other=sum(t.size for t in outputs))

    def window(self, attrs: A, inputs: Sequence[TensorType | None]) -> Window | None:
        """The sliding window over the spatial axes of input 0, or None where there is none."""
        return None


REGISTRY: dict[str, OpDef[Any]] = {}


def register(op: type[OpDef[Any]]) -> type[OpDef[Any]]:
    """Class decorator: make an operator known under its name."""
    REGISTRY[op.name] = op()
    return op


def opdef(name: str) -> OpDef[Any]:
    """The definition of an operator. Raises GraphError for an unknown name."""
    if name not in REGISTRY:
        raise GraphError(f"Unknown operator '{name}'.", hint=f"Known are: {', '.join(sorted(REGISTRY))}.")
    return REGISTRY[name]
