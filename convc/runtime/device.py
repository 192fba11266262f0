"""A module open on a GPU: the native runtime's functions, its failures as errors, and memory for results."""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import (
    ConvcError,
    DeviceError,
    DeviceMemoryError,
    DriverError,
    ModuleError,
    NoDeviceError,
    WrongDeviceError,
)
from convc.runtime.host import map_library
from convc.types import Array

LEGACY_STREAM = 1
"""The stream that PyTorch and CuPy use unless told otherwise, under the name that DLPack gives it too."""

OWN_STREAM = 0
"""The module's own stream, of which nobody else knows; the native runtime calls it so."""

NO_STREAM = -1
"""The id of no stream."""

KEPT = 8
"""Memories of results that are kept for later calls."""

_ERRORS: dict[int, type[ConvcError]] = {  # native/cuda/failure.h
    1: NoDeviceError,
    2: WrongDeviceError,
    3: DriverError,
    4: DeviceMemoryError,
    5: DeviceError,
    6: ModuleError,
}

_HANDLE, _STREAM, _POINTER, _BYTES = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64
_SIGNATURES: dict[str, tuple[Any, ...]] = {  # the result, then the parameters
    "message": (ctypes.c_char_p,),
    "hint": (ctypes.c_char_p,),
    "open": (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p),
    "close": (None, _HANDLE),
    "name": (ctypes.c_char_p, _HANDLE),
    "run": (ctypes.c_int, _HANDLE, ctypes.c_void_p, ctypes.c_char_p, _STREAM, ctypes.c_int),
    "profile": (ctypes.c_int, _HANDLE, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
    "launches": (ctypes.c_int, ctypes.c_void_p),
    "alloc": (ctypes.c_int, _HANDLE, _BYTES, ctypes.c_void_p),
    "free": (ctypes.c_int, _HANDLE, _POINTER),
    "wait": (ctypes.c_int, _HANDLE, _STREAM),
    "order": (ctypes.c_int, _HANDLE, _STREAM, _STREAM),
    "stream_id": (ctypes.c_int, _HANDLE, _STREAM, ctypes.c_void_p),
    "read": (ctypes.c_int, _HANDLE, _POINTER, ctypes.c_void_p, _BYTES),
    "write": (ctypes.c_int, _HANDLE, _POINTER, ctypes.c_void_p, _BYTES),
    "owner": (ctypes.c_int, _HANDLE, _POINTER, ctypes.c_void_p),
}


class Native:
    """The functions `convc_cuda_NAME` of a module file, which release the GIL while they run."""

    def __init__(self, path: Path) -> None:
        library = map_library(path, [f"convc_cuda_{name}" for name in _SIGNATURES])
        for name, (result, *parameters) in _SIGNATURES.items():
            function = getattr(library, f"convc_cuda_{name}")
            function.restype, function.argtypes = result, parameters
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # for those that are set above
        raise AttributeError(name)

    def check(self, status: int, where: str = "") -> None:
        """Raise what a status other than 0 stands for; `where` goes before the message."""
        if status:
            message, hint = self.message().decode(), self.hint().decode()
            raise _ERRORS[status](where + message, hint=hint)


class Device:
    """A module's weights, code and workspace on a GPU. Freed when nobody holds it or any of its memory.

    Raises a DeviceError when the device cannot run the module.
    """

    def __init__(self, path: Path, ordinal: int) -> None:
        self._handle = ctypes.c_void_p()
        self._kept: deque[tuple[int, int, int]] = deque()  # stream id, bytes, pointer
        self._users = 1
        self._counting = threading.RLock()  # a finaliser may run in the midst of counting
        self._native = Native(path)
        self.ordinal = ordinal
        status = self._native.open(str(path).encode(), ordinal, ctypes.addressof(self._handle))
        self._native.check(status, f"Cannot load '{path}': ")
        self.name: str = self._native.name(self._handle).decode()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        """Close when the last user is gone: finalisers of a reference cycle run in any order."""
        with self._counting:
            self._users -= 1
            if self._users or not self._handle:
                return
        self._trim(0)
        self._native.close(self._handle)
        self._handle = ctypes.c_void_p()

    def run(self, addresses: Sequence[int], on_host: Sequence[bool], stream: int, synchronise: bool) -> None:
        """Put a call on a stream: addresses of the inputs, then of the outputs, and which are the host's.

        With `synchronise` it is done on return, otherwise only the host's inputs have been read.
        """
        pointers = (ctypes.c_uint64 * len(addresses))(*addresses)
        status = self._native.run(
            self._handle, ctypes.addressof(pointers), bytes(on_host), stream, synchronise
        )
        self._native.check(status)

    def profile(self, addresses: Sequence[int], on_host: Sequence[bool], steps: int) -> Array:
        """Run on the module's own stream, launch by launch: the seconds of each of the program's steps."""
        pointers = (ctypes.c_uint64 * len(addresses))(*addresses)
        numbers = ctypes.POINTER(ctypes.c_int)()
        count = self._native.launches(ctypes.addressof(numbers))
        milliseconds = np.zeros(count, np.float32)
        status = self._native.profile(
            self._handle, ctypes.addressof(pointers), bytes(on_host), milliseconds.ctypes.data
        )
        self._native.check(status)
        seconds = np.zeros(steps)
        np.add.at(seconds, np.array(numbers[:count], np.intp), milliseconds / 1e3)
        return seconds

    def read(self, pointer: int, array: Array) -> None:
        """Copy from the device into a contiguous array, when everything before is done."""
        self._native.check(self._native.read(self._handle, pointer, array.ctypes.data, array.nbytes))

    def write(self, pointer: int, array: Array) -> None:
        """Copy a contiguous array to the device, when everything before is done."""
        self._native.check(self._native.write(self._handle, pointer, array.ctypes.data, array.nbytes))

    def wait(self, stream: int) -> None:
        """Let a stream wait for the last call."""
        self._native.check(self._native.wait(self._handle, stream))

    def order(self, first: int, then: int) -> None:
        """Let a stream, or OWN_STREAM, wait for what another was given up to now."""
        self._native.check(self._native.order(self._handle, first, then))

    def owner(self, pointer: int) -> int:
        """The number of the device that has this address, or -1."""
        ordinal = ctypes.c_int()
        self._native.check(self._native.owner(self._handle, pointer, ctypes.addressof(ordinal)))
        return ordinal.value

    def stream_id(self, stream: int) -> int:
        """A number that no other stream of this process ever has, unlike its handle."""
        number = ctypes.c_uint64()
        self._native.check(self._native.stream_id(self._handle, stream, ctypes.addressof(number)))
        return number.value

    def allocate(self, nbytes: int, stream: int) -> DeviceMemory:
        """Uninitialised memory that the next call on a stream may write.

        Memory that was used on this stream alone is taken again without waiting: the stream's order keeps
        what still reads it apart from what writes it next.
        """
        wanted = self.stream_id(stream)
        size = max(nbytes, 1)
        for _ in range(len(self._kept)):
            try:
                entry = self._kept.popleft()
            except IndexError:  # another thread was faster
                break
            if entry[:2] == (wanted, size):
                return self._lend(entry[2], size, wanted)
            self._kept.append(entry)
        return self._lend(self._fresh(size), size, wanted)

    def _lend(self, pointer: int, nbytes: int, stream_id: int) -> DeviceMemory:
        with self._counting:
            self._users += 1
        return DeviceMemory(self, pointer, nbytes, stream_id)

    def _fresh(self, nbytes: int) -> int:
        pointer = ctypes.c_uint64()
        try:
            self._native.check(self._native.alloc(self._handle, nbytes, ctypes.addressof(pointer)))
        except DeviceMemoryError:
            if not self._kept:
                raise
            self._trim(0)
            return self._fresh(nbytes)
        return pointer.value

    def _trim(self, count: int) -> None:
        while len(self._kept) > count:
            try:
                self._native.free(self._handle, self._kept.popleft()[2])
            except IndexError:
                break

    def give_back(self, memory: DeviceMemory) -> None:
        """Keep memory for later calls, or free it where streams that nobody here knows may still read it."""
        if memory.shared and not self._native.free(self._handle, memory.pointer):
            self._leave()
            return
        # What could not be freed now is tried again later, and used by no stream meanwhile.
        stream_id = NO_STREAM if memory.shared else memory.stream_id
        self._kept.append((stream_id, memory.nbytes, memory.pointer))
        self._trim(KEPT)
        self._leave()


class DeviceMemory:
    """Memory of one result. `shared`: others than the call's stream may work on it."""

    def __init__(self, device: Device, pointer: int, nbytes: int, stream_id: int) -> None:
        self.device = device
        self.pointer = pointer
        self.nbytes = nbytes
        self.stream_id = stream_id
        self.shared = False

    def __del__(self) -> None:
        self.device.give_back(self)
