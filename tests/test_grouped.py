"""The lowering for groups of few channels and its CPU schedule: right, and without products by zero."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from cases import cases
from kernels import (
    TARGETS,
    Job,
    assert_right,
    build,
    check_all,
    check_space,
    draw,
    run,
    target,
    tvm,
    workload,
)
from layer_cases import conv

from convc.codegen.shuffles import shuffle_scattered_loads
from convc.ir import Attrs, Step
from convc.lowering.direct import Direct
from convc.lowering.grouped import Grouped
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import direct, grouped
from convc.tiling.grouped import Groups, groups_of, tile_of, tiles
from convc.workload import ConvShape

RELU = Step("relu")

MORE = [
    conv("groups-of-2", (2, 16, 9, 8), (16, 2, 3, 3), pads=1, groups=8, bias=True),
    conv("groups-of-4", (1, 32, 14, 28), (32, 4, 3, 3), pads=1, groups=8, bias=True),
    conv("groups-of-4-strided", (1, 48, 15, 14), (48, 4, 3, 3), pads=1, strides=2, groups=12),
    conv("groups-of-4-tail", (1, 20, 7, 7), (20, 4, 3, 3), pads=1, groups=5),
    conv("groups-of-4-5x5-dilated", (1, 16, 12, 61), (16, 4, 5, 5), pads=4, dilations=2, groups=4),
    conv("groups-of-8", (1, 40, 7, 7), (40, 8, 3, 3), pads=1, groups=5, bias=True),
    conv("groups-of-8-1x1", (1, 32, 9, 9), (32, 8, 1, 1), groups=4),
    conv("groups-of-4-1d", (1, 32, 33), (32, 4, 3), pads=1, groups=8),
    conv("groups-of-4-3d", (1, 16, 4, 5, 6), (16, 4, 3, 2, 3), pads=1, groups=4),
    conv("groups-of-24", (1, 72, 5, 14), (72, 24, 3, 3), pads=1, groups=3, bias=True),
    conv("groups-of-24-strided", (1, 72, 9, 7), (72, 24, 3, 3), pads=1, strides=2, groups=3),
    conv("groups-of-12", (1, 60, 6, 6), (60, 12, 3, 3), pads=1, groups=5),
    conv("groups-of-5-to-12", (1, 25, 6, 6), (60, 5, 3, 3), pads=1, groups=5),
    conv("groups-of-40-to-8", (1, 80, 4, 6), (16, 40, 1, 1), groups=2),
]  # fmt: skip


def shape(ic: int, oc: int, groups: int) -> ConvShape:
    return ConvShape(1, ic, oc, (7, 7), (7, 7), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), groups)


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    candidates = [(case, workload(case, Grouped(), machine, (RELU,))) for case in [*cases("conv"), *MORE]]
    jobs = [
        Job.of(case, Grouped(), grouped, machine, (RELU,))
        for case, w in candidates
        if Grouped().applies(w, machine) is None
    ]
    assert len(jobs) >= 3
    check_all(jobs)


def test_residual():
    case = conv("residual", (1, 32, 7, 9), (32, 4, 3, 3), pads=1, groups=8, bias=True)
    job = Job.of(case, Grouped(), grouped, TARGETS[0], (Step("add", Attrs(), 3), RELU))
    arrays = draw(job.workload.inputs)
    (result,) = run([job], [arrays])
    assert_right(job, arrays, result)


@pytest.mark.parametrize("size", [4, 24])
def test_every_configuration_computes_the_same(size):
    case = conv("space", (2, 48, 4, 12), (48, size, 3, 3), pads=1, groups=48 // size)
    first = Job.of(case, Grouped(), grouped, TARGETS[0])
    configs = check_space(first)
    assert len(configs) >= 4


@pytest.mark.parametrize(("size", "permutation"), [(4, r"v(shufps|permilps)"), (8, r"vpermps")])
def test_one_permutation_feeds_all_taps(size, permutation):
    """28 sums of 3 taps in a row take 84 multiply-adds and 30 operands, for every channel of the group."""
    machine = target(16, 32, "znver4")
    case = conv("permuted", (1, 32, 28, 28), (32, size, 3, 3), pads=1, groups=32 // size)
    job = Job.of(case, Grouped(), grouped, machine, (RELU,))
    assert (job.config.rows, job.config.cols, job.config.blocks) == (1, 28, 1)
    code = build([job]).inspect_source("asm")
    assert len(re.findall(r"vfmadd\w+\s.*%zmm", code)) == 84 * size
    assert len(re.findall(permutation + r"\s.*%zmm", code)) <= 30 * size
    assert not re.search(r"vinsert|vgather", code)
    spills = [line for line in code.splitlines() if re.search(r"%zmm\d+, -?\d*\(%r[sb]p", line)]
    assert len(spills) < 28


def test_scattered_loads_of_one_vector_are_shuffled_and_no_others():
    """x[0 .. 15] permuted is one vector; lanes of two vectors, and what need not be aligned, stay loads."""

    def code(index):
        te = tvm.te
        x, y = te.placeholder((64,), name="x"), te.placeholder((4,), "int32", name="y")
        made = te.compute((3, 16), lambda i, lane: x[index(i, lane, y)], name="made")
        sch = tvm.s_tir.Schedule(te.create_prim_func([x, y, made]))
        sch.vectorize(sch.get_loops(sch.get_sblock("made"))[-1])
        seen = []
        lowered = tvm.tirx.get_tir_pipeline("s_tir")[0]

        @tvm.transform.module_pass(opt_level=0)
        def look(mod, context):
            with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
                mod = shuffle_scattered_loads()(lowered(mod))
            seen.append(mod.script())
            return mod

        tvm.tirx.register_tir_pipeline("look", lambda: (look, *tvm.tirx.get_tir_pipeline("s_tir")[1:]))
        tvm.tirx.build(sch.mod, target=tvm.target.Target("llvm"), pipeline="look")
        return seen[0]

    assert "Shuffle" in code(lambda i, lane, y: i * 16 + lane // 4 * 4 + 3)
    assert "Shuffle" in code(lambda i, lane, y: i * 16 + lane // 2)
    assert "Shuffle" not in code(lambda i, lane, y: i * 16 + lane // 4 * 4 + 4)
    assert "Shuffle" not in code(lambda i, lane, y: i * 8 + lane // 2)
    assert "Shuffle" not in code(lambda i, lane, y: y[i] + lane // 2)
    assert "Shuffle" not in code(lambda i, lane, y: i * 16 + lane)


def test_how_vectors_are_fed():
    machine = TARGETS[0]
    assert groups_of(shape(128, 128, 32), machine) == Groups(16, 4, 4, 128, permuted=True)
    blended = groups_of(shape(72, 72, 3), machine)
    assert isinstance(blended, Groups)
    assert (blended.permuted, blended.inner, blended.steps) == (False, 8, 3)
    for args, reason in (
        ((64, 64, 1), "one group"),
        ((64, 64, 64), "depthwise"),
        ((64, 64, 4), "16 lanes divide groups of 16"),
        ((30, 18, 6), "up to 6 groups of 5 to 3"),
        ((64, 128, 2), "16 lanes divide groups of 64"),
    ):
        assert reason in str(groups_of(shape(*args), machine))


def test_refuses_more_sums_than_registers():
    case = conv("tile", (1, 16, 28, 28), (16, 4, 3, 3), pads=1, groups=4)
    job = Job.of(case, Grouped(), grouped, TARGETS[1])
    with pytest.raises(NotApplicable, match="16 vector registers"):
        job.with_config(replace(job.config, rows=1, cols=14, blocks=1)).function()


def test_refuses_what_direct_refuses():
    case = conv("refused", (1, 16, 5, 5), (16, 4, 3, 3), groups=4, bias=True)
    w = workload(case, Grouped(), TARGETS[0])
    assert Grouped().applies(w, TARGETS[0]) is None
    assert "weights" in str(Grouped().applies(replace(w, constant=(False, False, True)), TARGETS[0]))


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_price_is_that_of_the_multiply_adds(machine):
    """About half of direct's price where a vector has two groups, and no less than peak allows."""
    size = machine.lanes // 2
    case = conv("priced", (1, 128, 56, 56), (128, size, 3, 3), pads=1, groups=128 // size)
    job = Job.of(case, Grouped(), grouped, machine)
    s = ConvShape.of(job.workload)
    price = Grouped().cost(job.workload, machine)
    assert tile_of(s, machine) in tiles(s, machine)
    assert s.flops / machine.peak <= price <= 1.8 * s.flops / machine.peak
    direct_job = Job.of(case, Direct(), direct, machine)
    assert price < 0.8 * Direct().cost(direct_job.workload, machine)
