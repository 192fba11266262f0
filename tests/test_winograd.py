"""The Winograd lowerings and their CPU schedule against float64; what prices and error estimates promise."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from case import Case
from kernels import (
    TARGETS,
    Job,
    assert_within_estimate,
    build,
    check_all,
    draw,
    expected,
    run,
    target,
    workload,
)
from layer_cases import conv, pooled

from convc.codegen.machine import resolve
from convc.ir import Attrs, Step
from convc.lowering.direct import Direct
from convc.lowering.winograd import (
    Winograd,
    Winograd2,
    Winograd2In24,
    Winograd4,
    Winograd4In24,
    Winograd6,
)
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import SCHEDULES
from convc.tiling.winograd import Group, best_group, fits_registers, groups, seconds, tile_counts
from convc.workload import ConvShape

RELU = Step("relu")
LOWERINGS: dict[int, Winograd] = {2: Winograd2(), 4: Winograd4(), 6: Winograd6()}
IN_24: dict[int, Winograd] = {2: Winograd2In24(), 4: Winograd4In24()}

CASES = [
    (4, conv("3x3", (1, 16, 14, 14), (32, 16, 3, 3), pads=1, bias=True)),
    (4, conv("residual-odd-batch3", (3, 17, 13, 11), (19, 17, 3, 3), pads=1, bias=True)),
    (2, conv("one-pixel", (1, 16, 1, 1), (16, 16, 3, 3), pads=1)),
    (2, conv("pads-asymmetric", (1, 3, 8, 9), (6, 3, 3, 3), pads=((0, 2), (3, 0)), bias=True)),
    (6, conv("3x3-large-tile", (1, 3, 19, 9), (17, 3, 3, 3), pads=1)),
    (2, conv("2x2", (1, 6, 9, 9), (16, 6, 2, 2), pads=((1, 0), (0, 1)))),
    (4, conv("4x2", (2, 5, 7, 8), (33, 5, 4, 2), pads=((2, 1), (0, 0)))),
    (2, conv("residual-5x5-larger-than-map", (1, 1, 3, 2), (4, 1, 5, 5), pads=2, bias=True)),
    (2, conv("6x3", (1, 16, 7, 10), (16, 16, 6, 3), pads=((3, 2), (1, 1)))),
    (2, conv("7x7", (1, 4, 9, 7), (5, 4, 7, 7), pads=3)),
    (4, conv("1x7", (1, 16, 9, 13), (16, 16, 1, 7), pads=(0, 3))),
    (4, conv("7x1", (1, 20, 12, 9), (16, 20, 7, 1), pads=(3, 0), bias=True)),
    (6, conv("1x5-batch", (2, 3, 4, 13), (16, 3, 1, 5), pads=(0, 2))),
    (4, conv("residual-1d", (2, 16, 31), (48, 16, 3), pads=1)),
    (6, conv("1d-no-pads", (1, 17, 20), (5, 17, 4))),
    (2, conv("residual-strided-batch2", (2, 17, 13, 10), (19, 17, 3, 3), pads=1, strides=2, bias=True)),
    (4, conv("strided-no-pads", (1, 16, 18, 23), (32, 16, 3, 3), strides=2)),
    (4, conv("strided-one-pixel", (1, 5, 2, 1), (16, 5, 3, 3), pads=((0, 1), (1, 1)), strides=2)),
    (2, conv("strided-on-one-axis", (1, 6, 9, 11), (16, 6, 3, 5), pads=1, strides=(1, 2))),
    (2, conv("7x7-strided", (1, 3, 15, 13), (16, 3, 7, 7), pads=3, strides=2)),
    (2, conv("strides-3-and-1", (1, 4, 14, 7), (5, 4, 4, 2), strides=(3, 1))),
    (4, conv("1x3-strided-on-both-axes", (1, 4, 9, 19), (5, 4, 1, 3), pads=(0, 1), strides=2)),
    (4, pooled("2x2", (1, 16, 15, 13), (32, 16, 3, 3), (2, 2), pads=1, bias=True)),
    (2, pooled("2x2-residual-odd-batch2", (2, 17, 9, 14), (19, 17, 3, 3), (2, 2), pads=1, bias=True)),
    (6, pooled("3x3", (1, 5, 20, 13), (16, 5, 3, 3), (3, 3), pads=1, bias=True)),
    (4, pooled("4x4", (1, 16, 13, 18), (16, 16, 3, 3), (4, 4), pads=1)),
    (4, pooled("1x2-of-1x5", (1, 16, 5, 15), (16, 16, 1, 5), (1, 2), pads=(0, 2))),
    (4, pooled("2x1-strided", (1, 16, 14, 15), (16, 16, 3, 3), (2, 1), pads=1, strides=2)),
    (2, pooled("residual-1d", (2, 16, 31), (48, 16, 3), (2,), pads=1)),
    (4, conv("dilated", (1, 16, 17, 15), (32, 16, 3, 3), pads=2, dilations=2, bias=True)),
    (2, conv("residual-dilated-6-batch2", (2, 17, 13, 19), (19, 17, 3, 3), pads=6, dilations=6, bias=True)),
    (6, conv("dilated-on-one-axis", (1, 5, 9, 25), (16, 5, 3, 3), pads=(1, 4), dilations=(1, 4))),
    (4, conv("1x3-dilated-both", (1, 5, 9, 21), (16, 5, 1, 3), pads=(0, 3), dilations=3)),
    (2, conv("1d-dilated-no-pads", (2, 16, 31), (16, 16, 5), dilations=5)),
    (2, conv("1d-strided-inputs-left-over", (2, 16, 30), (16, 16, 4), strides=3)),
]


def job_of(m: int, case: Case, machine) -> Job:
    """A kernel under F(m, r), with a residual where the case's name asks for one, and relu."""
    steps = (Step("add", Attrs(), len(case.inputs)), RELU) if "residual" in case.id else (RELU,)
    return Job.of(case, LOWERINGS[m], SCHEDULES[f"winograd{m}"], machine, steps)


PARTS = (slice(None), slice(0, None, 2), slice(1, None, 2))
"""Which cases each machine takes: the widest all of them, the two others half of them each."""


@pytest.mark.parametrize(
    ("machine", "part"), [*zip(TARGETS, PARTS, strict=True)], ids=lambda v: getattr(v, "lanes", "")
)
def test_equals_float64(machine, part):
    jobs = [job_of(m, case, machine) for m, case in CASES[part]]
    for job in jobs:
        assert job.lowering.applies(job.workload, machine) is None
    inputs = [draw(job.workload.inputs, i) for i, job in enumerate(jobs)]
    for job, arrays, result in zip(jobs, inputs, run(jobs, inputs), strict=True):
        assert_within_estimate(job, arrays, result)


@pytest.mark.parametrize(("machine", "part"), [*zip(TARGETS, PARTS, strict=True)], ids=("16", "8", "4"))
def test_equals_float64_with_weights_in_24_bits(machine, part):
    jobs = []
    for m, case in CASES[part]:
        if m in IN_24:
            steps = (Step("add", Attrs(), len(case.inputs)), RELU) if "residual" in case.id else (RELU,)
            job = Job.of(case, IN_24[m], SCHEDULES[IN_24[m].schedule], machine, steps)
            refused = job.lowering.applies(job.workload, machine)
            if ConvShape.of(job.workload).ic % machine.lanes:
                assert "lanes that need weights of zero" in str(refused)
            else:
                assert refused is None
                jobs.append(job)
    assert len(jobs) > 5
    check_all(jobs, assert_within_estimate)


def test_every_kind_of_group_with_weights_in_24_bits():
    machine = TARGETS[0]
    case = conv("groups", (1, 32, 9, 7), (64, 32, 3, 3), pads=1, bias=True)
    first = Job.of(case, IN_24[2], SCHEDULES["winograd2_24bit"], machine)
    configs = list(first.schedule.space(first.workload, machine))
    chosen = {(c.phased, c.t_rows > 1, c.k_tile, c.k_panel, c.t_tile > 8): c for c in configs}
    assert {c.phased for c in chosen.values()} == {False, True}
    jobs = [first.with_config(c) for c in chosen.values()]
    arrays = draw(first.workload.inputs)
    for job, result in zip(jobs, run(jobs, [arrays] * len(jobs)), strict=True):
        assert_within_estimate(job, arrays, result)
    wide = replace(
        first.config, images=1, t_images=1, rows=2, t_rows=2, cols=7, t_cols=7, k_tile=2, k_panel=2
    )
    with pytest.raises(NotApplicable, match="14 tiles x 2 vectors do not fit"):
        first.with_config(wide).function()


def test_every_kind_of_group():
    """Groups over the edges of the map, over images, with register tiles of every shape, in both modes."""
    machine = TARGETS[0]
    first = job_of(2, conv("residual-groups", (2, 20, 9, 7), (64, 20, 3, 3), pads=1, bias=True), machine)
    configs = list(first.schedule.space(first.workload, machine))
    assert first.config == configs[0]
    s = ConvShape.of(first.workload)
    rows, cols = tile_counts(s, 2)
    chosen = {
        (c.phased, c.images, c.rows % rows == 0, c.cols % cols == 0, c.t_rows > 1, c.k_tile, c.k_panel): c
        for c in configs
    }
    assert {c.phased for c in chosen.values()} == {False, True}
    assert any(-(-rows // c.rows) * c.rows > rows for c in chosen.values())
    jobs = [first.with_config(c) for c in list(chosen.values())[:: max(1, len(chosen) // 16)]]
    arrays = draw(first.workload.inputs)
    for job, result in zip(jobs, run(jobs, [arrays] * len(jobs)), strict=True):
        assert_within_estimate(job, arrays, result)


def test_transforms_stay_in_registers_and_sums_too():
    machine = target(16, 32, "znver4")
    job = job_of(4, conv("registers", (1, 64, 56, 56), (64, 64, 3, 3), pads=1, bias=True), machine)
    assert job.config.t_tile * job.config.k_tile >= 12
    code = build([job]).inspect_source("asm")
    assert sum("vfmadd" in line and "zmm" in line for line in code.splitlines()) >= job.config.t_tile
    # scalar stores of floats would mean that a transform was not vectorised
    assert not re.search(r"vmovss\s+%xmm\d+, ", code)
    assert "prefetch" in code


def test_input_beyond_l2_is_fetched_ahead():
    """Of each tile's six rows the four columns that it shares with no tile before it."""

    def fetched(size: int) -> int:
        text = str(job_of(4, conv("map", (1, 16, size, size), (16, 16, 3, 3), pads=1), TARGETS[0]).function())
        return len(re.findall(r"prefetch.*address_of\(x\[", text))

    assert TARGETS[0].l2 == 1 << 20
    assert fetched(128) == 0
    assert fetched(129) == 24


def test_not_applicable():
    job = job_of(4, CASES[0][1], TARGETS[0])
    wrong = {
        r"2 blocks of output channels are not a multiple of k_tile 3": {"k_tile": 3},
        r"panel of 3 blocks": {"k_panel": 3},
        r"panel of 1 blocks": {"k_tile": 2},
        r"5 rows of a group are not a multiple of the register tile's 2": {"rows": 5, "t_rows": 2},
        r"1 images are not a multiple of the 2 of a group": {"images": 2, "t_images": 1},
        r"48 tiles x 1 vectors do not fit 32 vector registers": {"cols": 48, "t_cols": 48, "k_tile": 1},
        r"more than 64 tiles over the edge": {"rows": 80, "t_rows": 1},
    }
    base = replace(job.config, images=1, t_images=1, rows=1, t_rows=1, cols=4, t_cols=4, k_tile=1, k_panel=1)
    for message, change in wrong.items():
        with pytest.raises(NotApplicable, match=message):
            job.with_config(replace(base, **change)).function()
    dilated = job_of(4, conv("dilated", (1, 16, 14, 14), (32, 16, 3, 3), pads=2, dilations=2), TARGETS[0])
    with pytest.raises(NotApplicable, match=r"A group of 1 x 4 .* interleaved maps, \(2, 2\)"):
        dilated.with_config(replace(dilated.config, rows=1, t_rows=1, cols=4, t_cols=4)).function()


REFUSED = {
    "unit strides and no pooling": conv("both", (1, 16, 9, 9), (16, 16, 3, 3), strides=2, dilations=(2, 1)),
    "interleaved tiles": conv("dilated", (1, 16, 33, 33), (16, 16, 3, 3), pads=12, dilations=12),
    "an input meets one tap": conv("2x2-strided", (1, 16, 9, 9), (16, 16, 2, 2), strides=2),
    "tiles of 11x11 inputs": conv("5x5-strided", (1, 16, 19, 19), (16, 16, 5, 5), strides=2),
    "no axis with 2 to 7 taps": conv("1x1", (1, 16, 9, 9), (16, 16, 1, 1)),
    "or one with more": conv("11x11", (1, 16, 19, 19), (16, 16, 11, 11)),
    "each of the 2 groups": conv("grouped", (1, 32, 9, 9), (32, 16, 3, 3), groups=2),
    "1 and 2 spatial axes, not 3": conv("3d", (1, 3, 5, 6, 7), (17, 3, 3, 3, 3)),
    "tiles of 10x10 inputs": conv("7x7", (1, 16, 19, 19), (16, 16, 7, 7)),
    "windows of 3x3 do not fill its tiles": pooled("3x3", (1, 16, 9, 9), (16, 16, 3, 3), (3, 3)),
    "windows of 2x1 do not fill its tiles": pooled("2x1", (1, 16, 9, 9), (16, 16, 1, 3), (2, 1)),
    "weights must be constant": replace(conv("variable", (1, 16, 9, 9), (16, 16, 3, 3)), constants=()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason):
    machine = TARGETS[0]
    w = workload(REFUSED[reason], LOWERINGS[4], machine)
    answer = LOWERINGS[4].applies(w, machine)
    assert answer is not None
    assert reason in answer


def case_of(c: int, k: int, size: tuple[int, ...], kernel: tuple[int, ...], stride: int = 1) -> Case:
    pads = tuple((r // 2, r // 2) for r in kernel)
    return conv("layer", (1, c, *size), (k, c, *kernel), pads=pads, strides=stride, bias=True)


LAYERS = [
    (64, 64, (28, 28), (3, 3)),
    (256, 32, (14, 14), (3, 3)),
    (64, 32, (17, 17), (1, 7)),
    (16, 32, (28, 28), (5, 5)),
    (64, 32, (28, 28), (3, 3), 2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_error_estimate_bounds_the_error_closely(layer):
    jobs = [job_of(m, case_of(*layer), TARGETS[0]) for m in (2, 4)]
    arrays = draw(jobs[0].workload.inputs, 3)
    for job, result in zip(jobs, run(jobs, [arrays] * 2), strict=True):
        reference, _ = expected(job.workload, arrays)
        error = float(abs(result - reference).max() / abs(reference).max())
        estimate = job.lowering.error_bound(job.workload, [None, arrays[1]])
        assert error <= estimate <= 20 * error
        assert 1e-7 < estimate < 1e-4


def test_error_estimate_of_zero_weights():
    job = job_of(4, CASES[0][1], TARGETS[0])
    assert job.lowering.error_bound(job.workload, [None, np.zeros((32, 16, 3, 3), "float32")]) == 0


MACHINE = replace(resolve("znver4", threads=2), l3=32 << 20)

CHEAPEST = {
    (64, 64, (56, 56), (3, 3)): {4, 6},
    (128, 128, (28, 28), (3, 3)): {4, 6},
    (256, 256, (14, 14), (3, 3)): {4},
    (512, 512, (7, 7), (3, 3)): {2},
    (512, 512, (28, 28), (3, 3)): {4, 6},
    (512, 512, (14, 14), (3, 3)): {4},
    (64, 64, (224, 224), (3, 3)): {4},
    (192, 192, (17, 17), (1, 7)): {4},
    (32, 96, (28, 28), (5, 5)): {4},
}
"""The m that measured fastest on two Zen 4 cores, with weights that were not in cache; two where they tie."""


@pytest.mark.parametrize("layer", CHEAPEST, ids=str)
def test_prices_rank_as_measured(layer):
    w = workload(case_of(*layer), LOWERINGS[4], MACHINE, (RELU,))
    prices = {m: x.cost(w, MACHINE) for m, x in LOWERINGS.items() if x.applies(w, MACHINE) is None}
    assert min(prices, key=prices.__getitem__) in CHEAPEST[layer]
    assert min(prices.values()) < Direct().cost(w, MACHINE)


def test_direct_wins_where_there_is_little_to_save():
    """A product with few tiles and many channels is bound by its transformed weights."""
    w = workload(case_of(512, 512, (2, 2), (3, 3)), LOWERINGS[4], MACHINE)
    assert all(x.cost(w, MACHINE) > Direct().cost(w, MACHINE) for x in (LOWERINGS[4], LOWERINGS[6]))


def test_groups_fit_registers_and_cover_the_map():
    for layer in CHEAPEST:
        w = workload(case_of(*layer), LOWERINGS[4], MACHINE)
        s = ConvShape.of(w)
        for g in groups(s, 4, MACHINE):
            assert fits_registers(g.t_tile, g.k_tile, MACHINE)
            assert g.rows % g.t_rows == g.cols % g.t_cols == g.images % g.t_images == 0
        best = best_group(s, 4, MACHINE)[1]
        assert isinstance(best, Group)
        assert best.t_tile * best.k_tile >= 4


@pytest.mark.parametrize("machine", TARGETS, ids=lambda target: target.lanes)
def test_the_best_group_is_the_cheapest_of_all(machine):
    """What cannot be the best by its arithmetic alone is not priced."""
    for m, case in CASES:
        w = workload(case, LOWERINGS[m], machine)
        s = ConvShape.of(w)
        cheapest = min(seconds(s, m, g, machine) for g in groups(s, m, machine))
        assert best_group(s, m, machine)[0] == pytest.approx(cheapest, rel=1e-12)


def test_packed_weights_are_transformed_and_padded():
    job = job_of(2, conv("pack", (1, 3, 5, 5), (17, 3, 3, 3), bias=True), TARGETS[0])
    weights = np.zeros((17, 3, 3, 3), "float32")
    weights[16, 2, 0, 0] = 1
    packed = job.lowering.pack(job.workload, job.target, 1, weights)
    assert packed.shape == (2, 4, 4, 16, 16)
    # G has (1, 1/2, 1/2, 0) in its first column, up to signs
    assert np.array_equal(abs(packed[1, :, :, 2, 0]), np.outer([1, 0.5, 0.5, 0], [1, 0.5, 0.5, 0]))
    packed[1, :, :, 2, 0] = 0
    assert not packed.any()
    bias = job.lowering.pack(job.workload, job.target, 2, np.ones(17, "float32"))
    assert bias.shape == (2, 16)
    assert bias.sum() == 17
