"""Runs candidates' modules on this machine's processor: is it right, does it keep to its memory, how long.

Needs NumPy and convc's runtime, nothing of the compiler. A service for `Worker`: whatever a candidate does
happens in that process.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import ModuleError
from convc.runtime import manifest as manifests
from convc.runtime.arrays import address
from convc.runtime.compare import relative_error
from convc.runtime.host import check_machine, map_library
from convc.runtime.manifest import TensorInfo
from convc.runtime.module import load
from convc.tune.recipe import Recipe
from convc.types import Array

STRIP = 1 << 16
"""Bytes before and behind each tensor that are watched; pages beyond these end the process when touched."""

_MARK = 0xA5
_PAGE = mmap.PAGESIZE


@dataclass(frozen=True)
class Proof:
    """What one run of a candidate showed.

    `error` is the largest error of the results relative to the largest of them, `allowed` what it may be;
    `stray` says where the candidate wrote beside its results, "" for nowhere; `seconds` is of the first run.
    """

    error: float
    allowed: float
    stray: str
    seconds: float


class Guarded:
    """An array in memory of its own, between two strips of known bytes and two pages without access."""

    def __init__(self, shape: Sequence[int], dtype: str) -> None:
        count, kind = int(np.prod(shape, dtype=np.int64)), np.dtype(dtype)
        nbytes = count * kind.itemsize
        start = _PAGE + STRIP
        whole = start + -(-(nbytes + STRIP) // _PAGE) * _PAGE + _PAGE
        self._memory = mmap.mmap(-1, whole)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._strips = self._bytes[_PAGE:start], self._bytes[start + nbytes : whole - _PAGE]
        for strip in self._strips:
            strip[:] = _MARK
        self._own = self._bytes[start : start + nbytes]
        self.array: Array = np.frombuffer(self._memory, kind, count, start).reshape(shape)
        base = address(self._bytes)
        libc = ctypes.CDLL(None, use_errno=True)
        for place in (base, base + whole - _PAGE):
            if libc.mprotect(ctypes.c_void_p(place), _PAGE, 0):
                raise MemoryError("pages could not be protected")

    def spoil(self) -> None:
        """Fill it with what is no result: of floating-point numbers with `nan`."""
        self._own[:] = 0xFF

    @property
    def intact(self) -> bool:
        """Whether nothing was written beside the array."""
        return all(bool((strip == _MARK).all()) for strip in self._strips)


class Loaded:
    """A candidate's module, mapped, with memory for all that it reads and writes."""

    def __init__(self, path: Path, inputs: Sequence[Array]) -> None:
        manifest = manifests.read(path)
        check_machine(path, manifest)
        self.recipe = Recipe.from_json(manifest.options["trial"])
        self._given = [
            np.ascontiguousarray(s.pack(a)) for s, a in zip(self.recipe.inputs.values(), inputs, strict=True)
        ]
        sweeps = manifest.inputs[len(self._given) :]
        self._read = [*self._given, *(_sweep(info.shape) for info in sweeps)]
        self._written = [Guarded(info.shape, info.dtype) for info in manifest.outputs]
        self._inputs = _pointers(self._read)
        self._outputs = _pointers([g.array for g in self._written])
        self._seconds = np.zeros(len(manifest.steps))
        self._threads = manifest.threads
        self._run = map_library(path).convc_run
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

    def seconds(self) -> float:
        """Run once; the seconds of the layer. Raises MemoryError."""
        status = self._run(self._inputs, self._outputs, self._threads, address(self._seconds))
        if status:
            raise MemoryError("there was not enough memory for the kernel")
        return float(self._seconds[-1])

    def prove(self, expected: Sequence[Array]) -> Proof:
        """Run once on memory that holds no result, and look at what became of it."""
        for guarded in self._written:
            guarded.spoil()
        seconds = self.seconds()
        return Proof(self.error(expected), self.recipe.tolerance, self._stray(), seconds)

    def error(self, expected: Sequence[Array]) -> float:
        """The largest error of the results that are there now."""
        found = [g.array for g in self._written[: len(self.recipe.results)]]
        pairs = zip(self.recipe.results, found, expected, strict=True)
        return max(relative_error(stored.unpack(array), right) for stored, array, right in pairs)

    def _stray(self) -> str:
        results = len(self.recipe.results)
        copies = self._written[results : results + len(self._given)]
        for guarded, given in zip(copies, self._given, strict=True):
            if guarded.array.tobytes() != given.tobytes():
                return "an input was changed"
        for number, guarded in enumerate(self._written):
            if not guarded.intact:
                return "beside a result" if number < results else "beside an input"
        return ""


class Runner:
    """The service: holds one layer's inputs and expected results, and the candidates that were proven."""

    def __init__(self) -> None:
        self._inputs: list[Array] = []
        self._expected: list[Array] = []
        self._loaded: dict[Path, Loaded] = {}

    def open(self, layer: Path) -> None:
        """Take a layer's arrays (see `write_layer`), and forget the last one's candidates."""
        self._inputs, self._expected = read_layer(layer)
        self._loaded.clear()

    def prove(self, path: Path) -> Proof:
        """Load a candidate and run it once."""
        self._loaded[path] = Loaded(path, self._inputs)
        return self._loaded[path].prove(self._expected)

    def time(self, paths: Sequence[Path], runs: int) -> list[list[float]]:
        """Seconds of each candidate (a row) in each of so many rounds, in which all take turns."""
        loaded = [self._loaded[path] for path in paths]
        times = [[one.seconds() for one in loaded] for _ in range(runs)]
        return [list(row) for row in zip(*times, strict=True)]

    def errors(self, paths: Sequence[Path]) -> list[float]:
        """The errors of the last results: threads that race may be right once and wrong later."""
        return [self._loaded[path].error(self._expected) for path in paths]

    def forget(self, paths: Sequence[Path]) -> None:
        """Free the memory of candidates that are done with."""
        for path in paths:
            self._loaded.pop(path, None)


def write_layer(path: Path, inputs: Sequence[Array], expected: Sequence[Array]) -> None:
    """Keep a layer's computed inputs and its results as `read_layer` reads them, row-major."""
    arrays = {f"input{i}": a for i, a in enumerate(inputs)}
    np.savez(path, allow_pickle=False, **arrays, **{f"result{i}": a for i, a in enumerate(expected)})


def read_layer(path: Path) -> tuple[list[Array], list[Array]]:
    """The inputs and results that `write_layer` kept. Raises ModuleError."""
    try:
        with np.load(path) as file:
            found: dict[str, Any] = dict(file)
    except (OSError, ValueError) as error:
        raise ModuleError(f"The arrays of a layer, '{path}', cannot be read: {error}.") from error
    inputs = [found[f"input{i}"] for i in range(sum(name.startswith("input") for name in found))]
    return inputs, [found[f"result{i}"] for i in range(len(found) - len(inputs))]


def _pointers(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*map(address, arrays))


_SWEEPS: dict[tuple[int, ...], Array] = {}


def _sweep(shape: tuple[int, ...]) -> Array:
    """Bytes to push others out of the caches; all candidates read the same ones."""
    if shape not in _SWEEPS:
        _SWEEPS[shape] = np.ones(shape, "float32")
    return _SWEEPS[shape]


class Networks:
    """The service that times whole modules against each other."""

    def time(self, paths: Sequence[Path], runs: int) -> list[list[float]]:
        """Seconds of each module (a row) in each of so many rounds, in which all take turns."""
        modules = [load(path) for path in paths]
        feeds = [[_example(info) for info in module.inputs] for module in modules]
        times: list[list[float]] = [[] for _ in modules]
        for number in range(runs + 1):
            for module, arrays, row in zip(modules, feeds, times, strict=True):
                start = time.perf_counter()
                module(*arrays)
                if number:  # the first run warms up
                    row.append(time.perf_counter() - start)
        return times


def _example(info: TensorInfo) -> Array:
    values: Array = np.random.default_rng(0).standard_normal(info.shape).astype(info.dtype)
    return values
