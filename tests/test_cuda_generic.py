"""The generic lowering on a GPU, every operator: emulated CUDA source and serial programs against float64."""

from __future__ import annotations

import numpy as np
import pytest
from case import Case, f32
from cuda_emulator import EmulationError
from device_batch import emulate_all
from device_generic_jobs import LOWERING, ROWS, check_emulated, check_serial, device_jobs_of, ends
from device_jobs import device
from layer_cases import pool

from convc.codegen.device import DeviceCode, generate
from convc.codegen.pipeline import tvm
from convc.ir import Attrs, Step
from convc.ops.parts import SliceAttrs, SplitAttrs
from convc.ops.reduce import ReduceAttrs, SoftmaxAttrs
from convc.schedules.cuda import generic

from tvm import te  # isort: skip

PARTS = 8
"""Tests that share the case table; kernels of one test are compiled as one source."""


def test_every_operator_has_rows():
    assert {case.op for case in ROWS} == set(LOWERING.ops)


@pytest.mark.parametrize("part", range(PARTS))
def test_source_equals_float64(tmp_path, part):
    check_emulated(device_jobs_of(ROWS[part::PARTS], device()), tmp_path)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_source_in_half_precision_equals_float64(tmp_path, precision):
    jobs = device_jobs_of(ends(ROWS)[:: 2 if precision == "float16" else 5], device(precision))
    assert {t.dtype for job in jobs for t in job.w.inputs if t} >= {precision}
    check_emulated(jobs, tmp_path)


@pytest.mark.parametrize(("precision", "step"), [("float32", 4), ("float16", 18)])
def test_program_equals_float64(precision, step):
    """Not in bfloat16, which TVM's code for a CPU takes for integers."""
    check_serial(device_jobs_of(ends(ROWS)[::step], device(precision)))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_epilogue_is_applied_in_either_layout_and_order(tmp_path, precision):
    steps = (Step("add", Attrs(), 1), Step("sigmoid"), Step("sub", Attrs(), 2, swapped=True), Step("relu"))
    rows = [
        pool("max_pool", "epilogue", (2, 17, 9, 8), (3, 3), pads=1, strides=2),
        Case("reduce_mean-epilogue", "reduce_mean", ReduceAttrs((2, 3)), (f32(2, 17, 9, 8),)),
        Case("sqrt-epilogue", "sqrt", Attrs(), (f32(1, 19, 5, 5),), ranges=((0, 2),)),
    ]
    check_emulated(device_jobs_of(rows, device(precision), steps), tmp_path)


@pytest.mark.parametrize("threads", [128, 512, 1024])
def test_every_configuration_computes_the_same(tmp_path, threads):
    rows = [
        Case("softmax", "softmax", SoftmaxAttrs(1), (f32(2, 300),)),
        Case("mean", "reduce_mean", ReduceAttrs((2, 3)), (f32(1, 9, 23, 29),)),
        Case("relu", "relu", Attrs(), (f32(1, 17, 11, 13),)),
    ]
    jobs = device_jobs_of(rows, device())
    config = generic.GenericConfig(threads)
    assert all(config in generic.space(job.w, job.target) for job in jobs)
    arguments = [job.contents() for job in jobs]
    codes = [generate(job.function(config), f"k{i}", job.target.device) for i, job in enumerate(jobs)]
    assert max(entry.block[0] for code in codes for entry in code.launches) == threads
    emulate_all(codes, arguments, tmp_path, seeds=(1, 2))
    for job, arrays in zip(jobs, arguments, strict=True):
        job.check(arrays)


def test_a_tensor_without_elements_takes_no_launch(tmp_path):
    nothing = Case("slice", "slice", SliceAttrs((0, 2), (4, 2), (1, 1)), (f32(4, 5),))
    (job,) = device_jobs_of([nothing], device())
    assert job.code("k") == DeviceCode("", (), 0)
    (some,) = device_jobs_of([Case("split", "split", SplitAttrs(1, (0, 3)), (f32(4, 3),))], device())
    assert len(some.code("k").launches) == 1
    check_emulated([job, some], tmp_path)


def _number(value: float):
    return te.compute((1,), lambda i: tvm.tirx.const(value, "float64"))


def test_doubles_keep_all_their_digits(tmp_path):
    """1 / 3 has more digits than TVM prints, 1e-20 none that it prints; 0.25 needs no help."""
    numbers = [1 / 3, 1e-20, -4 / 9, 0.25, float("inf")]
    made = [_number(x) for x in numbers]
    sch = tvm.s_tir.Schedule(te.create_prim_func(made))
    generic.apply(sch, None, device(), generic.GenericConfig())
    code = generate(sch.mod["main"], "k", device().device)
    assert code.source.count("__longlong_as_double") == 3
    arrays = [np.zeros(1) for _ in numbers]
    emulate_all([code], [arrays], tmp_path)
    assert [float(a[0]) for a in arrays] == numbers


def mutants(code: DeviceCode) -> list[DeviceCode]:
    """The source without its bounds check, and with each of two indices one too far."""
    (guard,) = {line for line in code.source.splitlines() if "if (((int)threadIdx.x) < 45)" in line}
    return [
        DeviceCode(code.source.replace(*change), code.launches, code.scratch_bytes)
        for change in ((guard, "  {"), ("x0_ptr[", "x0_ptr[1 + "), ("output_ptr[", "output_ptr[1 + "))
    ]


def check_source(job, code, folder):
    """The code gives the numbers of the job."""
    arguments = job.contents()
    emulate_all([code], [arguments], folder)
    job.check(arguments)


def test_wrong_sources_are_noticed(tmp_path):
    (job,) = device_jobs_of([Case("exp", "exp", Attrs(), (f32(5, 9),))], device())
    code = job.code("k")
    check_source(job, code, tmp_path)
    for wrong in mutants(code):
        assert wrong.source != code.source
        with pytest.raises((EmulationError, AssertionError)):
            check_source(job, wrong, tmp_path)
