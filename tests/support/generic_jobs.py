"""Kernels of the generic lowering for rows of the case table, in plain layout and in channel blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from case import Case
from kernels import TARGETS, tvm

import convc.codegen.pipeline as pipeline
from convc.codegen.schedule import Schedule
from convc.ir import Step, opdef
from convc.lowering.generic import Generic
from convc.schedules.cpu import generic
from convc.target import Target
from convc.types import PLAIN, Array, Layout
from convc.workload import Workload

GENERIC = Generic()
WIDE = TARGETS[0]
EPS = float(np.finfo(np.float32).eps)
HALF = {"float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134)}
"""Largest errors of rounding to a half type: relative, and absolute below its smallest normal number."""
MOVES = {
    "reshape", "relayout", "transpose", "concat", "split", "slice", "expand", "tile", "pad", "gather",
    "depth_to_space", "space_to_depth", "max_pool", "relu", "abs", "neg", "max", "min", "identity", "dropout",
    "clip", "floor", "ceil", "round", "sign", "where", "reduce_max", "reduce_min",
}  # fmt: skip
"""Operators whose float32 results are exact."""
SUMS = {"reduce_mean", "reduce_sum", "conv", "conv_transpose", "gemm", "matmul", "average_pool", "resize"}


def stored(
    case: Case,
    target: Target,
    *,
    blocked: bool,
    epilogue: Sequence[Step] = (),
    lowering: Generic = GENERIC,
) -> Workload | None:
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
    layouts = lowering.layouts(w, target)
    if blocked and layouts.outputs[0] == PLAIN:
        return None
    return w.stored_as(layouts.inputs, layouts.outputs)


@dataclass(frozen=True)
class Job:
    """A workload, its target and its arrays in plain layout."""

    w: Workload
    target: Target
    arrays: tuple[Array | None, ...]

    def function(self, config: Any = None) -> Any:
        """The scheduled kernel."""
        sch = Schedule(GENERIC.compute(self.w, self.target))
        generic.apply(sch, self.w, self.target, config or generic.default(self.w, self.target))
        return sch.mod["main"]

    def stored_arrays(self, beyond: float = 1e9) -> list[Array]:
        """Arrays as the kernel takes them; lanes beyond the channels of a computed input hold `beyond`."""
        arguments = []
        for i, (kind, array) in enumerate(zip(self.w.inputs, self.arrays, strict=True)):
            if kind is None or array is None:
                continue
            if self.w.constant[i]:
                array = GENERIC.pack(self.w, self.target, i, array) if kind.rank else array
            else:
                array = kind.layout.pack(array).reshape(kind.physical)
                if kind.layout.block > 1 and kind.shape[1] % kind.layout.block and kind.is_float:
                    array[:, -1, ..., kind.shape[1] % kind.layout.block :] = beyond
            arguments.append(array)
        for kind in self.w.outputs:
            blank = np.full(kind.physical, np.nan if kind.is_float else 0)
            arguments.append(blank.astype(kind.dtype.numpy))
        return arguments

    def arguments(self) -> list[Any]:
        """The kernel's arguments."""
        return [tvm.runtime.tensor(array) for array in self.stored_arrays()]

    def reference(self) -> list[Array]:
        """The outputs in float64, epilogue included."""
        exact = [
            a.astype(np.float64) if a is not None and kind is not None and kind.is_float else a
            for a, kind in zip(self.arrays, self.w.inputs, strict=True)
        ]
        outputs = list(opdef(self.w.op).reference(self.w.attrs, exact[: self.w.arity]))
        for step in self.w.epilogue:
            operands = [outputs[0]] if step.operand is None else [outputs[0], exact[step.operand]]
            outputs[0] = opdef(step.op).reference(step.attrs, operands[:: -1 if step.swapped else 1])[0]
        return outputs


def jobs_of(
    rows: Sequence[Case],
    target: Target,
    epilogue: Sequence[Step] = (),
    *,
    lowering: Generic = GENERIC,
    kind: type[Job] = Job,
) -> list[Any]:
    """Every case in plain layout and, where it can be, in blocks."""
    jobs = []
    for case in rows:
        for blocked in (False, True):
            w = stored(case, target, blocked=blocked, epilogue=epilogue, lowering=lowering)
            if w is not None:
                rng = np.random.default_rng(1)
                more = [
                    rng.standard_normal(t.shape, np.float32).astype(t.dtype.numpy)
                    for t in w.inputs[w.arity :]
                    if t
                ]
                jobs.append(kind(w, target, (*case.arrays(), *more)))
    return jobs


def assert_close(job: Job, result: Array, reference: Array) -> None:
    """Equal where the operator only moves or compares; else within the error that the lowering predicts.

    `Generic.error_bound` is relative to the largest output; of sums, to the largest sum of magnitudes. Half
    types are for storing only: they add one rounding.
    """
    w, dtype = job.w, result.dtype
    ops = {w.op, *(step.op for step in w.epilogue)}
    if not (dtype.kind == "f" or dtype.name in HALF) or ops <= MOVES:
        np.testing.assert_array_equal(result, reference.astype(dtype), err_msg=str(w))
        return
    finite = np.isfinite(reference)
    np.testing.assert_array_equal(result[~finite], reference[~finite].astype(dtype), err_msg=str(w))
    scale = np.abs(reference[finite]).max(initial=0)
    if w.op in SUMS:
        sizes = [None if a is None else np.abs(np.asarray(a, np.float64)) for a in job.arrays[: w.arity]]
        scale = max(scale, np.abs(opdef(w.op).reference(w.attrs, sizes)[0]).max())
    bound = GENERIC.error_bound(w, []) * scale
    if dtype.name in HALF:
        relative, absolute = HALF[dtype.name]
        bound = bound + relative * np.abs(reference[finite]) + absolute
    else:
        bound *= float(np.finfo(dtype).eps) / EPS
    error = np.abs(result[finite].astype(np.float64) - reference[finite])
    assert (error <= bound).all(), f"{w}: error {error.max():.2e}, allowed {np.max(bound):.2e}"


def build(functions: Sequence) -> list:
    """The kernels of one module: building one is cheaper than building many. LLVM does not optimise it."""
    named = {f"k{i}": f.with_attr("global_symbol", f"k{i}") for i, f in enumerate(functions)}
    llvm = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": WIDE.mcpu, "opt-level": 0}
    module = tvm.tirx.build(
        tvm.IRModule(named),
        target=tvm.target.Target({**llvm, "fast-math-reassoc": True}),
        pipeline=pipeline.PIPELINE,
    )
    return [module[name] for name in named]
