"""Reductions of rows on a GPU: one kernel for all steps, whose threads read elements beside each other."""

from __future__ import annotations

import pytest
from case import Case, f32
from device_generic_jobs import check_emulated, check_serial, device_jobs_of
from device_jobs import device
from ptxas import needs_cuda_compiler, reports

from convc.ops.norm import InstanceNormAttrs, LayerNormAttrs
from convc.ops.reduce import ReduceAttrs, SoftmaxAttrs


def norm(op, attrs, x, size):
    return Case(f"{op}-{'x'.join(map(str, x))}", op, attrs, (f32(*x), f32(size), f32(size)), (1, 2))


def mean(id, x, axes):
    return Case(f"mean-{id}", "reduce_mean", ReduceAttrs(axes), (f32(*x),))


def softmax(id, x, axis):
    return Case(f"softmax-{id}", "softmax", SoftmaxAttrs(axis), (f32(*x),))


ROWS = [
    softmax("one-row", (1, 1000), -1),
    softmax("rows", (3, 5, 77), -1),
    norm("layer_norm", LayerNormAttrs(), (2, 7, 96), 96),
    mean("rows", (4, 6, 130), (2,)),
    norm("instance_norm", InstanceNormAttrs(), (2, 3, 11, 13), 3),
    mean("map", (2, 19, 7, 7), (2, 3)),
    mean("all", (4, 3, 17), (0, 1, 2)),
]
APART = [
    softmax("of-channels", (1, 21, 40, 41), 1),
    mean("first-axis", (70, 300), (0,)),
    mean("few-terms", (40, 8), (1,)),
]
"""What is no row: reduced elements are not beside each other, or too few for a warp."""


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_source_equals_float64(tmp_path, precision):
    check_emulated(device_jobs_of([*ROWS, *APART], device(precision)), tmp_path)


def test_program_equals_float64():
    """Not the longest row: its sum is one loop here, and errs more than those of many threads."""
    check_serial(device_jobs_of([*ROWS[1:], *APART], device()))


def test_rows_take_one_kernel():
    for job in device_jobs_of(ROWS, device()):
        assert len(job.code("k").launches) == 1, job.w
    for job in device_jobs_of(APART, device()):
        assert len(job.code("k").launches) > 1, job.w


def test_a_few_long_rows_are_spread_over_the_device():
    """One block of threads for each of two rows would leave the other multiprocessors idle."""
    (job,) = device_jobs_of([norm("instance_norm", InstanceNormAttrs(), (1, 2, 1024, 1024), 2)], device())
    assert len(job.code("k").launches) > 1


def test_threads_beside_each_other_read_elements_beside_each_other():
    (job,) = device_jobs_of([softmax("rows", (200, 1000), -1)], device("float16"))
    code = job.code("k")
    assert code.launches[0].grid == (200, 1, 1)
    assert code.launches[0].block == (128, 1, 1)
    loads = [line for line in code.source.splitlines() if "x0_ptr[" in line]
    assert loads
    assert all("((int)threadIdx.x))" in line for line in loads)


@needs_cuda_compiler
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_compiles_without_spills(arch):
    jobs = device_jobs_of(ROWS[:5], device("float16", arch))
    for (report,) in reports([job.code(f"k{i}") for i, job in enumerate(jobs)], arch):
        assert report.spill_stores == report.spill_loads == 0
