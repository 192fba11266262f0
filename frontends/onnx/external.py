"""Weights that lie in files of their own beside the model: found safely, mapped rather than read."""

from __future__ import annotations

import math
import os

import numpy as np
import onnx

from convc.errors import ModelError
from convc.types import Array, Shape

_DIGITS = 19
"""Of a size in bytes: that of a file is below 2**63."""


def external_array(
    tensor: onnx.TensorProto, what: str, folder: str | None, dtype: np.dtype[np.generic], shape: Shape
) -> Array:
    """Map the file range that holds a tensor. Raises ModelError when it is missing, short or elsewhere."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _checked_path(entries.get("location", ""), what, folder)
    offset, length = _number(entries, "offset", what), _number(entries, "length", what)
    needed = math.prod(shape) * dtype.itemsize
    if length is not None and length != needed:
        raise ModelError(
            f"{what} states {length} bytes of external data; {dtype}{list(shape)} needs {needed}."
        )
    start = offset or 0
    size = os.path.getsize(path)
    if start + needed > size:
        raise ModelError(
            f"{what} needs bytes {start} to {start + needed} of '{path}', which has {size}.",
            hint="The file is truncated or belongs to another model.",
        )
    if not needed:
        return np.zeros(shape, dtype)
    try:
        mapped = np.memmap(path, np.uint8, "r", start, (needed,)).view(np.ndarray)
    except OSError as error:
        raise ModelError(f"{what} cannot be read from '{path}': {error.strerror}.") from error
    array: Array = mapped.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
    return array if array.flags.aligned else array.copy()


def _checked_path(location: str, what: str, folder: str | None) -> str:
    """The data file, which must lie in the model's folder: a model must not read other files of its user."""
    if folder is None:
        raise ModelError(
            f"{what} is stored in '{location}', but a model in memory has no folder.",
            hint="Give the path of the .onnx file instead.",
        )
    if "\0" in location:
        raise ModelError(f"{what} is stored in '{location}', which is no name of a file.")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, location))
    windows_style = "\\" in location or location[1:2] == ":"
    if not location or os.path.isabs(location) or windows_style or os.path.commonpath([root, path]) != root:
        raise ModelError(
            f"{what} is stored in '{location}', which leaves the model's folder '{root}'.",
            hint="Put the file beside the model and save the model with a relative location.",
        )
    if not os.path.isfile(path):
        raise ModelError(
            f"{what} is stored in '{location}', which is missing from '{root}'.",
            hint="Put the external data file beside the .onnx file.",
        )
    return path


def _number(entries: dict[str, str], key: str, what: str) -> int | None:
    text = entries.get(key)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        shown = text if len(text) <= 2 * _DIGITS else f"{text[:_DIGITS]}... ({len(text)} characters)"
        raise ModelError(f"{what} has the external {key} '{shown}', which is no number of bytes.")
    return int(text)
