"""One row of the case table, and short names for tensor types."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

import convc.ops  # noqa: F401  (fills the registry)
from convc.ir import Attrs, Graph, Value
from convc.types import Array, TensorType

Range = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """One operator on inputs of given types.

    `constants` are the inputs known at compile time. `ranges` bounds the random elements, one entry for
    each input or one for all; `grid` rounds floats to its multiples, to hit ties, halves and equality.
    """

    id: str
    op: str
    attrs: Attrs
    inputs: tuple[TensorType | None, ...]
    constants: tuple[int, ...] = ()
    ranges: tuple[Range, ...] = ((-2, 2),)
    grid: float = 0.0

    def arrays(self, seed: int = 0) -> list[Array | None]:
        """Random inputs, constants included, in the dtypes of the types."""
        rng = np.random.default_rng([seed, zlib.crc32(self.id.encode())])
        return [None if t is None else self._draw(rng, i, t) for i, t in enumerate(self.inputs)]

    def _draw(self, rng: np.random.Generator, index: int, kind: TensorType) -> Array:
        low, high = self.ranges[min(index, len(self.ranges) - 1)]
        if kind.is_float:
            values = rng.uniform(low, high, kind.shape)
            values = np.round(values / self.grid) * self.grid if self.grid else values
            return values.astype(kind.dtype.numpy)
        if kind.dtype == "bool":
            return rng.integers(0, 2, kind.shape).astype(bool)
        integers = rng.integers(int(low), int(high), kind.shape, endpoint=True)
        if self.op in ("div", "mod") and index == 1:
            integers[integers == 0] = 1
        return integers.astype(kind.dtype)

    def graph(self, seed: int = 0) -> Graph:
        """A graph of this one node, named as the operator; inputs `x0`, `x1`, ..., constants `c1`, ..."""
        graph = Graph(self.id)
        arrays = self.arrays(seed)
        values: list[Value | None] = []
        for index, (kind, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            if kind is None or array is None:
                values.append(None)
            elif index in self.constants:
                values.append(graph.add_constant(f"c{index}", array))
            else:
                values.append(graph.add_input(f"x{index}", kind))
        graph.set_outputs(graph.add(self.op, values, self.attrs).outputs)
        return graph

    def feeds(self, seed: int = 0) -> dict[str, Array]:
        """The inputs of `graph(seed)` by name."""
        return {
            f"x{i}": a for i, a in enumerate(self.arrays(seed)) if a is not None and i not in self.constants
        }

    def __str__(self) -> str:
        return self.id


def f32(*shape: int) -> TensorType:
    """A float32 tensor."""
    return TensorType(shape)


def of(dtype: str, *shape: int) -> TensorType:
    """A tensor of any dtype."""
    return TensorType(shape, dtype)
