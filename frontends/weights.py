"""Where the builder's weights come from: an array for the call, a table of named arrays, or a seed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from convc.errors import TypeRuleError
from convc.types import Array, Shape

Draw = Callable[[np.random.Generator, Shape], Array]
"""Draws an array of a shape."""


def he_normal(fan_in: float) -> Draw:
    """Normal with variance 2 / fan_in (He et al., "Delving Deep into Rectifiers", 2015, section 2.2)."""
    deviation = np.float32(math.sqrt(2.0 / fan_in))
    return lambda rng, shape: rng.standard_normal(shape, dtype=np.float32) * deviation


def normal(mean: float, deviation: float) -> Draw:
    """Normal with this mean and standard deviation."""
    return lambda rng, shape: rng.normal(mean, deviation, shape)


def uniform(low: float, high: float) -> Draw:
    """Uniform in [low, high)."""
    return lambda rng, shape: rng.uniform(low, high, shape)


@dataclass(frozen=True)
class Parameter:
    """One array that a layer needs: its part of the name, its shape, the user's array if given, the draw."""

    part: str
    shape: Shape
    given: Array | None
    draw: Draw


class Weights:
    """The arrays of one network.

    An array given with the call comes first; then, when the network has a table of arrays, the one under
    `LAYER.PART` (say `conv1.weight`), which must be there; then a draw. Every draw has its own generator,
    made from the seed and the array's name, so that adding or removing a layer leaves the others' weights
    as they were. Seed None draws nothing: all weights are 0 and take no memory, for studies of shapes.
    """

    def __init__(self, seed: int | None, table: Mapping[str, Array] | None) -> None:
        self._seed = seed
        self._table = table
        self._used: set[str] = set()

    def take(self, layer: str, parameter: Parameter, dtype: str) -> Array:
        """The array of one parameter of a layer, in `dtype`. Raises TypeRuleError when it does not fit."""
        name = f"{layer}.{parameter.part}"
        given = parameter.given
        if given is None and self._table is not None:
            if name not in self._table:
                raise TypeRuleError(
                    f"No array '{name}' of shape {parameter.shape} is among the {len(self._table)} given.",
                    hint=f"The arrays are named {', '.join(list(self._table)[:8])}...",
                )
            given = self._table[name]
            self._used.add(name)
        if given is not None:
            return fit(name, given, parameter.shape, dtype)
        if self._seed is None:
            return np.broadcast_to(np.zeros((), dtype), parameter.shape)
        rng = np.random.default_rng((self._seed, zlib.crc32(name.encode())))
        return np.asarray(parameter.draw(rng, parameter.shape), dtype)

    def unused(self) -> list[str]:
        """Names in the table that no layer has taken."""
        return [] if self._table is None else [name for name in self._table if name not in self._used]


def fit(name: str, array: Array, shape: Shape, dtype: str) -> Array:
    """`array` as a contiguous array of `dtype`, if it has the shape. Raises TypeRuleError otherwise."""
    found = np.asarray(array)
    if found.shape != shape:
        raise TypeRuleError(f"The array for '{name}' has shape {found.shape}; the layer needs {shape}.")
    if not np.can_cast(found.dtype, dtype, "same_kind"):
        raise TypeRuleError(f"The array for '{name}' has dtype {found.dtype}; the layer needs {dtype}.")
    return np.asarray(found, dtype, order="C")
