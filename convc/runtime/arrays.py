"""The arrays of a call: inputs as the kernels may read them, and memory for outputs that is used again.

Between two calls of a network whose weights exceed the caches nothing of this is left in them: each function
of NumPy or ctypes that is reached costs 5 to 30 microseconds (Zen 5). Therefore what can be prepared is
prepared once, and a call whose arrays are as they should be takes the shortest way.
"""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from convc.errors import InputError
from convc.runtime.manifest import TensorInfo
from convc.types import Array, Shape

ALIGNMENT = 64  # bytes; the kernels assume it of outputs
KEPT = 2  # frames: callers usually hold one call's outputs while they ask for the next

_NO_BYTES = ctypes.c_char * 0  # fits a buffer of any size, an empty one too


def address(array: Array) -> int:
    """Where a contiguous array's data begins."""
    if array.flags.writeable:
        buffer: Any = array  # NumPy's types don't say so before Python 3.12
        return ctypes.addressof(_NO_BYTES.from_buffer(buffer))  # a third of the time of the attribute below
    found: int = array.__array_interface__["data"][0]
    return found


class Reader:
    """What an input must be."""

    def __init__(self, info: TensorInfo) -> None:
        self._info = info
        self._shape = tuple(info.shape)
        self._dtype = np.dtype(info.dtype)

    def read(self, given: Any) -> Array:
        """The array that the kernels may read: right shape and dtype, contiguous, aligned to its elements.

        Raises InputError for another shape or dtype, or for an array on another device.
        """
        array = given if isinstance(given, np.ndarray) else _from_other(self._info, given)
        if array.shape != self._shape:
            raise InputError(
                f"Input '{self._info.name}' has shape {array.shape}, expected {self._shape}.",
                hint=_advice(array.shape, self._shape),
            )
        if array.dtype is not self._dtype and array.dtype != self._dtype:
            raise InputError(
                f"Input '{self._info.name}' has dtype {array.dtype}, expected {self._dtype}.",
                hint=f"Convert it with `.astype('{self._dtype}')`.",
            )
        return array if array.flags.carray else np.require(array, requirements=["C", "A"])


def _from_other(info: TensorInfo, given: Any) -> Array:
    if hasattr(given, "__dlpack__"):
        try:
            return np.from_dlpack(given)
        except (BufferError, RuntimeError, TypeError) as error:
            raise InputError(
                f"Input '{info.name}' cannot be read through DLPack: {error}.", hint="Move it to the CPU."
            ) from error
    if given is None or isinstance(given, str | bytes | Mapping):
        by_name = " Arrays by name are for `module.run(None, feeds)`." if isinstance(given, Mapping) else ""
        raise InputError(
            f"Input '{info.name}' is an object of {type(given).__name__}, not an array.",
            hint=f"Give a NumPy array, or one that offers DLPack.{by_name}",
        )
    return np.asarray(given)


def _advice(found: Shape, wanted: Shape) -> str:
    """What makes the one shape the other, where a usual mistake does."""
    last = (0, len(found) - 1, *range(1, len(found) - 1))
    if len(found) == len(wanted) > 2 and tuple(found[axis] for axis in last) == wanted:
        return f"Its channels are last; bring them to the front: `x.transpose{last}`."
    if (1, *found) == wanted:
        return "It lacks the batch: `x[None]`."
    return "Shapes are fixed when compiling; see `convc compile --input-shapes`."


def _aligned_empty(info: TensorInfo) -> Array:
    """An uninitialised array whose data starts at a multiple of ALIGNMENT; its `base` owns the memory."""
    nbytes = math.prod(info.shape) * np.dtype(info.dtype).itemsize
    block = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -address(block) % ALIGNMENT
    return block[start : start + nbytes].view(info.dtype).reshape(info.shape)


class Frame:
    """The pointers that one call passes to the native code, and the memory of its outputs.

    `inputs` and `outputs` are addresses of arrays of pointers.
    """

    def __init__(self, inputs: int, outputs: Iterable[TensorInfo]) -> None:
        self._views = [_aligned_empty(info) for info in outputs]
        self._input_pointers = (ctypes.c_void_p * inputs)()
        self._output_pointers = (ctypes.c_void_p * len(self._views))(*map(address, self._views))
        self.inputs = ctypes.addressof(self._input_pointers)
        self.outputs = ctypes.addressof(self._output_pointers)
        self._unheld = self._holders()

    def _holders(self) -> list[int]:
        """References to the memory of each output; every view of a view refers to it directly."""
        return [getrefcount(view.base) for view in self._views]

    @property
    def idle(self) -> bool:
        """Whether nobody holds any of the outputs that were handed out."""
        return self._holders() == self._unheld

    def point_to(self, arrays: Sequence[Array]) -> None:
        """Set the pointers to the inputs; the caller keeps the arrays alive."""
        for i, array in enumerate(arrays):
            self._input_pointers[i] = address(array)

    def results(self) -> list[Array]:
        """The outputs, as arrays that keep their memory from being used again."""
        return [view.view() for view in self._views]


class Frames:
    """The frames of a module. As many calls at once as there are threads may take one."""

    def __init__(self, inputs: int, outputs: Sequence[TensorInfo]) -> None:
        self._sizes = (inputs, outputs)
        self._kept: deque[Frame] = deque(maxlen=KEPT)

    def take(self) -> Frame:
        """A frame whose outputs nobody holds. It belongs to the caller until it is given back."""
        for _ in range(KEPT):
            try:
                frame = self._kept.popleft()
            except IndexError:
                break
            if frame.idle:
                return frame
            self._kept.append(frame)
        return Frame(*self._sizes)

    def give_back(self, frame: Frame) -> None:
        """Keep a frame for later calls, in place of the oldest. Outputs that are held keep their memory."""
        self._kept.append(frame)
