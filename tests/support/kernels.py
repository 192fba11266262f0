"""Kernels built and run on their own, many in one module since building one module costs less than many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from case import Case

import convc.codegen.pipeline as pipeline
from convc.codegen.machine import this_machine
from convc.codegen.schedule import Schedule
from convc.ir import Step, opdef
from convc.lowering.base import Lowering
from convc.schedules.base import Config
from convc.target import Target
from convc.types import Array, TensorType
from convc.workload import Workload

tvm = pipeline.tvm
MACHINE = this_machine().mcpu
OPTIMISED, QUICK = 3, 1
"""How hard LLVM tries. Results are those of the schedules, whatever LLVM makes of them: it tries hard for
whole networks, and where a test reads its assembly."""


def target(lanes: int, registers: int, mcpu: str = MACHINE) -> Target:
    """A target of two threads with so many lanes and registers; code for any lanes runs on this machine."""
    isa = {16: "avx512", 8: "avx2"}.get(lanes, "generic")
    return Target("test", "x86_64-linux-gnu", mcpu, isa, lanes, registers, (), 2)


TARGETS = (target(16, 32), target(8, 16), target(4, 16))


def workload(case: Case, lowering: Lowering, target: Target, epilogue: tuple[Step, ...] = ()) -> Workload:
    """The work of a case, stored as a lowering wants it; operands of the epilogue are like its output."""
    outputs = opdef(case.op).infer(case.attrs, case.inputs)
    operands = tuple(outputs[0] for step in epilogue if step.operand is not None)
    constant = tuple(i in case.constants for i in range(len(case.inputs))) + (False,) * len(operands)
    inputs = (*case.inputs, *operands)
    logical = Workload(case.op, case.attrs, inputs, outputs, constant, len(case.inputs), epilogue)
    layouts = lowering.layouts(logical, target)
    return logical.stored_as(layouts.inputs, layouts.outputs)


@dataclass(frozen=True)
class Job:
    """One kernel to build: a workload, its lowering and schedule, and the schedule's configuration."""

    lowering: Lowering
    schedule: Any
    workload: Workload
    target: Target
    config: Config

    @classmethod
    def of(
        cls, case: Case, lowering: Lowering, schedule: Any, target: Target, epilogue: tuple[Step, ...] = ()
    ) -> Job:
        """The kernel of a case with its default configuration."""
        w = workload(case, lowering, target, epilogue)
        return cls(lowering, schedule, w, target, schedule.default(w, target))

    def with_config(self, config: Config) -> Job:
        """The same kernel under another configuration."""
        return replace(self, config=config)

    def function(self) -> Any:
        """The scheduled PrimFunc."""
        sch = Schedule(self.lowering.compute_for(self.workload, self.target, self.config))
        self.schedule.apply(sch, self.workload, self.target, self.config)
        return sch.mod["main"]

    def arguments(self, arrays: Sequence[Array]) -> list[Any]:
        """Arrays as the kernel takes them; lanes beyond the channels of an activation hold 1e9."""
        w, stored = self.workload, []
        for index, (array, kind, constant) in enumerate(zip(arrays, w.inputs, w.constant, strict=True)):
            assert kind is not None
            if constant:
                stored.append(self.lowering.pack(w, self.target, index, array))
                continue
            full = kind.layout.pack(array)
            if kind.layout.block > 1 and kind.shape[1] % kind.layout.block:
                full[:, -1, ..., kind.shape[1] % kind.layout.block :] = 1e9
            if index == 0 and (halo := self.lowering.halo(w, self.target)):
                rest = ((0, 0),) * (full.ndim - 2 - len(halo))
                full = np.pad(full, ((0, 0), (0, 0), *halo, *rest))
            stored.append(full)
        stored.append(np.full(w.outputs[0].physical, np.nan, w.outputs[0].dtype))
        return [tvm.runtime.tensor(np.asarray(a, order="C")) for a in stored]


def build(jobs: Sequence[Job], effort: int = OPTIMISED) -> Any:
    """One module with function `k<i>` for each job; all must have the same target."""
    functions = {f"k{i}": job.function().with_attr("global_symbol", f"k{i}") for i, job in enumerate(jobs)}
    (mcpu,) = {job.target.mcpu for job in jobs}
    llvm = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": mcpu, "num-cores": 2}
    return tvm.tirx.build(
        tvm.IRModule(functions),
        target=tvm.target.Target({**llvm, "fast-math-reassoc": True, "opt-level": effort}),
        pipeline=pipeline.PIPELINE,
    )


def run(jobs: Sequence[Job], inputs: Sequence[Sequence[Array]]) -> list[Array]:
    """The output of each job on its arrays, in plain layout."""
    module, results = build(jobs, QUICK), []
    for i, (job, arrays) in enumerate(zip(jobs, inputs, strict=True)):
        arguments = job.arguments(arrays)
        module[f"k{i}"](*arguments)
        out = job.workload.outputs[0]
        assert np.isfinite(arguments[-1].numpy()).all(), (
            f"{job.workload} left elements of its output unwritten"
        )
        results.append(out.layout.unpack(arguments[-1].numpy(), out.shape))
    return results


def draw(kinds: Sequence[TensorType | None], seed: int = 0) -> list[Array]:
    """Normally distributed float32 arrays of these types."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(t.shape, dtype=np.float32) for t in kinds if t is not None]


def expected(w: Workload, arrays: Sequence[Array]) -> tuple[Array, Array]:
    """The float64 result of a linear operator with its epilogue, and the largest error of its float32 sums.

    A float32 sum of n products in any order is off by at most (n + 1) eps / 2 times the sum of the products'
    magnitudes, to first order; two more roundings for bias and operand (Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, section 3.1). Operators of the epilogue are 1-Lipschitz.
    """
    op = opdef(w.op)
    exact = [a.astype(np.float64) for a in arrays]
    (result,) = op.reference(w.attrs, exact[: w.arity])
    scales = {name: abs(value) for name, value in vars(w.attrs).items() if name in ("alpha", "beta")}
    (size,) = op.reference(replace(w.attrs, **scales), [np.abs(a) for a in exact[: w.arity]])
    kinds = [t for t in w.inputs[: w.arity] if t is not None]
    terms = op.cost(w.attrs, kinds, w.outputs).multiply_adds // w.outputs[0].size
    for step in w.epilogue:
        if step.operand is not None:
            result = result + exact[step.operand]
            size = size + np.abs(exact[step.operand])
        else:
            assert step.op == "relu"
            result = np.maximum(result, 0)
    return result, (terms + 4) * np.finfo(np.float32).eps / 2 * size


def assert_right(job: Job, arrays: Sequence[Array], result: Array) -> None:
    """Compare with the float64 reference, element by element and against the predicted error."""
    reference, bound = expected(job.workload, arrays)
    error = np.abs(result - reference)
    worst = np.unravel_index(np.argmax(error - bound), error.shape)
    assert (error <= bound).all(), (
        f"{job.workload}, {job.target.lanes} lanes: {result[worst]} at {worst}, not {reference[worst]}"
    )
    predicted = job.lowering.error_bound(job.workload, [])
    assert error.max() <= predicted * np.abs(reference).max()


def assert_within_estimate(job: Job, arrays: Sequence[Array], result: Array) -> None:
    """Compare an algorithm that transforms its operands with float64, within its own estimate of the error.

    Inputs are normal, so outputs are normal with the deviation |weights of the channel|; the largest of the
    sample that the estimate is relative to is at most 5 of them. Bias and operand add a rounding each.
    """
    reference, _ = expected(job.workload, arrays)
    weights = arrays[1]
    estimate = job.lowering.error_bound(job.workload, [None, weights])
    deviation = np.sqrt((weights.astype(np.float64) ** 2).sum(tuple(range(1, weights.ndim)))).max()
    error = float(abs(result - reference).max())
    allowed = 5 * deviation * (estimate + 4 * np.finfo(np.float32).eps)
    assert error <= allowed, f"{job.workload}: error {error:.1e}, allowed {allowed:.1e}"


Check = Callable[[Job, Sequence[Array], Array], None]


def check_all(jobs: Sequence[Job], check: Check = assert_right) -> None:
    """Run each job on arrays drawn for it; `check` judges the results."""
    inputs = [draw(job.workload.inputs, i) for i, job in enumerate(jobs)]
    for job, arrays, result in zip(jobs, inputs, run(jobs, inputs), strict=True):
        check(job, arrays, result)


def check_space(first: Job, check: Check = assert_right) -> list[Any]:
    """All configurations of a job's schedule, the job's own among them: each must compute the same."""
    configs = list(first.schedule.space(first.workload, first.target))
    assert first.config in configs
    jobs = [first.with_config(c) for c in configs]
    arrays = draw(first.workload.inputs)
    for job, result in zip(jobs, run(jobs, [arrays] * len(jobs)), strict=True):
        check(job, arrays, result)
    return configs
