"""Results that stay on the GPU, as arrays that other libraries take over without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from convc.runtime import dlpack
from convc.runtime.device import LEGACY_STREAM, DeviceMemory
from convc.runtime.manifest import TensorInfo
from convc.types import Array, Shape


class DeviceArray:
    """A contiguous array in a GPU's memory, for `torch.from_dlpack`, `cupy.from_dlpack` or `.numpy()`.

    It may be there before the network has run: who takes it over through DLPack names the stream that he
    will use, and that stream waits. `stream` is the one that the network runs on, `complete` says that the
    call waited for its end.
    """

    def __init__(self, memory: DeviceMemory, info: TensorInfo, stream: int, complete: bool) -> None:
        self._memory = memory
        self._shape = tuple(info.shape)
        self._dtype = np.dtype(info.dtype)
        self._stream = stream
        self._complete = complete

    @property
    def shape(self) -> Shape:
        """The array's dimensions."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        return self._dtype

    @property
    def nbytes(self) -> int:
        """The bytes that it takes."""
        return int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize

    @property
    def device(self) -> int:
        """The number of the GPU."""
        return self._memory.device.ordinal

    @property
    def pointer(self) -> int:
        """The address on the device; for use on the call's stream, while this object lives."""
        return self._memory.pointer

    def numpy(self) -> Array:
        """A copy in the host's memory, made when the network has run."""
        array = np.empty(self._shape, self._dtype)
        self._memory.device.read(self._memory.pointer, array)
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("An array on a GPU can only be copied to NumPy.")
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule for the consumer's stream (None: the legacy default stream, -1: no order is wanted)."""
        if dl_device is not None and tuple(dl_device) == (dlpack.CPU, 0) and copy is not False:
            return self.numpy().__dlpack__()
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            raise BufferError(f"The array is on GPU {self.device}, and is not copied to device {dl_device}.")
        if copy:
            raise BufferError("A copy on the GPU is left to the library that takes the array.")
        self._share_with(stream)
        device = (dlpack.CUDA, self.device)
        return dlpack.make(self._memory.pointer, self._shape, self._dtype, device, self._memory)

    def _share_with(self, stream: int | None) -> None:
        memory = self._memory
        if stream == -1:
            memory.shared = True
            return
        consumer = stream or LEGACY_STREAM
        if memory.device.stream_id(consumer) != memory.stream_id:
            memory.shared = True
            if not self._complete:
                memory.device.wait(consumer)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._memory.shared = True
        return {
            "shape": self._shape,
            "typestr": self._dtype.str,
            "data": (self._memory.pointer, False),
            "strides": None,
            "version": 3,
            "stream": None if self._complete else self._stream,
        }

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self._shape}, dtype={self._dtype}, device={self.device})"
