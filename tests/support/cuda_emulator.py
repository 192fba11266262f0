"""Runs generated CUDA source on the CPU, a fiber for each CUDA thread, and reports what a GPU would not.

Barriers are real, in a random order of threads; memory that was never written reads as NaN; an asynchronous
copy arrives when it is waited for, and its destination is NaN until then; a misaligned or stray access, a
barrier or warp operation that some threads never reach, and an unknown instruction are errors.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import mmap
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cuda_translate import translate
from numpy.typing import NDArray

SUPPORT = Path(__file__).parent / "cuda_emulator"
UNITS = ("runtime", "memory", "matrix", "checks")
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off", "-w")
# What kernels are compiled with besides: each access and index is checked (see checks.cc).
CHECKS = ("-Og", "-fsanitize=alignment,bounds", "-fstack-clash-protection")
ALIGNMENT = 16
"""Bytes that the start of each array is aligned to: the widest access there is."""
GUARD = 16 << 20
"""Bytes before and behind each array that no access may touch; they take no memory."""


class EmulationError(Exception):
    """The kernel did what it must not; the message names function, block and thread."""


def build_emulation(source: str, out: Path) -> Path:
    """A library at `out` that runs the kernels of CUDA source; it exports `convc_emulate` (runtime.cc).

    Raises EmulationError with the compiler's words if the source uses what the emulator lacks.
    """
    text = translate(source)
    objects = _support()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "kernel.cc"
        path.write_text(text)
        compiled = path.with_suffix(".o")
        include = f"-I{objects[0].parent}"
        _call([_compiler(), *FLAGS, *_machine(), *CHECKS, include, "-c", "-o", str(compiled), str(path)])
        # Without -fsanitize, which would link libubsan: checks.cc takes its place.
        library = path.with_suffix(".so")
        _call([_compiler(), "-shared", "-o", str(library), str(compiled), *map(str, objects)])
        shutil.move(library, out)
    return out


def run(
    library: Path,
    function: str,
    grid: Sequence[int],
    block: Sequence[int],
    shared_bytes: int,
    arrays: Sequence[NDArray[Any]],
    *,
    seed: int = 1,
) -> None:
    """Launch a kernel whose parameters are pointers to these arrays, which it may change.

    grid, block: 1 to 3 extents, x first; shared_bytes: dynamic shared memory. `seed` chooses another order of
    threads. Raises EmulationError, and then leaves the arrays as they were.
    """
    loaded = _load(library, library.stat().st_mtime_ns)
    guarded = [_Guarded(array) for array in arrays]
    pointers = (ctypes.c_void_p * max(len(guarded), 1))(*(g.address for g in guarded))
    places = [ctypes.addressof(pointers) + i * ctypes.sizeof(ctypes.c_void_p) for i in range(len(guarded))]
    arguments = (ctypes.c_void_p * max(len(guarded), 1))(*places)
    loaded.convc_set_seed(ctypes.c_uint64(seed))
    code = loaded.convc_emulate(
        function.encode(), _extents(grid), _extents(block), ctypes.c_uint(shared_bytes), arguments
    )
    if code == 1:
        raise EmulationError(f"There is no kernel '{function}' in {library}.")
    if code:
        fault = loaded.convc_fault_address()
        raise EmulationError(loaded.convc_message().decode() + _near(fault, guarded))
    for index, g in enumerate(guarded):
        if g.margins_changed():
            raise EmulationError(f"'{function}' wrote next to argument {index}, {g.describe()}.")
    for g in guarded:
        g.copy_back()


def _extents(values: Sequence[int]) -> ctypes.Array[ctypes.c_uint]:
    return (ctypes.c_uint * 3)(*values, *[1] * (3 - len(values)))


def _near(fault: int, guarded: Sequence[_Guarded]) -> str:
    for index, g in enumerate(guarded):
        if g.start <= fault < g.end:
            return f": {g.where(fault)} argument {index}, {g.describe()}"
    return ""


class _Guarded:
    """A copy of an array that ends right before inaccessible pages; what is beside it is NaN."""

    def __init__(self, array: NDArray[Any]) -> None:
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(f"An array of shape {array.shape} is not contiguous and writeable.")
        page = mmap.PAGESIZE
        self.array = array
        used = -(-max(array.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        inside = -(-used // page) * page
        self._memory = mmap.mmap(-1, inside + 2 * GUARD)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.end = self.start + inside + 2 * GUARD
        self._offset = GUARD + inside - used
        self.address = self.start + self._offset
        self._inside = np.frombuffer(self._memory, np.uint8, inside, GUARD)
        self._inside[:] = 0xFF
        self._bytes = np.frombuffer(self._memory, np.uint8, array.nbytes, self._offset)
        self._bytes[:] = array.reshape(-1).view(np.uint8)
        for guard in (self.start, self.end - GUARD):
            if ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(GUARD), 0):
                raise OSError("mprotect failed")

    def describe(self) -> str:
        return f"{self.array.dtype} of shape {self.array.shape}, {self.array.nbytes} bytes"

    def where(self, address: int) -> str:
        if address < self.address:
            return f"{self.address - address} bytes before"
        return f"{address - self.address - self.array.nbytes} bytes behind the end of"

    def margins_changed(self) -> bool:
        start = self._offset - GUARD
        before, behind = self._inside[:start], self._inside[start + self.array.nbytes :]
        return bool((before != 0xFF).any() or (behind != 0xFF).any())

    def copy_back(self) -> None:
        self.array.reshape(-1).view(np.uint8)[:] = self._bytes


@lru_cache
def _load(library: Path, _changed: int) -> ctypes.CDLL:
    # The loader knows files by name: one that was built again would be the old one.
    with tempfile.TemporaryDirectory() as folder:
        loaded = ctypes.CDLL(shutil.copy(library, folder))
    loaded.convc_message.restype = ctypes.c_char_p
    loaded.convc_fault_address.restype = ctypes.c_uint64
    return loaded


def _compiler() -> str:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise EmulationError("There is no C++ compiler: set CXX or install g++.")
    return compiler


@lru_cache(maxsize=1)
def _machine() -> tuple[str, ...]:
    """Conversions of half by an instruction where there is one, instead of a call for each."""
    try:
        return ("-mf16c",) if " f16c" in Path("/proc/cpuinfo").read_text() else ()
    except OSError:
        return ()


def emulator_identity() -> str:
    """What a cache of emulated kernels is keyed by: this emulator's sources, its compiler and its flags."""
    return _support()[0].parent.name


@lru_cache(maxsize=1)
def _support() -> tuple[Path, ...]:
    """The emulator itself as object files, and its headers beside them: compiled once for all processes."""
    files = sorted(SUPPORT.iterdir())
    version = _call([_compiler(), "--version"])
    digest = hashlib.sha256(repr((version, FLAGS, _machine(), CHECKS)).encode())
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    place = Path(tempfile.gettempdir()) / f"convc_cuda_emulator_{os.getuid()}_{digest.hexdigest()[:24]}"
    if not place.exists():
        _build_support(files, place)
    return tuple(place / f"{unit}.o" for unit in UNITS)


def _build_support(files: Sequence[Path], place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        folder = Path(name) / "support"
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder / file.name)
        for unit in UNITS:
            source, compiled = folder / f"{unit}.cc", folder / f"{unit}.o"
            _call([_compiler(), *FLAGS, *_machine(), "-O2", "-c", "-o", str(compiled), str(source)])
        # Reading the headers takes longer than compiling most kernels.
        header = folder / "ptx.h"
        _call([_compiler(), *FLAGS, *_machine(), *CHECKS, "-x", "c++-header", str(header)])
        with contextlib.suppress(OSError):  # another process was first
            folder.rename(place)


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"'{command[0]}' failed: {done.stderr.strip()[:4000]}")
    return done.stdout
