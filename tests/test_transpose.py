"""The direct transposed convolution and its CPU schedule against float64, and its arithmetic of taps."""

from __future__ import annotations

import numpy as np
import pytest
from cases import cases
from kernels import TARGETS, Job, build, check_all, check_space, target
from layer_cases import deconv

from convc.ir import Attrs, Step
from convc.lowering.transpose import DirectTranspose
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import transpose
from convc.tiling.transpose import Axis, Transposed, best_tile, tiles

RELU = Step("relu")
DECONV = DirectTranspose()

MORE = [
    deconv("upsampling", (1, 32, 6, 7), (32, 48, 2, 2), strides=2, bias=True),
    deconv("4x4-batch", (2, 24, 5, 9), (24, 40, 4, 4), strides=2, pads=1, bias=True),
    deconv("stride-3-kernel-5", (1, 17, 6, 5), (17, 19, 5, 5), strides=3, pads=2),
    deconv("stride-beyond-kernel", (1, 3, 4, 5), (3, 16, 2, 1), strides=(3, 4)),
    deconv("dilated", (1, 8, 7, 8), (8, 16, 3, 3), dilations=(2, 3), pads=1),
    deconv("dilated-strided", (1, 20, 5, 6), (20, 16, 3, 4), strides=2, dilations=(2, 3), pads=1, bias=True),
    deconv("dilated-strided-1d", (1, 16, 9), (16, 8, 2), strides=3, dilations=2, groups=1),
    deconv("groups-full-blocks", (1, 64, 4, 5), (64, 16, 3, 3), strides=2, groups=2, pads=1, bias=True),
    deconv("1d-long", (1, 16, 61), (16, 16, 4), strides=4),
    deconv("3d", (1, 16, 3, 4, 5), (16, 20, 2, 3, 2), strides=(2, 1, 2), pads=((0, 0), (1, 1), (0, 0))),
]


def applicable(machine):
    """The cases that this lowering takes."""
    found = [*cases("conv_transpose"), *MORE]
    jobs = []
    for case in found:
        job = Job.of(case, DECONV, transpose, machine, (Step("add", Attrs(), len(case.inputs)), RELU))
        if DECONV.applies(job.workload, machine) is None:
            jobs.append(job)
    assert len(jobs) >= len(found) - 2
    return jobs


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    jobs = applicable(machine)
    check_all(jobs)


def test_every_configuration_computes_the_same():
    first = Job.of(
        deconv("space", (1, 20, 3, 18), (20, 64, 4, 4), strides=2, pads=1), DECONV, transpose, TARGETS[0]
    )
    configs = check_space(first)
    assert len(configs) > 3


def test_tiles_that_do_not_fit_are_refused():
    job = Job.of(MORE[0], DECONV, transpose, TARGETS[0])
    with pytest.raises(NotApplicable, match="registers"):
        job.with_config(transpose.TransposeConfig(64, 4)).function()
    with pytest.raises(NotApplicable, match="strides"):
        job.with_config(transpose.TransposeConfig(7, 1)).function()


def test_sums_stay_in_registers():
    machine = target(16, 32, "znver4")
    case = deconv("registers", (1, 64, 28, 28), (64, 64, 2, 2), strides=2, bias=True)
    job = Job.of(case, DECONV, transpose, machine, (RELU,))
    tile = best_tile(Transposed.of(job.workload), machine)
    assert tile.sums >= 14
    code = build([job]).inspect_source("asm").splitlines()
    assert sum("vfmadd" in line and "zmm" in line for line in code) >= tile.sums
    assert sum("zmm" in line and "rsp" in line for line in code) == 0


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "pad"),
    [(4, 2, 1, 1), (3, 2, 1, 0), (2, 3, 1, 0), (3, 1, 2, 1), (5, 4, 1, 2)],
)
def test_taps_of_an_axis_are_those_that_scatter_reaches(kernel, stride, dilation, pad):
    size, output = 6, stride * 5 + dilation * (kernel - 1) + 1 - pad
    axis = Axis(size, output, kernel, stride, dilation, pad)
    gathered = {
        (axis.source(o, j), axis.tap(o, j), o)
        for o in range(output)
        for j in range(axis.taps)
        if 0 <= axis.source(o, j) < size and axis.tap(o, j) < kernel
    }
    scattered = {
        (i, k, i * stride + k * dilation - pad)
        for i in range(size)
        for k in range(kernel)
        if 0 <= i * stride + k * dilation - pad < output
    }
    assert gathered == scattered


def test_halo_covers_every_read():
    for job in applicable(TARGETS[0]):
        s = Transposed.of(job.workload)
        halo = DECONV.halo(job.workload, job.target)
        counts = [*(a.output for a in s.axes[:-1]), s.columns(job.target)]
        for axis, count, (before, after) in zip(s.axes, counts, halo, strict=True):
            reads = [axis.source(o, j) for o in range(count) for j in range(axis.taps)]
            assert min(reads) >= -before
            assert max(reads) <= axis.size - 1 + after
            assert before == 0 or min(reads) == -before


def test_refusals_say_why():
    depthwise = Job.of(
        deconv("depthwise", (1, 8, 4, 4), (8, 1, 3, 3), groups=8), DECONV, transpose, TARGETS[0]
    )
    assert "whole blocks of 16" in str(DECONV.applies(depthwise.workload, depthwise.target))


def test_price_counts_columns_beyond_the_output():
    small, wide = (
        Transposed.of(
            Job.of(
                deconv("w", (1, 64, 8, w), (64, 64, 2, 2), strides=2), DECONV, transpose, TARGETS[0]
            ).workload
        )
        for w in (8, 9)
    )
    assert wide.columns(TARGETS[0]) >= 18
    assert wide.columns(TARGETS[0]) % best_tile(wide, TARGETS[0]).cols == 0
    assert {t.cols for t in tiles(small, TARGETS[0])} <= set(range(2, 17, 2))
    assert np.isfinite(DECONV.cost(Job.of(MORE[0], DECONV, transpose, TARGETS[0]).workload, TARGETS[0]))
