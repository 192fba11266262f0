"""Runs candidates' modules on this machine's processor: is it right, does it keep to its memory, how long.

Needs NumPy and convc's runtime, nothing of the compiler. Services for `Worker`: whatever a candidate does
happens in that process.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convc.dtype import FLOAT32
from convc.runtime.arrays import address
from convc.runtime.host import check_machine, map_library
from convc.runtime.manifest import TensorInfo, read
from convc.runtime.module import load
from convc.tune.proof import MARK, NO_RESULT, STRIP, Loaded, Proof, read_layer
from convc.types import Array

_PAGE = mmap.PAGESIZE


class Guarded:
    """An array in memory of its own, between two strips of known bytes and two pages without access.

    Whoever touches these pages ends the process.
    """

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        count, kind = int(np.prod(shape, dtype=np.int64)), np.dtype(dtype)
        nbytes = count * kind.itemsize
        start = _PAGE + STRIP
        whole = start + -(-(nbytes + STRIP) // _PAGE) * _PAGE + _PAGE
        self._memory = mmap.mmap(-1, whole, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory = np.frombuffer(self._memory, np.uint8)
        self._own = memory[start : start + nbytes]
        self._strips = memory[_PAGE:start], memory[start + nbytes : whole - _PAGE]
        self.array: Array = np.frombuffer(self._memory, kind, count, start).reshape(shape)
        base = address(memory)
        libc = ctypes.CDLL(None, use_errno=True)
        for place in (base, base + whole - _PAGE):
            if libc.mprotect(ctypes.c_void_p(place), _PAGE, 0):
                raise MemoryError("pages could not be protected")

    def spoil(self) -> None:
        """Fill it with what is no result, and the strips with what they are to hold."""
        self._own[:] = NO_RESULT
        for strip in self._strips:
            strip[:] = MARK

    @property
    def intact(self) -> bool:
        """Whether nothing was written beside the array."""
        return all(bool((strip == MARK).all()) for strip in self._strips)


Memory = dict[tuple[int, TensorInfo], Guarded]
"""The tensors that candidates write, by their number and what they are.

All candidates of a layer write the same ones, in turns: which pages of memory one was given, and which of
them the caches still hold, would make a difference of some percent.
"""


class HostLoaded(Loaded):
    """A module for this processor, mapped into this process. Others may use the same `memory`."""

    def __init__(self, path: Path, inputs: Sequence[Array], memory: Memory) -> None:
        super().__init__(path, inputs)
        check_machine(path, self.manifest)
        sweeps = self.manifest.inputs[len(self.given) :]
        self._read = [*self.given, *(_sweep(info.shape) for info in sweeps)]
        for key in enumerate(self.manifest.outputs):
            if key not in memory:
                memory[key] = Guarded(key[1].shape, key[1].dtype)
        self._written = [memory[key] for key in enumerate(self.manifest.outputs)]
        self._inputs = _pointers(self._read)
        self._outputs = _pointers([guarded.array for guarded in self._written])
        self._seconds = np.zeros(len(self.manifest.steps))
        self._run = map_library(path, ["convc_run"]).convc_run
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

    def seconds(self) -> float:
        """See `Loaded`."""
        threads = self.manifest.threads
        if self._run(self._inputs, self._outputs, threads, address(self._seconds)):
            raise MemoryError("there was not enough memory for the kernel")
        return float(self._seconds[-1])

    def spoil(self) -> None:
        """See `Loaded`."""
        for guarded in self._written:
            guarded.spoil()

    def tensor(self, number: int) -> Array:
        """See `Loaded`."""
        return self._written[number].array

    def intact(self, number: int) -> bool:
        """See `Loaded`."""
        return self._written[number].intact


class Runner:
    """The service: holds one layer's inputs and expected results, and the candidates that were proven."""

    def __init__(self) -> None:
        self._inputs: list[Array] = []
        self._expected: list[Array] = []
        self._loaded: dict[Path, Loaded] = {}
        self._memory: Memory = {}

    def load(self, path: Path, inputs: Sequence[Array]) -> Loaded:
        """A candidate's module, where this service runs it."""
        return HostLoaded(path, inputs, self._memory)

    def describe(self) -> dict[str, str]:
        """What times depend on and a target does not tell."""
        return {}

    def open(self, layer: Path) -> None:
        """Take a layer's arrays (see `proof.write_layer`), and forget the last one's candidates."""
        self._inputs, self._expected = read_layer(layer)
        self._loaded.clear()
        self._memory.clear()

    def prove(self, path: Path) -> Proof:
        """Load a candidate and run it once."""
        self._loaded[path] = self.load(path, self._inputs)
        return self._loaded[path].prove(self._expected)

    def time(self, paths: Sequence[Path], runs: int) -> list[list[float]]:
        """Seconds of each candidate (a row) in each of so many rounds, in which all take turns."""
        loaded = [self._loaded[path] for path in paths]
        times = [[one.seconds() for one in loaded] for _ in range(runs)]
        return [list(row) for row in zip(*times, strict=True)]

    def errors(self, paths: Sequence[Path]) -> list[float]:
        """The errors of another run of each: threads that race may be right once and wrong later."""
        return [self._loaded[path].again(self._expected) for path in paths]

    def forget(self, paths: Sequence[Path]) -> None:
        """Free the memory of candidates that are done with."""
        for path in paths:
            self._loaded.pop(path, None)


class Networks:
    """The service that profiles whole modules beside each other."""

    def profile(self, paths: Sequence[Path], runs: int) -> list[list[list[float]]]:
        """For each module the seconds of its steps in each of so many rounds, in which all take turns."""
        modules = [load(path, threads=read(path).threads) for path in paths]
        feeds = [{info.name: _example(info) for info in module.inputs} for module in modules]
        rows: list[list[list[float]]] = [[] for _ in modules]
        for number in range(runs + 1):
            for module, arrays, own in zip(modules, feeds, rows, strict=True):
                seconds = module.profile(arrays, repeat=1)
                if number:  # the first run warms up
                    own.append(seconds)
        return rows


def _pointers(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*map(address, arrays))


_SWEEPS: dict[tuple[int, ...], Array] = {}


def _sweep(shape: tuple[int, ...]) -> Array:
    """Bytes to push others out of the caches; all candidates read the same ones."""
    if shape not in _SWEEPS:
        _SWEEPS[shape] = np.ones(shape, FLOAT32)
    return _SWEEPS[shape]


def _example(info: TensorInfo) -> Array:
    values: Array = np.random.default_rng(0).standard_normal(info.shape).astype(info.dtype)
    return values
