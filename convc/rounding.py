"""What the dtypes of tensors make of a float64 reference: the hooks of `convc.evaluate`.

A network that overflows or underflows in float32 does so in any float32 program. Such a program is right
when it agrees with the reference that stores every tensor as its dtype can.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convc.ir import Node
from convc.types import Array, TensorType, numpy_dtype

FLUSHED = ("float32", "float64")
"""Dtypes whose denormal numbers processors flush; those of float16 are computed with as float32."""

FLUSHED_SUM = 2.0**20 * float(np.finfo("float32").tiny)
"""More than a sum of a million terms can lose where each partial sum may be flushed."""


def as_stored(keep_denormals: bool) -> Callable[[Array, TensorType, Node | None], Array]:
    """Round every tensor to its dtype: numbers beyond it are infinite, denormal ones 0 unless kept."""

    def rounding(array: Array, kind: TensorType, node: Node | None = None) -> Array:
        if not kind.is_float:
            return array
        dtype = numpy_dtype(kind.dtype)
        with np.errstate(over="ignore", under="ignore"):
            stored = array.astype(dtype).astype("float64")
        if kind.dtype in FLUSHED and not keep_denormals:
            stored[np.abs(stored) < float(np.finfo(dtype).tiny)] *= 0.0
        return stored

    return rounding


def without_denormals(array: Array) -> Array:
    """An array of constants as a processor that flushes reads it: itself where it holds no denormals."""
    if array.dtype.name not in FLUSHED:
        return array
    denormal = (array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)
    return np.where(denormal, np.zeros_like(array), array) if denormal.any() else array
