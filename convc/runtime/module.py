"""A compiled network in memory: load, check, run, time. Needs NumPy and libc, nothing of the compiler."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convc.arguments import checked_count, checked_threads
from convc.errors import InputError, OptionError
from convc.files import Scratch, replacing
from convc.runtime import manifest as manifests
from convc.runtime.cpu import available_cpus
from convc.runtime.host import HostExecutor, check_machine, is_for_gpu, missing_for
from convc.runtime.manifest import LayerPlan, Manifest, TensorInfo
from convc.types import Array

__all__ = ["Executor", "Module", "load", "missing_for"]


def load(path: str | os.PathLike[str], *, threads: int | None = None, device: int = 0) -> Module:
    """Load a module file that `convc compile` wrote.

    Manifest and code are checked before any code is mapped, and the weights too where they are few (16 MiB);
    `convc inspect --check` reads them all. A module is native code: load only what you trust.

    Args:
        path: the file.
        threads: overrides the number that a module for the CPU was compiled for; it is exact.
        device: the number of the GPU that a CUDA module is to run on. All that it needs there (driver,
            architecture, memory) is checked now, and the weights are copied.

    Raises:
        ModuleError: the file cannot be read, is not a whole module or not as it was written, or needs
            instructions that this machine lacks.
        DeviceError: a child that says what is wrong with the GPU: `NoDeviceError`, `WrongDeviceError`,
            `DriverError`, `DeviceMemoryError`.
    """
    file = Path(path)
    manifest = manifests.read(file)
    manifests.check(file, manifest)
    check_machine(file, manifest)
    return Module(file, manifest, _thread_count(threads, manifest.threads), device=device)


def _thread_count(wanted: int | None, compiled: int) -> int:
    given = checked_threads(wanted)
    return min(compiled, available_cpus()) if given is None else given


class Executor(Protocol):
    """Runs the code of a module where that belongs: `HostExecutor`, `CudaExecutor`."""

    def run(self, given: Sequence[Any], stream: Any = None, out: Sequence[Any] | None = None) -> list[Any]:
        """The outputs for inputs in order."""
        ...

    def profile(self, given: Sequence[Any], seconds: Array) -> None:
        """Run once, and write the seconds of each step."""
        ...


def _executor(path: Path, manifest: Manifest, threads: int, callable_here: bool, device: int) -> Executor:
    if is_for_gpu(manifest):
        from convc.runtime.cuda import CudaExecutor

        return CudaExecutor(path, manifest, device, callable_here=callable_here)
    if device:
        raise OptionError(f"'{path}' runs on the CPU; there is no device {device} for it.")
    return HostExecutor(path, manifest, threads, callable_here=callable_here)


class Module:
    """A network that can be called. Calls release the GIL and may come from several threads at once."""

    def __init__(
        self, path: Path, manifest: Manifest, threads: int, *, callable_here: bool = True, device: int = 0
    ) -> None:
        self._path = path
        self.manifest = manifest
        self.threads = threads
        self._scratch: Scratch | None = None
        self._arity = len(manifest.inputs)
        self._executor = _executor(path, manifest, threads, callable_here, device)

    def own(self, folder: Scratch) -> None:
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

    def __call__(self, *arrays: Any, stream: Any = None, out: Any = None) -> Any:
        """Run on arrays in the order of `inputs`. Returns the output, or a tuple when there are several.

        Arrays are NumPy's, or others that offer DLPack. A module for the CPU takes those in the CPU's memory.
        A CUDA module takes both these, which are copied, and arrays on its device (DLPack or
        `__cuda_array_interface__`: PyTorch, CuPy), which are read where they are. It returns NumPy arrays,
        or `DeviceArray`s when any input was on the device.

        Args:
            arrays: one for each input.
            stream: of CUDA: a handle, or a stream of PyTorch or CuPy. The call is put on this stream and
                returns at once, unless the result is NumPy's. Without one the results are there on return.
            out: arrays on the device, one for each output (or the one), that are written and returned.

        Raises:
            InputError: an array is not what the module takes.
            DeviceError: the GPU or its driver failed.
        """
        if len(arrays) != self._arity:
            raise InputError(
                f"{len(arrays)} arrays were given for {len(self.inputs)} inputs.",
                hint=f"The inputs are {self._signature()}.",
            )
        outputs = self._executor.run(arrays, stream, out)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """As `onnxruntime.InferenceSession.run`: arrays by input name in, a list of arrays out."""
        names = [t.name for t in self.outputs]
        if isinstance(output_names, str):
            raise InputError(f"output_names={output_names!r} is one name.", hint=f"Give [{output_names!r}].")
        wanted = names if output_names is None else list(output_names)
        self._check_names("output", wanted, names)
        outputs = self._executor.run(self._in_order(feeds))
        return [outputs[names.index(name)] for name in wanted]

    def profile(self, feeds: Mapping[str, Any], *, repeat: int = 10) -> list[float]:
        """Median seconds of each step of the program; `manifest.steps` names their layers."""
        arrays = self._in_order(feeds)
        times = np.empty((checked_count(repeat, "repeat", "10"), len(self.manifest.steps)))
        for row in times:
            self._executor.profile(arrays, row)
        return [float(t) for t in np.median(times, axis=0)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the module to one file, which appears whole or not at all. Raises FileError."""
        with replacing(path, executable=True) as temporary:
            shutil.copyfile(self._path, temporary)

    def _in_order(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Arrays by name in the order of the inputs. Raises InputError unless there is one for each."""
        if not isinstance(feeds, Mapping):
            raise InputError(
                f"Arrays by the names of inputs are needed, not an object of {type(feeds).__name__}.",
                hint=f"Give {{{self.inputs[0].name!r}: array}}, or call the module with arrays in order."
                if self.inputs
                else "Give {}.",
            )
        self._check_names("input", list(feeds), [t.name for t in self.inputs])
        absent = [t.name for t in self.inputs if t.name not in feeds]
        if absent:
            raise InputError(
                f"No array was given for input {', '.join(map(repr, absent))}.",
                hint=f"Inputs: {self._signature()}.",
            )
        return [feeds[info.name] for info in self.inputs]

    def _signature(self) -> str:
        return ", ".join(f"{t.name}: {t.dtype}[{','.join(map(str, t.shape))}]" for t in self.inputs)

    def _check_names(self, kind: str, given: Sequence[str], known: Sequence[str]) -> None:
        for name in given:
            if name not in known:
                raise InputError(
                    f"There is no {kind} named '{name}'.", hint=f"The {kind}s are {', '.join(known)}."
                )
