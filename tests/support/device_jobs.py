"""Kernels for a GPU, run on the CPU: as programs whose threads are loops, and as the CUDA source they
become."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from case import Case
from cuda_emulator import build_emulation, run
from kernels import expected, tvm, workload
from serial_check import build_serial

from convc.codegen.device import DeviceCode, Scratch, generate
from convc.codegen.gpus import cuda_target
from convc.codegen.machine import resolve
from convc.codegen.schedule import Schedule
from convc.dtype import BFLOAT16
from convc.ir import Step
from convc.lowering.base import Lowering
from convc.schedules.base import Config
from convc.schedules.cuda import SCHEDULES
from convc.target import Target
from convc.types import Array
from convc.workload import Workload

HOST = resolve("host", 1)


def device(precision: str = "float32", arch: str = "sm_90") -> Target:
    """A GPU target."""
    return cuda_target(f"cuda:{arch}", HOST, precision)


UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Unit roundoff: the largest relative error of rounding to a dtype."""


def in_precision(case: Case, target: Target) -> Case:
    """A case whose float32 tensors are stored as the target stores them."""
    storage = target.device.storage
    inputs = tuple(
        replace(t, dtype=storage) if t is not None and t.dtype == "float32" else t for t in case.inputs
    )
    return replace(case, inputs=inputs)


@dataclass(frozen=True)
class DeviceJob:
    """A kernel of a workload: lowering, schedule and its configuration."""

    lowering: Lowering
    workload: Workload
    target: Target
    config: Config

    @classmethod
    def of(
        cls, case: Case, lowering: Lowering, target: Target, epilogue: tuple[Step, ...] = (), **config: Any
    ) -> DeviceJob:
        """The kernel of a case; fields of its default configuration may be replaced."""
        w = workload(in_precision(case, target), lowering, target, epilogue)
        chosen = SCHEDULES[lowering.schedule].default(w, target)
        return cls(lowering, w, target, replace(chosen, **config))

    def function(self, **options: Any) -> Any:
        """The scheduled PrimFunc."""
        sch = Schedule(self.lowering.compute(self.workload, self.target))
        SCHEDULES[self.lowering.schedule].apply(sch, self.workload, self.target, self.config, **options)
        return sch.mod["main"]

    def code(self, symbol: str = "kernel") -> DeviceCode:
        """CUDA source and launches."""
        return generate(self.function(), symbol, self.target.device)

    def draw(self, seed: int = 0) -> list[Array]:
        """Normally distributed arrays; where products take tf32, whole tf32 numbers, so that none is cut."""
        rng = np.random.default_rng(seed)
        arrays = []
        for kind in self.workload.inputs:
            if kind is None:
                continue
            array = rng.standard_normal(kind.shape, dtype=np.float32)
            if self.target.device.precision == "tf32":
                array = (array.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
            arrays.append(array.astype(kind.dtype.numpy))
        return arrays

    def arguments(self, arrays: Sequence[Array]) -> list[Array]:
        """Arrays as the kernel takes them; lanes beyond the channels hold 1e4, the result NaN."""
        w, stored = self.workload, []
        kinds = [(i, t) for i, t in enumerate(w.inputs) if t is not None]
        for array, (index, kind) in zip(arrays, kinds, strict=True):
            if w.constant[index]:
                stored.append(self.lowering.pack(w, self.target, index, array))
                continue
            full = kind.layout.pack(array).reshape(kind.physical)
            if kind.layout.block > 1 and kind.shape[1] % kind.layout.block:
                full[:, -1, ..., kind.shape[1] % kind.layout.block :] = 1e4
            stored.append(full)
        stored.append(np.full(w.outputs[0].physical, np.nan, w.outputs[0].dtype.numpy))
        return [np.ascontiguousarray(a).reshape(a.shape) for a in stored]

    def emulate(self, arrays: Sequence[Array], folder: Path, *, seed: int = 1, edit: Any = None) -> Array:
        """The result of the generated source, one fiber for each thread."""
        code = self.code()
        source = code.source if edit is None else edit(code.source)
        name = hashlib.sha256(source.encode()).hexdigest()[:16]
        library = build_emulation(source, folder / f"{name}.so")
        arguments = self.arguments(arrays)
        launch_all(code, library, [bits(a) for a in arguments], seed)
        return self.result(arguments[-1])

    def serially(self, arrays: Sequence[Array], **options: Any) -> Array:
        """The result of the scheduled program with loops in place of threads."""
        kernel = build_serial(self.function(**options))
        arguments = [tvm.runtime.tensor(a) for a in self.arguments(arrays)]
        kernel(*arguments)
        return self.result(arguments[-1].numpy())

    def result(self, stored: Array) -> Array:
        """The output in plain layout."""
        out = self.workload.outputs[0]
        assert np.isfinite(stored.astype(np.float32)).all(), f"{self.workload}: elements were not written"
        return out.layout.unpack(stored, out.shape)

    def assert_right(self, arrays: Sequence[Array], result: Array) -> None:
        """Compare with float64: rounding of float32 sums, and one rounding to the dtype of the result."""
        reference, bound = expected(self.workload, arrays)
        bound = bound + UNIT[self.workload.outputs[0].dtype] * np.abs(reference)
        error = np.abs(result.astype(np.float64) - reference)
        worst = np.unravel_index(np.argmax(error - bound), error.shape)
        assert (error <= bound).all(), (
            f"{self.workload}, {self.config}: {result[worst]} at {worst}, not {reference[worst]}"
        )


def bits(array: Array) -> Array:
    """The same memory; bfloat16, which ctypes does not know, as integers."""
    return array.view(np.uint16) if array.dtype == BFLOAT16.numpy else array


def launch_all(code: DeviceCode, library: Path, arguments: Sequence[Array], seed: int = 1) -> None:
    """Run all launches of a kernel, with scratch memory full of NaN between them."""
    offsets = sorted({a.offset for entry in code.launches for a in entry.arguments if isinstance(a, Scratch)})
    ends = [*offsets[1:], code.scratch_bytes] if offsets else []
    scratch = {
        start: np.full((end - start) // 4, np.nan, np.float32)
        for start, end in zip(offsets, ends, strict=True)
    }
    for entry in code.launches:
        places = [scratch[a.offset] if isinstance(a, Scratch) else arguments[a] for a in entry.arguments]
        run(library, entry.function, entry.grid, entry.block, entry.shared_bytes, places, seed=seed)
