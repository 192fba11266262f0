"""Inputs that are built into a network: numbers or arrays, brought into the type that the model states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from convc.errors import OptionError
from convc.frontends.onnx.inputs import Extent, input_dtype, shown, stated_extents
from convc.types import Array, Shape


def built_in(infos: Sequence[onnx.ValueInfoProto], given: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays that `given` puts in the place of inputs, by name.

    Numbers and lists take the input's dtype and shape; an array must have its shape. Raises OptionError for
    names that are no inputs, and for values that the input cannot hold.
    """
    declared = {info.name: info for info in infos}
    for name in given:
        if name not in declared:
            raise OptionError(
                f"--constant names '{name}', which is no input of the model.",
                hint=f"Its inputs are {', '.join(declared) or 'none'}.",
            )
    return {name: _array(declared[name], value) for name, value in given.items()}


def _array(info: onnx.ValueInfoProto, value: Any) -> Array:
    dtype, what = input_dtype(info), f"--constant {info.name}"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise OptionError(f"{what} has rows of different lengths.") from error
    if array.dtype.kind not in "biuf":
        raise OptionError(f"{what}={value!r} is no number.", hint=f"The input is {dtype}.")
    stated = stated_extents(info)
    if stated is not None and not _fits(array.shape, stated):
        array = _as_typed(array, stated, what, listed=not isinstance(value, np.ndarray))
    with np.errstate(all="ignore"):
        found: Array = array.astype(dtype)
    exact = found.dtype.kind == "f" and array.dtype.kind == "f"
    kept = np.isinf(found) == np.isinf(array) if exact else found.astype(np.float64) == array
    if not np.all(kept):
        raise OptionError(f"{what}={value!r} is beyond what the input's dtype {dtype} holds.")
    return found


def _fits(shape: Shape, stated: Sequence[Extent]) -> bool:
    return len(shape) == len(stated) and all(
        isinstance(extent, str) or extent == found for found, extent in zip(shape, stated, strict=True)
    )


def _as_typed(array: Array, stated: Sequence[Extent], what: str, *, listed: bool) -> Array:
    """A number or list in the shape that the model states, where that leaves no doubt."""
    fixed = tuple(1 if isinstance(extent, str) else extent for extent in stated)
    if listed and array.ndim < 2 and math.prod(fixed) == array.size:
        return array.reshape(fixed)
    wanted = shown(stated) or "a single number"
    raise OptionError(f"{what} has the shape {list(array.shape)}; the model's input is {wanted}.")
