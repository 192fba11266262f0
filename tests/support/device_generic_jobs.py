"""Kernels of `DeviceGeneric` for rows of the case table, run on the CPU in both ways of `device_jobs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from case import Case
from cases import CASES
from device_batch import emulate_all, run_serially
from device_jobs import in_precision
from generic_jobs import Job, assert_close, jobs_of

from convc.codegen.device import DeviceCode, generate
from convc.codegen.schedule import Schedule
from convc.ir import Step
from convc.lowering.device_generic import DeviceGeneric
from convc.schedules.cuda import generic
from convc.target import Target
from convc.types import Array

LOWERING = DeviceGeneric()
ROWS = [case for case in CASES if case.op in LOWERING.ops]
BEYOND = {"float16": 50.0}
"""What lanes beyond the channels hold: in float16 the squares of a window's sum must stay below 65504."""


@dataclass(frozen=True)
class DeviceGenericJob(Job):
    """A workload of any operator, its target and its arrays in plain layout."""

    def function(self, config: Any = None) -> Any:
        """The scheduled kernel."""
        sch = Schedule(LOWERING.compute(self.w, self.target))
        generic.apply(sch, self.w, self.target, config or generic.default(self.w, self.target))
        return sch.mod["main"]

    def code(self, symbol: str) -> DeviceCode:
        """CUDA source and launches."""
        return generate(self.function(), symbol, self.target.device)

    def contents(self) -> list[Array]:
        """The kernel's arguments."""
        beyond = BEYOND.get(self.target.device.storage, 1e4)
        return [np.ascontiguousarray(a).reshape(a.shape) for a in self.stored_arrays(beyond)]

    def check(self, arguments: Sequence[Array]) -> None:
        """Compare the outputs among a kernel's arguments with float64."""
        stored = arguments[len(arguments) - len(self.w.outputs) :]
        for kind, result, reference in zip(self.w.outputs, stored, self.reference(), strict=True):
            if kind.is_float and np.isfinite(reference).all():
                assert np.isfinite(result.astype(np.float64)).all(), f"{self.w}: elements are not finite"
            assert_close(self, kind.layout.unpack(result, kind.shape), reference)


def device_jobs_of(
    rows: Sequence[Case], target: Target, epilogue: Sequence[Step] = ()
) -> list[DeviceGenericJob]:
    """Every case in the target's precision, in plain layout and, where it can be, in blocks."""
    rows = [in_precision(case, target) for case in rows]
    return jobs_of(rows, target, epilogue, lowering=LOWERING, kind=DeviceGenericJob)


def ends(rows: list[Case]) -> list[Case]:
    """The first and the last row of each operator that take float32."""
    by_op: dict[str, list[Case]] = {}
    for case in rows:
        if any(t is not None and t.dtype == "float32" for t in case.inputs):
            by_op.setdefault(case.op, []).append(case)
    return [case for found in by_op.values() for case in (found[:1] + found[1:][-1:])]


def check_emulated(jobs: Sequence[DeviceGenericJob], folder: Path) -> None:
    """The CUDA source of all jobs gives the right numbers."""
    arguments = [job.contents() for job in jobs]
    emulate_all([job.code(f"k{i}") for i, job in enumerate(jobs)], arguments, folder)
    _check(jobs, arguments)


def check_serial(jobs: Sequence[DeviceGenericJob]) -> None:
    """The scheduled programs of all jobs mean the right thing."""
    _check(jobs, run_serially([job.function() for job in jobs], [job.contents() for job in jobs]))


def _check(jobs: Sequence[DeviceGenericJob], arguments: Sequence[Sequence[Array]]) -> None:
    wrong = []
    for job, arrays in zip(jobs, arguments, strict=True):
        try:
            job.check(arrays)
        except AssertionError as error:
            wrong.append(f"{job.w}: {error}")
    assert not wrong, f"{len(wrong)} of {len(jobs)}: " + "\n".join(wrong)
