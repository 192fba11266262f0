"""The CUDA driver, as far as timing needs it: memory, streams and events, without any library of arrays."""

from __future__ import annotations

import ctypes
import math
import os
from typing import Any

import numpy as np
from store import Array

MAJOR, MINOR, MULTIPROCESSORS, L2_BYTES = 75, 76, 16, 38  # CUdevice_attribute


class CudaError(Exception):
    """The driver refused. Most of its errors make every later call of the process fail as well."""


class Driver:
    """The primary context of a device, which PyTorch and convc use too, current on this thread."""

    def __init__(self, ordinal: int = 0) -> None:
        self._library = ctypes.CDLL(os.environ.get("CONVC_LIBCUDA") or "libcuda.so.1")
        self._device = ctypes.c_int()
        context = ctypes.c_void_p()
        self.call("cuInit", ctypes.c_uint(0))
        self.call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(ordinal))
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self.call("cuCtxPushCurrent_v2", context)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function. Raises CudaError with the name of what it answers."""
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(status, ctypes.byref(text))
            raise CudaError(f"{name}: {(text.value or b'?').decode()} ({status})")

    def describe(self) -> dict[str, Any]:
        """The device's name, compute capability and sizes, and the CUDA version of its driver."""
        name, version = ctypes.create_string_buffer(256), ctypes.c_int()
        self.call("cuDeviceGetName", name, ctypes.c_int(256), self._device)
        self.call("cuDriverGetVersion", ctypes.byref(version))
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return {
            "device": name.value.decode(),
            "sm": 10 * self._attribute(MAJOR) + self._attribute(MINOR),
            "multiprocessors": self._attribute(MULTIPROCESSORS),
            "l2_bytes": self._attribute(L2_BYTES),
            "memory_bytes": total.value,
            "driver_cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
        }

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        try:
            self.call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        except CudaError:
            return 0
        return value.value

    def stream(self) -> int:
        """A new stream that waits for no other."""
        handle = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(handle), ctypes.c_uint(1))
        return handle.value or 0

    def synchronise(self, stream: int) -> None:
        """Wait until a stream has done everything."""
        self.call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def event(self) -> ctypes.c_void_p:
        """A new event that keeps time."""
        handle = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(handle), ctypes.c_uint(0))
        return handle

    def record(self, event: ctypes.c_void_p, stream: int) -> None:
        """Let an event happen when a stream has done all that it was given up to now."""
        self.call("cuEventRecord", event, ctypes.c_void_p(stream))

    def milliseconds(self, first: ctypes.c_void_p, then: ctypes.c_void_p) -> float:
        """The time between two events, when the second has happened."""
        found = ctypes.c_float()
        self.call("cuEventSynchronize", then)
        self.call("cuEventElapsedTime", ctypes.byref(found), first, then)
        return found.value


class DeviceBuffer:
    """An array in the device's memory, offered through the CUDA array interface."""

    def __init__(self, driver: Driver, shape: tuple[int, ...], dtype: str) -> None:
        self._driver, self.shape, self.dtype = driver, shape, np.dtype(dtype)
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        pointer = ctypes.c_uint64()
        driver.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(self.nbytes, 1)))
        self.pointer = pointer.value

    def __del__(self) -> None:
        if getattr(self, "pointer", 0):
            self._driver._library.cuMemFree_v2(ctypes.c_uint64(self.pointer))

    def write(self, array: Array, offset: int = 0) -> None:
        """Copy an array of the host to `offset` bytes behind the start."""
        whole = np.ascontiguousarray(array)
        self._driver.call(
            "cuMemcpyHtoD_v2",
            ctypes.c_uint64(self.pointer + offset),
            ctypes.c_void_p(whole.ctypes.data),
            ctypes.c_size_t(whole.nbytes),
        )
        # What the host's copy has left for the device to do is in no order with streams that wait for none.
        self._driver.call("cuCtxSynchronize")

    def read(self, stream: int) -> Array:
        """The array, when a stream has done everything."""
        array = np.empty(self.shape, self.dtype)
        self._driver.call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(self.pointer),
            ctypes.c_size_t(self.nbytes),
            ctypes.c_void_p(stream),
        )
        self._driver.synchronise(stream)
        return array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
            "stream": None,
        }
