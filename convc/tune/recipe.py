"""What whoever runs a candidate's module must know of it, besides its manifest. Needs NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convc.types import Array, Layout


@dataclass(frozen=True)
class Stored:
    """How a tensor of logical shape `shape` is stored: channel blocks, and zeros on the spatial axes."""

    shape: tuple[int, ...]
    dtype: str
    block: int
    halo: tuple[tuple[int, int], ...] = ()

    @property
    def physical(self) -> tuple[int, ...]:
        """The shape in memory."""
        shape = list(Layout(self.block).physical(self.shape))
        for axis, (before, after) in enumerate(self.halo):
            shape[2 + axis] += before + after
        return tuple(shape)

    def pack(self, array: Array) -> Array:
        """A row-major array as it is stored."""
        stored = Layout(self.block).pack(array.astype(self.dtype))
        borders = [(0, 0)] * stored.ndim
        borders[2 : 2 + len(self.halo)] = self.halo
        return np.ascontiguousarray(np.pad(stored, borders)) if self.halo else stored

    def unpack(self, stored: Array) -> Array:
        """The row-major array of what is stored without a halo."""
        return Layout(self.block).unpack(stored, self.shape)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Stored:
        """The value that `dataclasses.asdict` and JSON made a mapping of."""
        halo = tuple((before, after) for before, after in data["halo"])
        return cls(tuple(data["shape"]), data["dtype"], data["block"], halo)


@dataclass(frozen=True)
class Recipe:
    """The layer's computed inputs (by their number among all inputs) and results.

    Inputs of the module: those, then the sweep's if there is one. Outputs: the results, copies of the inputs,
    then the sweep's. The layer is the last step. Results may be off by `tolerance`, relative to the largest.
    """

    inputs: Mapping[int, Stored]
    results: tuple[Stored, ...]
    tolerance: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The value that `dataclasses.asdict` and JSON made a mapping of."""
        inputs = {int(number): Stored.from_json(stored) for number, stored in data["inputs"].items()}
        return cls(inputs, tuple(map(Stored.from_json, data["results"])), data["tolerance"])
