"""Runs candidates' modules on a GPU. Needs NumPy, convc's runtime and the driver, nothing of the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convc.dtype import DType
from convc.runtime.cuda import ALIGNMENT
from convc.runtime.device import OWN_STREAM, Device
from convc.runtime.gpu import describe_gpu
from convc.runtime.host import check_machine
from convc.tune.proof import MARK, NO_RESULT, STRIP, Loaded
from convc.tune.runner import Runner
from convc.types import Array


class GuardedOnDevice:
    """An array on a GPU between two strips of known bytes."""

    def __init__(self, device: Device, shape: Sequence[int], dtype: str) -> None:
        self._device, self._shape, self._dtype = device, tuple(shape), DType.of(dtype).numpy
        self._nbytes = int(np.prod(shape, dtype=np.int64)) * self._dtype.itemsize
        behind = STRIP + -self._nbytes % ALIGNMENT
        self._memory = device.allocate(STRIP + self._nbytes + behind, OWN_STREAM)
        self.pointer = self._memory.pointer + STRIP
        self._strips = (self._memory.pointer, STRIP), (self.pointer + self._nbytes, behind)
        for pointer, nbytes in self._strips:
            device.write(pointer, np.full(nbytes, MARK, np.uint8))

    def spoil(self) -> None:
        """Fill it with what is no result."""
        self._device.write(self.pointer, np.full(self._nbytes, NO_RESULT, np.uint8))

    def write(self, array: Array) -> None:
        """Fill it with an array."""
        self._device.write(self.pointer, array)

    def read(self) -> Array:
        """What it holds."""
        found = np.empty(self._shape, self._dtype)
        self._device.read(self.pointer, found)
        return found

    @property
    def intact(self) -> bool:
        """Whether nothing was written beside the array."""
        for pointer, nbytes in self._strips:
            strip = np.empty(nbytes, np.uint8)
            self._device.read(pointer, strip)
            if not (strip == MARK).all():
                return False
        return True


class DeviceLoaded(Loaded):
    """A module for a GPU, on the first one that there is."""

    def __init__(self, path: Path, inputs: Sequence[Array]) -> None:
        super().__init__(path, inputs)
        check_machine(path, self.manifest)
        self._device = Device(path, 0)
        self._read = [GuardedOnDevice(self._device, a.shape, a.dtype.name) for a in self.given]
        for guarded, array in zip(self._read, self.given, strict=True):
            guarded.write(array)
        self._written = [GuardedOnDevice(self._device, t.shape, t.dtype) for t in self.manifest.outputs]
        self._addresses = [guarded.pointer for guarded in (*self._read, *self._written)]

    def seconds(self) -> float:
        """See `Loaded`: by events around each launch. The layer runs several times; the last one counts."""
        on_device = [False] * len(self._addresses)
        return float(self._device.profile(self._addresses, on_device, len(self.manifest.steps))[-1])

    def spoil(self) -> None:
        """See `Loaded`."""
        for guarded in self._written:
            guarded.spoil()

    def tensor(self, number: int) -> Array:
        """See `Loaded`."""
        return self._written[number].read()

    def intact(self, number: int) -> bool:
        """See `Loaded`."""
        return self._written[number].intact


class DeviceRunner(Runner):
    """The service."""

    def describe(self) -> dict[str, str]:
        """See `Runner`: the GPU's name, and the newest CUDA that its driver supports."""
        return describe_gpu()

    def load(self, path: Path, inputs: Sequence[Array]) -> Loaded:
        """See `Runner`."""
        return DeviceLoaded(path, inputs)
