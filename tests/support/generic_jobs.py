"""Kernels of the generic lowering for rows of the case table, in plain layout and in channel blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from case import Case
from kernels import TARGETS, tvm

import convc.codegen.pipeline as pipeline
from convc.ir import Step, opdef
from convc.lowering.generic import Generic
from convc.schedules.cpu import generic
from convc.target import Target
from convc.types import PLAIN, Array, Layout
from convc.workload import Workload

GENERIC = Generic()
WIDE = TARGETS[0]


def stored(case: Case, target: Target, *, blocked: bool, epilogue: Sequence[Step] = ()) -> Workload | None:
    """The work of a case, in blocks where its producers left blocks; None when it does not take them."""
    outputs = opdef(case.op).infer(case.attrs, case.inputs)
    operands = tuple(outputs[0] for step in epilogue if step.operand is not None)
    constant = (*(i in case.constants for i in range(len(case.inputs))), *(False for _ in operands))
    inputs = [*case.inputs, *operands]
    if blocked:
        for i, kind in enumerate(inputs):
            if kind is not None and kind.rank >= 3 and not constant[i]:
                inputs[i] = kind.with_layout(Layout(target.lanes))
    w = Workload(case.op, case.attrs, tuple(inputs), outputs, constant, len(case.inputs), tuple(epilogue))
    layouts = GENERIC.layouts(w, target)
    if blocked and layouts.outputs[0] == PLAIN:
        return None
    return w.stored_as(layouts.inputs, layouts.outputs)


@dataclass(frozen=True)
class Job:
    """A workload, its target and its arrays in plain layout."""

    w: Workload
    target: Target
    arrays: tuple[Array | None, ...]

    def function(self, config: generic.GenericConfig | None = None):
        """The scheduled kernel."""
        sch = tvm.s_tir.Schedule(GENERIC.compute(self.w, self.target))
        generic.apply(sch, self.w, self.target, config or generic.default(self.w, self.target))
        return sch.mod["main"]

    def arguments(self) -> list:
        """The kernel's arguments; lanes beyond the channels of a computed input hold 1e9."""
        arguments = []
        for i, (kind, array) in enumerate(zip(self.w.inputs, self.arrays, strict=True)):
            if kind is None or array is None:
                continue
            if self.w.constant[i]:
                array = GENERIC.pack(self.w, self.target, i, array) if kind.rank else array
            else:
                array = kind.layout.pack(array).reshape(kind.physical)
                if kind.layout.block > 1 and kind.shape[1] % kind.layout.block and kind.is_float:
                    array[:, -1, ..., kind.shape[1] % kind.layout.block :] = 1e9
            arguments.append(tvm.runtime.tensor(array))
        for kind in self.w.outputs:
            blank = np.full(kind.physical, np.nan if kind.is_float else 0)
            arguments.append(tvm.runtime.tensor(blank.astype(kind.dtype)))
        return arguments

    def reference(self) -> list[Array]:
        """The outputs in float64, epilogue included."""
        exact = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in self.arrays]
        outputs = list(opdef(self.w.op).reference(self.w.attrs, exact[: self.w.arity]))
        for step in self.w.epilogue:
            operands = [outputs[0]] if step.operand is None else [outputs[0], exact[step.operand]]
            outputs[0] = opdef(step.op).reference(step.attrs, operands[:: -1 if step.swapped else 1])[0]
        return outputs


def jobs_of(rows: Sequence[Case], target: Target, epilogue: Sequence[Step] = ()) -> list[Job]:
    """Every case in plain layout and, where it can be, in blocks."""
    jobs = []
    for case in rows:
        for blocked in (False, True):
            w = stored(case, target, blocked=blocked, epilogue=epilogue)
            if w is not None:
                rng = np.random.default_rng(1)
                more = [rng.standard_normal(t.shape, np.float32) for t in w.inputs[w.arity :] if t]
                jobs.append(Job(w, target, (*case.arrays(), *more)))
    return jobs


def build(functions: Sequence) -> list:
    """The kernels of one module: building one is cheaper than building many."""
    named = {f"k{i}": f.with_attr("global_symbol", f"k{i}") for i, f in enumerate(functions)}
    kind = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": WIDE.mcpu, "fast-math-reassoc": True}
    module = tvm.tirx.build(tvm.IRModule(named), target=tvm.target.Target(kind), pipeline=pipeline.PIPELINE)
    return [module[name] for name in named]
