"""The tests' CUDA driver (tests/support/fake_cuda), kernels for it, and arrays in its memory."""

from __future__ import annotations

import ctypes
import gc
import math
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc.codegen.cache import ObjectCache
from convc.codegen.cuda_link import DeviceProgram, runtime_objects, write_module
from convc.codegen.gpus import GPUS
from convc.codegen.machine import linker, resolve
from convc.runtime.manifest import Manifest, TensorInfo
from convc.types import Array

SOURCES = Path(__file__).parent / "fake_cuda"
NATIVE = resources.files("convc.codegen").joinpath("native/cuda")


def compile_c(out: Path, sources: list[Path], *options: str) -> None:
    """A shared object of C files."""
    compiler = shlex.split(linker(resolve("host", 1)))
    flags = ["-shared", "-fPIC", "-pthread", "-O1", "-g", "-Wall", "-Wextra", "-Werror", *options]
    subprocess.run([*compiler, *flags, "-o", str(out), *map(str, sources), "-ldl"], check=True)


def build_driver(folder: Path) -> Path:
    """The driver's library, for CONVC_LIBCUDA."""
    path = folder / "libcuda_fake.so"
    compile_c(path, sorted(SOURCES.glob("*.c")), f"-I{NATIVE}")
    return path


class FakeDriver:
    """What the library tells tests, and memory of its devices."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams = 0  # made by tests; they live on
        self.library = ctypes.CDLL(str(path))
        self.library.fake_cuda_live.restype = ctypes.c_long
        self.library.fake_cuda_pending.restype = ctypes.c_long
        self.library.cuCtxPushCurrent_v2.argtypes = (ctypes.c_void_p,)
        self.library.cuMemAlloc_v2.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self.library.cuMemFree_v2.argtypes = (ctypes.c_uint64,)
        self.library.cuStreamSynchronize.argtypes = (ctypes.c_void_p,)
        self.library.cuStreamCreate.argtypes = (ctypes.c_void_p, ctypes.c_uint)
        self.library.cuEventRecord.argtypes = (ctypes.c_void_p, ctypes.c_void_p)

    @property
    def live(self) -> int:
        """Things that were made and not destroyed."""
        return int(self.library.fake_cuda_live())

    @property
    def depth(self) -> int:
        """Contexts on this thread's stack."""
        return int(self.library.fake_cuda_depth())

    @property
    def pending(self) -> int:
        """Operations on streams that nobody has waited for."""
        return int(self.library.fake_cuda_pending())

    def calls(self, name: str) -> int:
        """Calls of a function since the last reset."""
        return int(self.library.fake_cuda_calls(name.encode()))

    def reset(self) -> None:
        """Forget calls and faults."""
        self.library.fake_cuda_reset()

    def synchronise(self, stream: int = 1) -> None:
        """Wait for a stream."""
        with Context(self):
            assert self.library.cuStreamSynchronize(stream) == 0

    def stream(self) -> int:
        """A new stream that waits for no other."""
        handle = ctypes.c_void_p()
        with Context(self):
            assert self.library.cuStreamCreate(ctypes.byref(handle), 1) == 0
        assert handle.value
        self.streams += 1
        return handle.value

    def array(self, values: Array, *, offset: int = 0, device: int = 0) -> ForeignArray:
        """A copy on the device, `offset` bytes into its memory."""
        return ForeignArray(self, values, offset, device)


def watched(library: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """The driver for one test, after which nothing may be left of what the test made.

    What was there before is kept out of the collector's sight: a heap with all of TVM in it takes 0.3 s.
    """
    monkeypatch.setenv("CONVC_LIBCUDA", str(library.path))
    library.reset()
    gc.freeze()
    live, streams = library.live, library.streams
    yield library
    library.reset()
    gc.collect()
    gc.unfreeze()
    assert library.depth == 0
    assert library.live - live == library.streams - streams, "something was not freed"


class Context:
    """Makes a device current, as CuPy would."""

    def __init__(self, driver: FakeDriver, device: int = 0) -> None:
        self.library, self.device = driver.library, device

    def __enter__(self) -> None:
        context = ctypes.c_void_p()
        assert self.library.cuInit(0) == 0
        assert self.library.cuDevicePrimaryCtxRetain(ctypes.byref(context), self.device) == 0
        assert self.library.cuCtxPushCurrent_v2(context) == 0

    def __exit__(self, *_: object) -> None:
        assert self.library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())) == 0
        assert self.library.cuDevicePrimaryCtxRelease_v2(self.device) == 0


class ForeignArray:
    """An array of another library in the device's memory, which offers the CUDA array interface."""

    def __init__(self, driver: FakeDriver, values: Array, offset: int, device: int) -> None:
        pointer = ctypes.c_uint64()
        with Context(driver, device):
            assert driver.library.cuMemAlloc_v2(ctypes.byref(pointer), values.nbytes + offset + 1) == 0
        self.driver, self.base, self.device = driver, pointer.value, device
        self.pointer = pointer.value + offset
        memory = (ctypes.c_char * values.nbytes).from_address(self.pointer)
        self.values = np.frombuffer(memory, values.dtype).reshape(values.shape)
        self.values[...] = values
        self.strides: tuple[int, ...] | None = None
        self.read_only = False
        self.stream: int | None = None
        self.version = 3

    def __del__(self) -> None:
        with Context(self.driver, self.device):
            assert self.driver.library.cuMemFree_v2(self.base) == 0

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        values = self.values
        return {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (self.pointer, self.read_only),
            "strides": self.strides,
            "version": self.version,
            "stream": self.stream,
        }


class DLPackArray:
    """The same array, offered through DLPack: NumPy's own capsule, which is told that it lies on a GPU."""

    def __init__(self, array: ForeignArray, device: int | None = None) -> None:
        self.array = array
        self.device = array.device if device is None else device
        self.streams: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device

    def __dlpack__(self, *, stream: int) -> Any:
        self.streams.append(stream)
        capsule = self.array.values.__dlpack__()
        set_device(capsule, (2, self.device))
        return capsule


def set_device(capsule: Any, device: tuple[int, int]) -> None:
    """Write the device of a capsule: two 32-bit numbers behind the pointer to the data."""
    python = ctypes.PyDLL(None)
    python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    address = python.PyCapsule_GetPointer(capsule, b"dltensor")
    (ctypes.c_int32 * 2).from_address(address + 8)[:] = device


def manifest_of(program: DeviceProgram, inputs: list[TensorInfo], outputs: list[TensorInfo]) -> Manifest:
    """What a module of these launches would say of itself."""
    target, gpu = resolve("host", 1), GPUS["sm_90"]
    steps = 1 + max((launch.step for launch in program.launches), default=-1)
    return Manifest(
        name="net",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        plan=(),
        steps=tuple(f"step {i}" for i in range(steps)),
        target=asdict(replace(target, mcpu="x", features=("none",), gpu=replace(gpu, arch=program.arch))),
        threads=1,
        workspace_bytes=program.workspace_bytes,
        weights_bytes=program.weights_bytes,
    )


def nbytes(infos: list[TensorInfo]) -> tuple[int, ...]:
    """The bytes of each."""
    return tuple(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in infos)


def write(
    program: DeviceProgram, inputs: list[TensorInfo], outputs: list[TensorInfo], path: Path, cache: Path
) -> Path:
    """The module file of a program."""
    target = resolve("host", 1)
    program.inputs, program.outputs = nbytes(inputs), nbytes(outputs)
    manifest = manifest_of(program, inputs, outputs)
    runtime = runtime_objects(target, ObjectCache.open(cache))
    manifest.write(path, write_module(program, runtime, target, path, manifest.contract))
    return path
