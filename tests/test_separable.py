"""Separable convolutions: register tiles that cover maps, kernels of every tiling, prices and refusals."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest
from cases import cases
from kernels import TARGETS, Job, assert_right, check_space, draw, run, workload
from layer_cases import separable

from convc.codegen.machine import resolve
from convc.ir import Attrs, Step
from convc.lowering.separable import Separable
from convc.schedules.cpu import separable as schedule
from convc.target import Target
from convc.tiling.registers import divisors
from convc.tiling.separable import Patch, SeparableShape, Tiling, candidates, choose, cover, seconds

OPS = ("depthwise_pointwise", "pointwise_depthwise")


def places(patch: Patch) -> list[tuple[int, int]]:
    """All pixels that a patch computes, in order."""
    starts = [
        (min(i * patch.down.step, patch.down.last), min(j * patch.across.step, patch.across.last))
        for i in range(patch.down.count)
        for j in range(patch.across.count)
    ]
    return [(a + i, b + j) for a, b in starts for i, j in patch.pixels]


@pytest.mark.parametrize("longest", [1, 5, 13, 28])
def test_tiles_cover_every_pixel_and_nothing_else(longest):
    for rows in (*range(1, 16), 28):
        for cols in (*range(1, 34), 59, 112):
            patches = cover(rows, cols, longest)
            assert all(len(p.pixels) <= longest for p in patches)
            computed = [pixel for p in patches for pixel in places(p)]
            assert {*computed} == {(i, j) for i in range(rows) for j in range(cols)}
            assert len(computed) == sum(p.computed for p in patches)


@pytest.mark.parametrize(
    ("rows", "cols", "sizes"), [(7, 7, {25}), (14, 14, {28}), (56, 56, {28}), (3, 57, {19}), (19, 19, {19})]
)
def test_tiles_waste_little(rows, cols, sizes):
    patches = cover(rows, cols, 28)
    assert {len(p.pixels) for p in patches} == sizes
    assert sum(p.computed for p in patches) <= 1.03 * rows * cols


TILED = [
    case
    for op in OPS
    for case in (
        separable(op, "residual", (2, 33, 7, 9), (3, 3), 40, pads=1),
        separable(op, "strided", (1, 16, 9, 15), (2, 5), 33, pads=(0, 2), strides=(3, 2), biases=0),
    )
]


def tilings(s: SeparableShape, machine: Target) -> list[Tiling]:
    """Ways through the kernel: the whole map and runs of rows, row by row or not, one block and several."""
    height, blocks = s.depthwise.output[0], divisors(-(-s.pointwise.oc // machine.lanes))[-1]
    runs = [(-(-height // 2), 1), (1, blocks)]
    found = [Tiling(rows, 6, count, 4, not s.depthwise_first) for rows, count in runs]
    return [*found, Tiling(height, 8, blocks, 8, False)]


@pytest.mark.parametrize("machine", TARGETS[:2], ids=lambda t: f"{t.lanes}-lanes")
def test_every_tiling_is_right(machine):
    """With residual and ReLU: each tiling against float64, within the rounding of its sums."""
    jobs, inputs = [], []
    for case in TILED:
        w = workload(case, Separable(), machine, (Step("add", Attrs(), len(case.inputs)), Step("relu")))
        for tiling in tilings(SeparableShape.of(w), machine):
            config = schedule.SeparableConfig(**asdict(tiling))
            jobs.append(Job(Separable(), schedule, w, machine, config))
            inputs.append(draw(w.inputs))
    for job, arrays, result in zip(jobs, inputs, run(jobs, inputs), strict=True):
        assert_right(job, arrays, result)


def shape(op: str, x, kernel, channels, **attrs) -> SeparableShape:
    return SeparableShape.of(
        workload(separable(op, "", x, kernel, channels, **attrs), Separable(), TARGETS[0])
    )


def test_rows_that_few_tasks_need_are_not_computed_twice():
    """With more channel blocks than threads can tell apart, the whole map is one task."""
    s = shape("pointwise_depthwise", (1, 64, 14, 14), (3, 3), 384, pads=1)
    assert choose(s, TARGETS[0]).rows == 14


def test_few_channel_blocks_share_the_map_among_threads():
    s = shape("pointwise_depthwise", (1, 16, 56, 56), (3, 3), 16, pads=1)
    assert choose(s, TARGETS[0]).rows == 28
    assert choose(s, TARGETS[0].with_threads(4)).rows == 14


def test_what_is_between_stays_in_cache():
    s = shape("depthwise_pointwise", (1, 32, 112, 112), (3, 3), 16, pads=1)
    t = choose(s, TARGETS[0])
    assert 4 * 32 * 112 * t.rows <= TARGETS[0].l1
    assert seconds(s, t, TARGETS[0]) < seconds(s, replace(t, rows=56), TARGETS[0])


@pytest.mark.parametrize("case", cases(*OPS), ids=str)
def test_candidates_fit_the_registers(case):
    s = SeparableShape.of(workload(case, Separable(), TARGETS[0]))
    for machine in (*TARGETS, resolve("haswell"), resolve("znver4")):
        found = list(candidates(s, machine))
        assert choose(s, machine) in found
        assert all(t.pixels * t.blocks + t.blocks < machine.registers for t in found)
        assert all(1 <= t.rows <= s.depthwise.output[0] for t in found)


@pytest.mark.parametrize("op", OPS)
def test_every_configuration_computes_the_same(op):
    case = separable(op, "residual", (1, 33, 9, 20), (3, 3), 40, pads=1)
    configs = check_space(Job.of(case, Separable(), schedule, TARGETS[0]))
    assert len(configs) == len(set(configs))
    assert min(len({c.pixels for c in configs}), len({c.taps for c in configs})) > 1
    assert len({c.rows for c in configs}) > 3


def test_configurations_differ_in_how_maps_are_cut():
    s = shape("depthwise_pointwise", (1, 64, 14, 14), (3, 3), 32, pads=1)
    found = [t for t in candidates(s, TARGETS[0], smaller=True) if t.rows == 14]
    assert {*candidates(s, TARGETS[0])} <= {*candidates(s, TARGETS[0], smaller=True)}
    for size, cols in (("pixels", 14), ("taps", 14)):
        cuts = [tuple(cover(14, cols, n)) for n in {getattr(t, size) for t in found if t.blocks == 1}]
        assert len(cuts) == len(set(cuts)) > 1


@pytest.mark.parametrize(
    ("attrs", "change", "reason"),
    [
        ({"pads": (3, 0)}, {}, r"windows of \(3, 3\) pixels see nothing but the pads \(\(3, 3\), \(0, 0\)\)"),
        ({"between": (("exp", ()),)}, {}, "exp between the convolutions may be infinite"),
        ({}, {"constant": (False, True, False, True, True)}, "weights and biases must be constant"),
    ],
)
def test_refusals(attrs, change, reason):
    w = workload(separable(OPS[0], "", (1, 16, 9, 9), (3, 3), 16, **attrs), Separable(), TARGETS[0])
    found = Separable().applies(replace(w, **change), TARGETS[0])
    assert re.search(reason, found or ""), found


def test_one_spatial_axis_is_refused():
    w = workload(separable(OPS[1], "", (1, 16, 9), (3,), 16, pads=1), Separable(), TARGETS[0])
    assert Separable().applies(w, TARGETS[0]) == "the kernel has two spatial axes, not 1"
