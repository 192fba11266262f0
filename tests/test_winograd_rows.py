"""Winograd along rows against float64, in every tiling; what it is priced at, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from case import Case
from kernels import (
    TARGETS,
    Job,
    assert_within_estimate,
    build,
    check_space,
    draw,
    expected,
    run,
    target,
    workload,
)
from layer_cases import conv

from convc.codegen.machine import resolve
from convc.ir import Attrs, Step
from convc.lowering.direct import Direct
from convc.lowering.winograd_rows import WinogradRows
from convc.schedules.cpu import winograd_rows as schedule
from convc.target import Target
from convc.tiling.winograd import fits_registers
from convc.tiling.winograd_rows import RowShape, Tiling, candidates, choose
from convc.types import TensorType
from convc.workload import ConvShape

RELU = Step("relu")

CASES = [
    conv("7x7-strided", (1, 3, 30, 32), (64, 3, 7, 7), pads=3, strides=2, bias=True),
    conv("residual-7x7-odd-batch3", (3, 3, 13, 27), (19, 3, 7, 7), pads=3, strides=2, bias=True),
    conv("11x11-stride-4", (1, 3, 35, 43), (33, 3, 11, 11), pads=2, strides=4),
    conv("3x3", (2, 3, 9, 20), (16, 3, 3, 3), pads=1),
    conv("3x3-strided-no-pads", (1, 3, 21, 39), (40, 3, 3, 3), strides=2, bias=True),
    conv("residual-5x5-one-channel", (1, 1, 28, 28), (8, 1, 5, 5), pads=2, bias=True),
    conv("7x7-four-channels", (1, 4, 9, 70), (17, 4, 7, 7), pads=3),
    conv("5x2-strides-1-3-and-pads", (1, 2, 8, 31), (16, 2, 2, 5), pads=((0, 1), (3, 0)), strides=(1, 3)),
    conv("strided-down-only", (1, 3, 11, 9), (5, 3, 3, 3), pads=1, strides=(3, 1)),
    conv("row-by-row", (1, 3, 6, 17), (16, 3, 1, 4), pads=(0, 1)),
    conv("rows-left-over", (1, 3, 12, 12), (16, 3, 1, 2), strides=(5, 1)),
    conv("larger-than-map", (1, 3, 2, 3), (16, 3, 7, 7), pads=3),
    conv("one-pixel", (1, 2, 1, 1), (3, 2, 3, 3), pads=1),
    conv("1d", (2, 1, 200), (16, 1, 9), pads=4, strides=2, bias=True),
    conv("residual-1d-no-pads", (2, 4, 31), (48, 4, 3)),
]


def steps_of(case: Case) -> tuple[Step, ...]:
    """A residual addition and relu where the name asks for it."""
    return (Step("add", Attrs(), len(case.inputs)), RELU) if "residual" in case.id else (RELU,)


def job_of(case: Case, machine: Target = TARGETS[0]) -> Job:
    return Job.of(case, WinogradRows(), schedule, machine, steps_of(case))


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    jobs = [job_of(case, machine) for case in CASES]
    for job in jobs:
        assert job.lowering.applies(job.workload, machine) is None
    inputs = [draw(job.workload.inputs, i) for i, job in enumerate(jobs)]
    for job, arrays, result in zip(jobs, inputs, run(jobs, inputs), strict=True):
        assert_within_estimate(job, arrays, result)


TILINGS = [
    Tiling(7, 1, 11),  # the map as it is
    Tiling(5, 2, 4),  # a register tile over the edge, tasks of 4, 4 and 3 rows
    Tiling(20, 1, 1),  # more tiles than a row has, a task for each row
    Tiling(1, 4, 10),
]


@pytest.mark.parametrize("machine", TARGETS[:2], ids=lambda t: f"{t.lanes}-lanes")
def test_every_tiling_is_right(machine):
    channels = 4 * machine.lanes - 3
    case = conv("residual", (2, 3, 21, 54), (channels, 3, 5, 4), pads=(2, 1), strides=2, bias=True)
    w = workload(case, WinogradRows(), machine, steps_of(case))
    assert RowShape.of(ConvShape.of(w)).tiles == 7
    configs = [schedule.WinogradRowsConfig(**asdict(t)) for t in TILINGS]
    jobs = [Job(WinogradRows(), schedule, w, machine, config) for config in configs]
    arrays = draw(w.inputs)
    for job, result in zip(jobs, run(jobs, [arrays] * len(jobs)), strict=True):
        assert_within_estimate(job, arrays, result)


def test_sums_stay_in_registers():
    job = job_of(
        conv("stem", (1, 3, 112, 224), (64, 3, 7, 7), pads=3, strides=2, bias=True),
        target(16, 32, "znver4"),
    )
    sums = job.config.tiles * job.config.blocks
    assert sums >= 24
    blocks = re.split(r"^\.LBB\w+:", build([job]).inspect_source("asm"), flags=re.MULTILINE)
    loops = [block.partition("\tjne")[0].splitlines() for block in blocks]
    adds = [sum("vfmadd" in line and "zmm" in line for line in loop) for loop in loops]
    assert sums in adds
    assert not [line for line in loops[adds.index(sums)] if re.search(r"%zmm\d+, -?\d*\(", line)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_candidates_fit_the_machine(case):
    s = ConvShape.of(workload(case, WinogradRows(), TARGETS[0]))
    rows = RowShape.of(s)
    for machine in (*TARGETS, resolve("haswell"), resolve("znver4")):
        found = list(candidates(s, machine))
        assert choose(s, machine) in found
        assert len(found) == len(set(found))
        for t in found:
            assert fits_registers(t.tiles, t.blocks, machine)
            assert -(-s.oc // machine.lanes) % t.blocks == 0
            assert t.groups(rows) * t.tiles >= rows.tiles > (t.groups(rows) - 1) * t.tiles
            assert t.longest(rows) <= t.rows


def test_threads_get_equal_parts():
    s = ConvShape.of(workload(CASES[0], WinogradRows(), TARGETS[0]))
    for threads in (1, 2, 3):
        assert choose(s, TARGETS[0].with_threads(threads)).runs(RowShape.of(s)) % threads == 0


def test_every_configuration_computes_the_same():
    case = conv("residual", (1, 3, 19, 30), (33, 3, 7, 7), pads=3, strides=2, bias=True)
    job = job_of(case, target(16, 32))
    configs = check_space(job, assert_within_estimate)
    assert len({c.rows for c in configs}) > 3
    assert len({(c.tiles, c.blocks) for c in configs}) > 1


REFUSED = {
    "input of 5 channels in 1 groups is no plain map": conv("wide", (1, 5, 9, 9), (16, 5, 3, 3)),
    "input of 2 channels in 2 groups": conv("groups", (1, 2, 9, 9), (4, 1, 3, 3), groups=2),
    "unit dilations, not (1, 2)": conv("dilated", (1, 3, 9, 9), (16, 3, 3, 3), dilations=(1, 2)),
    "an input meets one of 4 taps": conv("patches", (1, 3, 16, 16), (16, 3, 4, 4), strides=4),
    "an input meets one of 1 taps": conv("column", (1, 3, 16, 16), (16, 3, 5, 1)),
    "8 taps in a phase would need more than the 9 points": conv("8x8", (1, 3, 16, 16), (16, 3, 8, 8)),
    "rows of 1 and 2 spatial axes, not 3": conv("3d", (1, 3, 5, 6, 7), (17, 3, 3, 3, 3)),
    "weights must be constant": replace(conv("variable", (1, 3, 9, 9), (16, 3, 3, 3)), constants=()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason):
    w = workload(REFUSED[reason], Direct(), TARGETS[0])
    assert reason in (WinogradRows().applies(w, TARGETS[0]) or "")


def test_refuses_other_types():
    w = workload(CASES[0], WinogradRows(), TARGETS[0])
    double = replace(w, outputs=(TensorType(w.outputs[0].shape, "float64"),))
    assert "float64" in (WinogradRows().applies(double, TARGETS[0]) or "")


def stem(c: int, k: int, size: int, kernel: int, stride: int) -> Case:
    return conv("stem", (1, c, size, size), (k, c, kernel, kernel), pads=kernel // 2, strides=stride)


@pytest.mark.parametrize(
    "case", [stem(3, 64, 64, 7, 2), stem(3, 64, 64, 11, 4), stem(3, 32, 64, 3, 1)], ids=str
)
def test_error_estimate_bounds_the_error_closely(case):
    job = job_of(case)
    arrays = draw(job.workload.inputs, 3)
    (result,) = run([job], [arrays])
    reference, _ = expected(job.workload, arrays)
    error = float(abs(result - reference).max() / abs(reference).max())
    estimate = job.lowering.error_bound(job.workload, [None, arrays[1]])
    assert error <= estimate <= 20 * error
    assert 1e-7 < estimate < 1e-4


MACHINE = resolve("znver4", threads=2)
FASTER = {
    stem(3, 64, 224, 7, 2): True,
    stem(3, 96, 224, 7, 2): True,
    stem(3, 64, 112, 7, 1): True,
    stem(3, 64, 224, 11, 4): True,
    stem(3, 64, 224, 3, 1): False,
    stem(3, 32, 224, 3, 2): False,
}
"""Whether it measured faster than `direct` on two Zen 5 cores, with outputs that went to memory."""


@pytest.mark.parametrize("case", FASTER, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_prices_rank_as_measured(case, threads):
    machine = MACHINE.with_threads(threads)
    prices = [lw.cost(workload(case, lw, machine), machine) for lw in (WinogradRows(), Direct())]
    assert (prices[0] < prices[1]) == FASTER[case]


def test_packed_weights_are_transformed_and_padded():
    job = job_of(conv("pack", (1, 3, 5, 5), (17, 3, 2, 3), bias=True))
    weights = np.zeros((17, 3, 2, 3), "float32")
    weights[16, 2, 1, 0] = 1  # row 1, channel 2: term 1 * 3 + 2 of channel 0 of the second block
    packed = job.lowering.pack(job.workload, job.target, 1, weights)
    assert packed.shape == (2, 6, 6, 16)
    first_column = [1, -1 / 3, 1 / 3, 16 / 15, 1 / 15, 0]  # of G for F(4, 3), up to signs
    assert np.allclose(sorted(abs(packed[1, :, 5, 0])), sorted(map(abs, first_column)))
    packed[1, :, 5, 0] = 0
    assert not packed.any()
    bias = job.lowering.pack(job.workload, job.target, 2, np.ones(17, "float32"))
    assert (bias.shape, bias.sum()) == ((2, 16), 17)
