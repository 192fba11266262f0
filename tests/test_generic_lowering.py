"""The generic lowering and its schedule against float64, for every operator in plain and blocked layouts."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from case import Case, f32
from cases import CASES, cases
from generic_jobs import GENERIC, WIDE, Job, assert_close, build, jobs_of, stored
from kernels import TARGETS, draw, tvm
from kernels import Job as KernelJob
from kernels import build as build_jobs
from layer_cases import conv, pool, window

from convc.ir import Attrs, Step, opdef
from convc.ir.opdef import REGISTRY
from convc.lowering import functions
from convc.lowering.direct import Direct
from convc.ops.norm import BatchNormAttrs
from convc.ops.parts import ConcatAttrs
from convc.ops.pool import MaxPoolAttrs
from convc.ops.reduce import ArgAttrs, ReduceAttrs, SoftmaxAttrs
from convc.ops.unary import ClipAttrs
from convc.schedules.cpu import direct, generic
from convc.types import PLAIN, Array, Layout
from convc.workload import Workload

CHANNELS = (1, 3, 16, 17, 32)
BLOCKED = {
    "sigmoid": Attrs(), "exp": Attrs(), "clip": ClipAttrs(0, 6), "batch_norm": BatchNormAttrs(),
    "reduce_mean": ReduceAttrs((2, 3)), "softmax": SoftmaxAttrs(3), "concat": ConcatAttrs(2),
    "max_pool": MaxPoolAttrs((3, 3), **window(2, pads=1, strides=2)),
}  # fmt: skip


def check(jobs: Sequence[Job]) -> None:
    """Build, run and compare all outputs of all jobs."""
    for job, kernel in zip(jobs, build([job.function() for job in jobs]), strict=True):
        arguments = job.arguments()
        kernel(*arguments)
        results = arguments[len(arguments) - len(job.w.outputs) :]
        for kind, result, reference in zip(job.w.outputs, results, job.reference(), strict=True):
            raw = result.numpy()
            assert_close(job, kind.layout.unpack(raw, kind.shape), reference)
            if kind.is_float and np.isfinite(reference).all():
                assert np.isfinite(raw).all(), f"{job.w}: lanes beyond the channels are not finite"


JOINED = {"depthwise_pointwise", "pointwise_depthwise"}
"""Two layers with a tensor between them: a pass makes them, where the lowering of their own applies."""


def test_every_operator_has_a_formula():
    assert set(GENERIC.ops) == set(REGISTRY) - JOINED
    assert {case.op for case in CASES} == set(REGISTRY)


@pytest.mark.parametrize("op", sorted(GENERIC.ops))
def test_equals_float64(op):
    jobs = jobs_of(cases(op), WIDE)
    assert jobs
    check(jobs)


EAGER = replace(WIDE, launch_seconds=1e-12)
"""A machine on which it always pays to share work among threads."""


FORMULAS = {op for op in GENERIC.ops if opdef(op).elementwise} - {"cast", "neg", "add", "equal", "where"}
"""Operators whose loops are those of the few left out: only the formula inside differs."""


@pytest.mark.parametrize(
    "op", sorted({*GENERIC.ops} - {"conv", "conv_transpose", "conv_max_pool"} - FORMULAS)
)
def test_equals_float64_however_little_there_is_to_share(op):
    check(jobs_of(cases(op), EAGER))


def test_a_softmax_with_a_rest_is_shared():
    """1000 classes are 62 vectors and a rest, in which loops cannot be joined with those around them."""
    case = Case("softmax-1000", "softmax", SoftmaxAttrs(1), (f32(1, 1000),))
    check(jobs_of([case], EAGER))


@pytest.mark.parametrize("target", TARGETS[1:], ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64_with_narrow_vectors(target):
    ops = (
        "max_pool",
        "average_pool",
        "reduce_mean",
        "softmax",
        "relayout",
        "concat",
        "batch_norm",
        "lrn",
        "add",
    )
    check(jobs_of([case for case in cases(*ops) if not case.id.endswith("scalar")], target))


@pytest.mark.parametrize("channels", CHANNELS)
def test_equals_float64_for_any_number_of_channels(channels):
    rows = []
    for op, attrs in BLOCKED.items():
        x = f32(2, channels, 7, 5)
        inputs = {"batch_norm": (x, *[f32(channels)] * 4), "concat": (x, f32(2, channels, 3, 5))}.get(
            op, (x,)
        )
        positive = ((-2, 2), (-2, 2), (-2, 2), (-2, 2), (0.1, 2))
        rows.append(
            Case(
                f"{op}-{channels}",
                op,
                attrs,
                inputs,
                tuple(range(1, 5)) if op == "batch_norm" else (),
                positive,
            )
        )
    jobs = jobs_of(rows, WIDE)
    assert len(jobs) == 2 * len(rows)
    check(jobs)


@pytest.mark.parametrize("op", ["reduce_sum", "reduce_max", "softmax", "argmax"])
def test_contiguous_reductions_of_any_length(op):
    """Below, at and above one vector, four vectors, and with a rest of vectors and of elements."""
    attrs = {"softmax": SoftmaxAttrs(1), "argmax": ArgAttrs(1)}.get(op, ReduceAttrs((1,)))
    lengths = (1, 15, 16, 31, 32, 33, 127, 128, 129, 150, 191, 192, 200, 1000)
    check(jobs_of([Case(f"{op}-{n}", op, attrs, (f32(3, n),)) for n in lengths], WIDE))


@pytest.mark.parametrize("channels", CHANNELS)
def test_relayout_goes_there_and_back(channels):
    array = np.random.default_rng(0).standard_normal((2, channels, 6, 7), np.float32)
    plain, blocks = f32(*array.shape), f32(*array.shape).with_layout(Layout(WIDE.lanes))
    there = Job(Workload("relayout", Attrs(), (plain,), (blocks,), (False,), 1), WIDE, (array,))
    back = Job(Workload("relayout", Attrs(), (blocks,), (plain,), (False,), 1), WIDE, (array,))
    kernels = build([there.function(), back.function()])
    for job, kernel, expected in ((there, kernels[0], blocks.layout.pack(array)), (back, kernels[1], array)):
        arguments = job.arguments()
        kernel(*arguments)
        np.testing.assert_array_equal(arguments[1].numpy(), expected)


def test_epilogue_is_applied_in_either_layout_and_order():
    steps = (Step("add", Attrs(), 1), Step("sigmoid"), Step("sub", Attrs(), 2, swapped=True), Step("relu"))
    rows = [
        pool("max_pool", "epilogue", (2, 17, 9, 8), (3, 3), pads=1, strides=2),
        Case("reduce_mean-epilogue", "reduce_mean", ReduceAttrs((2, 3)), (f32(2, 17, 9, 8),)),
        Case("sqrt-epilogue", "sqrt", Attrs(), (f32(1, 19, 5, 5),), ranges=((0, 2),)),
    ]
    check(jobs_of(rows, WIDE, steps))


def test_one_thread_computes_the_same():
    row = pool("average_pool", "large", (1, 64, 40, 40), (3, 3), pads=1)
    (job,) = [job for job in jobs_of([row], WIDE) if job.w.outputs[0].layout != PLAIN]
    both = [job.function(config) for config in generic.space(job.w, WIDE)]
    assert ["T.parallel" in str(f) for f in both] == [True, False]
    results = []
    for kernel in build(both):
        arguments = job.arguments()
        kernel(*arguments)
        results.append(arguments[-1].numpy())
    np.testing.assert_array_equal(*results)


LARGE = {
    "add": (Attrs(), [(1, 64, 56, 56)] * 2), "swish": (opdef("swish").attrs(), [(1, 64, 56, 56)]),
    "max_pool": (BLOCKED["max_pool"], [(1, 64, 112, 112)]), "concat": (ConcatAttrs(1), [(1, 64, 56, 56)] * 2),
    "reduce_mean": (ReduceAttrs((2, 3)), [(1, 2048, 7, 7)]), "relayout": (Attrs(), [(1, 64, 56, 56)]),
}  # fmt: skip


@pytest.mark.parametrize("op", LARGE)
def test_network_layers_are_parallel_and_in_vectors(op):
    attrs, shapes = LARGE[op]
    w = stored(Case(op, op, attrs, tuple(f32(*s) for s in shapes)), WIDE, blocked=op != "relayout")
    if op == "relayout":
        w = replace(w, outputs=(w.outputs[0].with_layout(Layout(WIDE.lanes)),))
    text = str(Job(w, WIDE, ()).function())
    assert "T.parallel" in text
    assert f"T.vectorized({WIDE.lanes})" in text


def test_small_tensors_stay_on_one_thread():
    w = stored(Case("relu", "relu", Attrs(), (f32(1, 16, 7, 7),)), WIDE, blocked=True)
    assert "T.parallel" not in str(Job(w, WIDE, ()).function())


def test_interior_of_a_pool_has_no_masks():
    (job,) = jobs_of([pool("average_pool", "mask", (1, 16, 30, 30), (3, 3), pads=((0, 0), (1, 1)))], WIDE)[1:]
    text = str(job.function())
    assert len(re.findall(r'sblock\("output[^"]*fused?\d|sblock\("output_i3\d', text)) >= 1
    assert "range(1, 29)" in text


def _sweep() -> Array:
    """Dense float32 values of every magnitude, and the special ones."""
    rng = np.random.default_rng(0)
    parts = [
        np.linspace(-110, 110, 60000), np.linspace(-1.5, 1.5, 40000),
        rng.uniform(-1, 1, 40000) * 10.0 ** rng.uniform(-38, 38, 40000),
        [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-42, 88.8, -103.9],
    ]  # fmt: skip
    values = np.concatenate([np.asarray(p, np.float32) for p in parts])
    return np.concatenate([values, np.zeros(-len(values) % 16, np.float32)])


FUNCTIONS = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sinh": np.sinh,
    "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": np.vectorize(math.erf), "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
}  # fmt: skip


def _applied(name: str, x):
    return lambda i: getattr(functions, name)(x(i))


def test_elementary_functions_are_accurate_to_four_ulp():
    """Of float64; what is below the smallest normal number may become 0."""
    te, values = tvm.te, _sweep()
    kernels = []
    for name in FUNCTIONS:
        x = te.placeholder((len(values),), "float32", "x")
        y = te.compute(x.shape, _applied(name, x), name="y")
        sch = tvm.s_tir.Schedule(te.create_prim_func([x, y]))
        sch.vectorize(sch.split(sch.get_loops("y")[0], [None, 16])[1])
        kernels.append(sch.mod["main"])
    for (name, exact), kernel in zip(FUNCTIONS.items(), build(kernels), strict=True):
        result = tvm.runtime.tensor(np.zeros_like(values))
        kernel(tvm.runtime.tensor(values), result)
        found = result.numpy()
        with np.errstate(all="ignore"):
            reference = exact(values.astype(np.float64))
            rounded = reference.astype(np.float32)
        regular = np.isfinite(rounded) & np.isfinite(found)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(reference), err_msg=name)
        # A result next to the largest float may round to infinity, and the other way round.
        edge = np.abs(reference) > 0.999 * float(np.finfo(np.float32).max)
        np.testing.assert_array_equal(found[~regular & ~edge], rounded[~regular & ~edge], err_msg=name)
        error = np.abs(found[regular] - reference[regular]) / np.spacing(np.abs(rounded[regular]))
        tiny = np.abs(reference[regular]) < np.finfo(np.float32).tiny
        assert (np.abs(found[regular][tiny]) <= np.finfo(np.float32).tiny).all(), name
        error[tiny] = 0
        assert error.max() <= 4, f"{name} at {values[regular][error.argmax()]}: {error.max():.1f} ulp"


def test_activations_keep_nan_and_infinity():
    values = np.array([[math.nan, math.inf, -math.inf, 0, -1, 1, 3, -3] * 4], np.float32).reshape(1, 2, 4, 4)
    ops = {"relu": [math.nan, math.inf, 0], "sigmoid": [math.nan, 1, 0], "tanh": [math.nan, 1, -1]}
    ops |= {
        "softplus": [math.nan, math.inf, 0],
        "elu": [math.nan, math.inf, -1],
        "hard_sigmoid": [math.nan, 1, 0],
    }
    jobs = []
    for op in ops:
        w = stored(Case(op, op, opdef(op).attrs(), (f32(*values.shape),)), WIDE, blocked=False)
        jobs.append(Job(w, WIDE, (values,)))
    for (op, expected), job, kernel in zip(
        ops.items(), jobs, build([j.function() for j in jobs]), strict=True
    ):
        arguments = job.arguments()
        kernel(*arguments)
        np.testing.assert_array_equal(arguments[-1].numpy().ravel()[:3], np.float32(expected), err_msg=op)


def test_lanes_beyond_the_channels_are_cleared_where_they_could_overflow():
    assert not opdef("exp").finite
    (job,) = jobs_of([Case("exp", "exp", Attrs(), (f32(1, 3, 4, 4),))], WIDE)[1:]
    (kernel,) = build([job.function()])
    arguments = job.arguments()
    kernel(*arguments)
    assert (arguments[-1].numpy()[..., 3:] == 0).all()


def test_lanes_beyond_the_channels_stay_finite_after_any_epilogue():
    case = conv("log", (1, 16, 4, 4), (3, 16, 1, 1))
    job = KernelJob.of(case, Direct(), direct, WIDE, (Step("abs"), Step("log")))
    arrays = [np.abs(a) for a in draw(job.workload.inputs)]
    arguments = job.arguments(arrays)
    build_jobs([job])["k0"](*arguments)
    raw = arguments[-1].numpy()
    assert np.isfinite(raw).all()
    assert (raw[..., 3:] == 0).all()


def test_kernels_touch_nothing_outside_their_tensors():
    """Each tensor lies between pages that may not be touched; a crash would end only the other process."""
    script = Path(__file__).parent / "support" / "guarded.py"
    ops = (
        "relayout",
        "lrn",
        "max_pool",
        "average_pool",
        "lp_pool",
        "pad",
        "batch_norm",
        "resize",
        "concat",
        "reduce_mean",
    )
    run = subprocess.run(
        [sys.executable, str(script), *ops],
        capture_output=True,
        text=True,
        env={**os.environ, "TVM_NUM_THREADS": "2"},
    )
    assert run.returncode == 0, f"{run.stdout[-200:]} {run.stderr[-500:]}"
    assert run.stdout.endswith("done\n")
