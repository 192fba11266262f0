"""A compiled network in memory: load, check, run, time. Needs NumPy and libc, nothing of the compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convc.errors import InputError, ModuleError, OptionError
from convc.runtime import manifest as manifests
from convc.runtime.arrays import Frames, Reader, address
from convc.runtime.cpu import available_cpus, host_features, host_machine
from convc.runtime.manifest import LayerPlan, Manifest, TensorInfo
from convc.types import Array

OUT_OF_MEMORY, NO_WEIGHTS = -1, -2


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Module:
    """Load a module file that `convc compile` wrote.

    The manifest is checked before any code is mapped. `threads` overrides the number that the module was
    compiled for; it is exact. A module is native code: load only files that you trust.

    Raises ModuleError when the file is not a whole module or needs instructions that this machine lacks.
    """
    file = Path(path)
    manifest = manifests.read(file)
    _check_machine(file, manifest)
    return Module(file, manifest, _thread_count(threads, manifest.threads))


def _thread_count(wanted: int | None, compiled: int) -> int:
    count = min(compiled, available_cpus()) if wanted is None else wanted
    if not 1 <= count <= 256:
        raise OptionError(f"threads={count} is not a number of threads.", hint="Give 1 to 256.")
    return count


def missing_for(manifest: Manifest) -> str:
    """What this machine lacks to run a module, as the end of a sentence, or "" when it lacks nothing."""
    machine = str(manifest.target["triple"]).split("-")[0]
    if machine != host_machine():
        return f"was built for {machine}; this machine is {host_machine()}"
    features = host_features()
    missing = [] if features is None else sorted(set(manifest.target["features"]) - features)
    if missing:
        mcpu = manifest.target["mcpu"]
        return f"was built for {mcpu} and needs {', '.join(missing)}, which this processor lacks"
    return ""


def _check_machine(path: Path, manifest: Manifest) -> None:
    missing = missing_for(manifest)
    if missing:
        raise ModuleError(
            f"'{path}' {missing}.", hint="Compile with `--target host` on this machine, or name its CPU."
        )


class Module:
    """A network that can be called. Calls release the GIL and may come from several threads at once."""

    def __init__(self, path: Path, manifest: Manifest, threads: int, *, callable_here: bool = True) -> None:
        self._path = path
        self.manifest = manifest
        self.threads = threads
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._run: Any = None
        self._readers = [Reader(info) for info in manifest.inputs]
        self._frames = Frames(len(manifest.inputs), manifest.outputs)
        if callable_here:
            self._map(path)

    def _map(self, path: Path) -> None:
        try:
            library = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise ModuleError(f"'{path}' cannot be loaded: {error}.") from error
        self._run = library.convc_run
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._run.restype = ctypes.c_int

    def own(self, folder: tempfile.TemporaryDirectory[str]) -> None:
        """Keep the temporary folder of a module that was never saved for as long as the module lives."""
        self._scratch = folder

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Names, shapes and dtypes of the inputs."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Names, shapes and dtypes of the outputs."""
        return self.manifest.outputs

    @property
    def plan(self) -> tuple[LayerPlan, ...]:
        """The lowering of each layer, with the price of every alternative."""
        return self.manifest.plan

    def get_inputs(self) -> list[TensorInfo]:
        """As `onnxruntime.InferenceSession.get_inputs`."""
        return list(self.inputs)

    def get_outputs(self) -> list[TensorInfo]:
        """As `onnxruntime.InferenceSession.get_outputs`."""
        return list(self.outputs)

    def __call__(self, *arrays: Any) -> Any:
        """Run on arrays in the order of `inputs` (NumPy or DLPack on the CPU).

        Returns the output, or a tuple when there are several.
        """
        if len(arrays) != len(self._readers):
            raise InputError(
                f"{len(arrays)} arrays were given for {len(self.inputs)} inputs.",
                hint=f"The inputs are {self._signature()}.",
            )
        outputs = self._invoke(arrays)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Array]:
        """As `onnxruntime.InferenceSession.run`: arrays by input name in, a list of arrays out."""
        names = [t.name for t in self.outputs]
        wanted = names if output_names is None else list(output_names)
        self._check_names("output", wanted, names)
        self._check_names("input", list(feeds), [t.name for t in self.inputs])
        absent = [t.name for t in self.inputs if t.name not in feeds]
        if absent:
            raise InputError(
                f"No array was given for input {', '.join(map(repr, absent))}.",
                hint=f"Inputs: {self._signature()}.",
            )
        outputs = self._invoke([feeds[info.name] for info in self.inputs])
        return [outputs[names.index(name)] for name in wanted]

    def profile(self, feeds: Mapping[str, Any], *, repeat: int = 10) -> list[float]:
        """Median seconds of each step of the program; `manifest.steps` names their layers."""
        arrays = [feeds[info.name] for info in self.inputs]
        times = np.empty((repeat, len(self.manifest.steps)))
        for row in times:
            self._invoke(arrays, row)
        return [float(t) for t in np.median(times, axis=0)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the module to one file, which appears whole or not at all."""
        target = Path(path)
        try:
            handle, temporary = tempfile.mkstemp(dir=target.parent or Path("."), prefix=f".{target.name}.")
            os.close(handle)
        except OSError as error:
            raise OptionError(f"Cannot write '{target}': {error.strerror}.") from error
        try:
            shutil.copyfile(self._path, temporary)
            os.chmod(temporary, 0o755)
            os.replace(temporary, target)
        except OSError as error:
            raise OptionError(f"Cannot write '{target}': {error.strerror}.") from error
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _signature(self) -> str:
        return ", ".join(f"{t.name}: {t.dtype}[{','.join(map(str, t.shape))}]" for t in self.inputs)

    def _check_names(self, kind: str, given: Sequence[str], known: Sequence[str]) -> None:
        for name in given:
            if name not in known:
                raise InputError(
                    f"There is no {kind} named '{name}'.", hint=f"The {kind}s are {', '.join(known)}."
                )

    def _invoke(self, given: Sequence[Any], seconds: Array | None = None) -> list[Array]:
        arrays = [reader.read(array) for reader, array in zip(self._readers, given, strict=True)]
        if self._run is None:
            _check_machine(self._path, self.manifest)
        frame = self._frames.take()
        frame.point_to(arrays)
        status = self._run(
            frame.inputs, frame.outputs, self.threads, None if seconds is None else address(seconds)
        )
        if status:
            raise self._failure(status)
        results = frame.results()
        self._frames.give_back(frame)
        return results

    def _failure(self, status: int) -> ModuleError:
        if status == OUT_OF_MEMORY:
            return ModuleError(f"Not enough memory for a workspace of {self.manifest.workspace_bytes} bytes.")
        if status == NO_WEIGHTS:
            return ModuleError(
                f"The weights of '{self._path}' could not be mapped.", hint="Load the file again."
            )
        return ModuleError(f"Layer '{self.manifest.steps[status - 1]}' ran out of scratch memory.")
