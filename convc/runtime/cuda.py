"""Running modules on a GPU: what of a call is where, on which stream, and who waits for whom.

Inputs and outputs that are on the device are used where they are. Those on the host have room of their own
on the device, beside the workspace. A call that knows of nothing on the device runs on the module's own
stream, so that modules on several threads run side by side. One that does but names no stream runs on the
legacy default stream, which PyTorch and CuPy use as well: their memory and ours is then reused in that
stream's order.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import InputError, OptionError
from convc.runtime import dlpack
from convc.runtime.arrays import Frames, Reader, address
from convc.runtime.device import LEGACY_STREAM, OWN_STREAM, Device
from convc.runtime.device_array import DeviceArray
from convc.runtime.manifest import Manifest, TensorInfo
from convc.types import Array, Shape

ALIGNMENT = 16
"""Bytes; kernels read four floats at a time."""


def stream_handle(stream: Any) -> int:
    """The driver's handle of a stream: of a number, of PyTorch's or CuPy's, or of any `__cuda_stream__`.

    Raises OptionError for anything else.
    """
    if hasattr(stream, "__cuda_stream__"):
        protocol = stream.__cuda_stream__
        stream = (protocol() if callable(protocol) else protocol)[1]
    for name in ("cuda_stream", "ptr"):
        stream = getattr(stream, name, stream)
    if not isinstance(stream, int | np.integer) or isinstance(stream, bool) or stream < 0:
        raise OptionError(
            f"stream={stream!r} is not a CUDA stream.",
            hint="Give a stream of PyTorch or CuPy, or the driver's handle as a number.",
        )
    return int(stream) or LEGACY_STREAM  # 0 and 1 are the same stream, but 0 has no meaning in DLPack


def is_on_device(array: Any) -> bool:
    """Whether an array offers memory of a GPU. Which one is checked when it is read."""
    if isinstance(array, np.ndarray):
        return False
    if hasattr(array, "__dlpack_device__"):
        return array.__dlpack_device__()[0] in (dlpack.CUDA, dlpack.CUDA_MANAGED)
    return hasattr(array, "__cuda_array_interface__")


class DeviceReader:
    """What an array on the device must be."""

    def __init__(self, kind: str, info: TensorInfo) -> None:
        self._name = f"{kind} '{info.name}'"
        self._shape = tuple(info.shape)
        self._dtype = np.dtype(info.dtype)
        self.nbytes = int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize

    def read(self, array: Any, device: Device, stream: int, *, writes: bool = False) -> tuple[int, Any]:
        """The address, for use on `stream`, and what keeps the array alive and must be held meanwhile.

        Raises InputError for another shape, dtype or device, or for memory that the kernels cannot use.
        """
        found, kept = self._open(array, device, stream, writes)
        self._check(found, device)
        return found.pointer, kept

    def _open(self, array: Any, device: Device, stream: int, writes: bool) -> tuple[dlpack.Description, Any]:
        if not hasattr(array, "__dlpack__"):
            return self._interface(array, device, stream, writes), array
        try:
            # DLPack has no name for the module's own stream, which waits for the legacy one instead.
            capsule = array.__dlpack__(stream=stream or LEGACY_STREAM)
            if stream == OWN_STREAM:
                device.order(LEGACY_STREAM, OWN_STREAM)
            return dlpack.read(capsule), capsule
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self._name} cannot be read through DLPack: {error}.") from error

    def _interface(self, array: Any, device: Device, stream: int, writes: bool) -> dlpack.Description:
        """An array that offers `__cuda_array_interface__`; before version 3 it does not tell its stream."""
        offered = array.__cuda_array_interface__
        if offered.get("mask") is not None:
            raise InputError(f"{self._name} is a masked array.", hint="Give an array without a mask.")
        pointer, read_only = offered["data"]
        if writes and read_only:
            raise InputError(f"{self._name} is read-only.", hint="Give an array that can be written.")
        before = offered.get("stream") if offered["version"] >= 3 else LEGACY_STREAM
        if before is not None and before != stream:
            device.order(before, stream)
        dtype = np.dtype(offered["typestr"])
        strides = offered.get("strides")
        if strides is not None:
            strides = tuple(s // dtype.itemsize for s in strides)
        ordinal = device.owner(pointer) if self.nbytes else device.ordinal
        if ordinal < 0:
            raise InputError(f"{self._name} at address {pointer:#x} is not in the memory of a GPU.")
        name = dtype.name if dtype.isnative else dtype.str
        return dlpack.Description(pointer, tuple(offered["shape"]), strides, name, (dlpack.CUDA, ordinal))

    def _check(self, found: dlpack.Description, device: Device) -> None:
        if found.shape != self._shape:
            raise InputError(
                f"{self._name} has shape {found.shape}, expected {self._shape}.",
                hint="Shapes are fixed when compiling; see `convc compile --input-shapes`.",
            )
        if found.dtype != self._dtype.name:
            raise InputError(
                f"{self._name} has dtype {found.dtype}, expected {self._dtype}.",
                hint=f"Convert it to {self._dtype} on the device.",
            )
        if found.device[1] != device.ordinal:
            raise InputError(
                f"{self._name} is on device {found.device[1]}, and the module on device {device.ordinal}.",
                hint="Move it, or load the module with another `device`.",
            )
        if not _is_contiguous(found.shape, found.strides):
            raise InputError(
                f"{self._name} has strides {found.strides}, expected a contiguous array.",
                hint="Make it contiguous on the device, with `.contiguous()` or `ascontiguousarray`.",
            )
        if found.pointer % ALIGNMENT:
            raise InputError(
                f"{self._name} is at address {found.pointer:#x}, which is not a multiple of {ALIGNMENT}.",
                hint="Give a copy of it: it is a view into the middle of another array.",
            )


def _is_contiguous(shape: Shape, strides: Shape | None) -> bool:
    if strides is None or 0 in shape:
        return True
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


@dataclass
class _Call:
    """What the native runtime is told of a call, and what must live until it returns."""

    stream: int
    synchronise: bool
    addresses: list[int] = field(default_factory=list)
    on_host: list[bool] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)

    def add(self, pointer: int, kept: Any, *, on_host: bool) -> None:
        """The next operand: inputs in order, then outputs."""
        self.addresses.append(pointer)
        self.on_host.append(on_host)
        self.kept.append(kept)


class CudaExecutor:
    """Runs a module on a GPU: opened at once or, where it is not `callable_here`, when it is called."""

    def __init__(self, path: Path, manifest: Manifest, ordinal: int, *, callable_here: bool = True) -> None:
        self._path = path
        self._manifest = manifest
        self._ordinal = ordinal
        self._host_readers = [Reader(info) for info in manifest.inputs]
        self._readers = [DeviceReader("Input", info) for info in manifest.inputs]
        self._writers = [DeviceReader("Output", info) for info in manifest.outputs]
        self._frames = Frames(0, manifest.outputs)
        self._opening = threading.Lock()
        self._device: Device | None = None
        if callable_here:
            self._open()

    def _open(self) -> Device:
        with self._opening:
            if self._device is None:
                self._device = Device(self._path, self._ordinal)
            return self._device

    def run(self, given: Sequence[Any], stream: Any = None, out: Any = None) -> list[Any]:
        """The outputs for inputs in order: on the device when any input is, or `out`; else NumPy arrays."""
        device = self._device or self._open()
        on_device = out is not None or any(map(is_on_device, given))
        default = LEGACY_STREAM if on_device else OWN_STREAM
        call = _Call(default if stream is None else stream_handle(stream), not on_device or stream is None)
        self._add_inputs(call, given, device)
        if out is not None:
            return self._run_into(call, out, device)
        if on_device:
            return self._run_on_device(call, device)
        frame = self._frames.take()
        results = frame.results()
        self._run_to_host(call, results, device)
        self._frames.give_back(frame)
        return list(results)

    def profile(self, given: Sequence[Any], seconds: Array) -> None:
        """Run once, launch by launch, and write the seconds of each step: 0 where it has no launches."""
        device = self._device or self._open()
        call = _Call(OWN_STREAM, True)
        self._add_inputs(call, given, device)
        for _ in self._writers:  # results stay in the module's own room
            call.add(0, None, on_host=False)
        seconds[:] = device.profile(call.addresses, call.on_host, len(seconds))

    def _add_inputs(self, call: _Call, given: Sequence[Any], device: Device) -> None:
        for array, on_host, on_device in zip(given, self._host_readers, self._readers, strict=True):
            if is_on_device(array):
                call.add(*on_device.read(array, device, call.stream), on_host=False)
            else:
                ready = on_host.read(array)
                call.add(address(ready), ready, on_host=True)

    def _run_to_host(self, call: _Call, results: Sequence[Array], device: Device) -> None:
        for array in results:
            call.add(address(array), None, on_host=True)
        device.run(call.addresses, call.on_host, call.stream, call.synchronise)

    def _run_on_device(self, call: _Call, device: Device) -> list[Any]:
        results = []
        for info, writer in zip(self._manifest.outputs, self._writers, strict=True):
            memory = device.allocate(writer.nbytes, call.stream)
            call.add(memory.pointer, memory, on_host=False)
            results.append(DeviceArray(memory, info, call.stream, call.synchronise))
        device.run(call.addresses, call.on_host, call.stream, call.synchronise)
        return results

    def _run_into(self, call: _Call, out: Any, device: Device) -> list[Any]:
        arrays = list(out) if isinstance(out, list | tuple) else [out]
        if len(arrays) != len(self._writers):
            raise InputError(f"{len(arrays)} arrays were given in `out` for {len(self._writers)} outputs.")
        for array, writer, info in zip(arrays, self._writers, self._manifest.outputs, strict=True):
            if not is_on_device(array):
                raise InputError(
                    f"Output '{info.name}' is to go into an array that is not on a GPU.",
                    hint="Leave `out` out, and results of inputs on the host are NumPy arrays.",
                )
            pointer, kept = writer.read(array, device, call.stream, writes=True)
            self._check_apart(info.name, pointer, writer.nbytes, call)
            call.add(pointer, kept, on_host=False)
        device.run(call.addresses, call.on_host, call.stream, call.synchronise)
        return arrays

    def _check_apart(self, name: str, pointer: int, nbytes: int, call: _Call) -> None:
        """An output must not lie on what kernels still have to read, or on another output."""
        sizes = [operand.nbytes for operand in (*self._readers, *self._writers)]
        for other, size, on_host in zip(call.addresses, sizes, call.on_host, strict=False):
            if not on_host and pointer < other + size and other < pointer + nbytes:
                raise InputError(
                    f"Output '{name}' overlaps an input or another output.", hint="Give it memory of its own."
                )
