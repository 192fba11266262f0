"""Running modules on the CPU: their code is mapped into this process and called."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convc.errors import ModuleError, OptionError
from convc.runtime.arrays import Frames, Reader, address
from convc.runtime.cpu import host_features, host_machine
from convc.runtime.gpu import missing_gpu
from convc.runtime.manifest import Manifest
from convc.types import Array

OUT_OF_MEMORY, NO_WEIGHTS = -1, -2


def missing_for(manifest: Manifest) -> str:
    """What this machine lacks to run a module, as the end of a sentence, or "" when it lacks nothing."""
    return _missing_on_host(manifest) or (missing_gpu(manifest.target["gpu"]) if is_for_gpu(manifest) else "")


def _missing_on_host(manifest: Manifest) -> str:
    machine = str(manifest.target["triple"]).split("-")[0]
    if machine != host_machine():
        return f"was built for {machine}; this machine is {host_machine()}"
    features = host_features()
    # The host's part of a CUDA module only calls the driver, and is compiled for any processor.
    needed = () if is_for_gpu(manifest) else manifest.target["features"]
    missing = [] if features is None else sorted(set(needed) - features)
    if missing:
        mcpu = manifest.target["mcpu"]
        return f"was built for {mcpu} and needs {', '.join(missing)}, which this processor lacks"
    return ""


def is_for_gpu(manifest: Manifest) -> bool:
    """Whether a module's kernels run on a GPU."""
    return manifest.target.get("gpu") is not None


def check_machine(path: Path, manifest: Manifest) -> None:
    """Raise ModuleError when this machine cannot run a module's code for the host.

    What its GPU must be is found out when that is opened.
    """
    missing = _missing_on_host(manifest)
    if missing:
        raise ModuleError(
            f"'{path}' {missing}.", hint="Compile with `--target host` on this machine, or name its CPU."
        )


def map_library(path: Path, functions: Iterable[str]) -> ctypes.CDLL:
    """The code of a module file, which has these functions.

    Raises ModuleError when the system's loader refuses it, or when it lacks one of them.
    """
    try:
        library = ctypes.CDLL(str(path.resolve()))
        for name in functions:
            getattr(library, name)
    except (OSError, AttributeError) as error:
        raise ModuleError(f"'{path}' cannot be loaded: {error}.", hint="Compile the model again.") from error
    return library


class HostExecutor:
    """Calls a module's code on `threads` threads."""

    def __init__(self, path: Path, manifest: Manifest, threads: int, *, callable_here: bool = True) -> None:
        self._path = path
        self._manifest = manifest
        self._threads = threads
        self._run: Any = None
        self._readers = [Reader(info) for info in manifest.inputs]
        self._frames = Frames(len(manifest.inputs), manifest.outputs)
        if callable_here:
            self._run = map_library(path, ["convc_run"]).convc_run
            self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
            self._run.restype = ctypes.c_int

    def run(
        self, given: Sequence[Any], stream: Any = None, out: Any = None, seconds: Array | None = None
    ) -> list[Array]:
        """The outputs for inputs in order. There are neither streams nor arrays for outputs on the CPU."""
        if stream is not None or out is not None:
            raise OptionError(
                f"'{self._path}' runs on the CPU, where calls take no `stream` and no `out`.",
                hint="Leave them out, or compile for a GPU.",
            )
        arrays = [reader.read(array) for reader, array in zip(self._readers, given, strict=True)]
        if self._run is None:
            check_machine(self._path, self._manifest)
        frame = self._frames.take()
        frame.point_to(arrays)
        status = self._run(
            frame.inputs, frame.outputs, self._threads, None if seconds is None else address(seconds)
        )
        if status:
            raise self._failure(status)
        results = frame.results()
        self._frames.give_back(frame)
        return results

    def profile(self, given: Sequence[Any], seconds: Array) -> None:
        """Run once, and write the seconds of each step."""
        self.run(given, seconds=seconds)

    def _failure(self, status: int) -> ModuleError:
        if status == OUT_OF_MEMORY:
            nbytes = self._manifest.workspace_bytes
            return ModuleError(f"Not enough memory for a workspace of {nbytes} bytes.")
        if status == NO_WEIGHTS:
            return ModuleError(
                f"The weights of '{self._path}' could not be mapped.", hint="Load the file again."
            )
        return ModuleError(f"Layer '{self._manifest.steps[status - 1]}' ran out of scratch memory.")
