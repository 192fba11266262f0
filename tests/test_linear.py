"""The gemm lowering and its CPU schedule against float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from case import Case, f32
from cases import cases
from kernels import TARGETS, Job, assert_right, check_all, check_space, draw, expected, run, target, workload

from convc.ir import Attrs, Step
from convc.lowering.linear import Gemm, Gemm24
from convc.ops.linear import GemmAttrs
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import SCHEDULES
from convc.tiling.gemm import GemmShape, gemm_rows, gemm_tile, gemm_width
from convc.types import Array


def product(id: str, m: int, k: int, n: int, c: tuple[int, ...] | None = None, **attrs: object) -> Case:
    """`gemm` with a constant right-hand side and, if it has a shape, a constant `c`."""
    a = GemmAttrs(**attrs)  # type: ignore[arg-type]
    inputs = [f32(k, m) if a.trans_a else f32(m, k), f32(n, k) if a.trans_b else f32(k, n)]
    if c is not None:
        inputs.append(f32(*c))
    return Case(f"gemm-{id}", "gemm", a, tuple(inputs), tuple(range(1, len(inputs))))


MORE = [
    product("row-1000", 1, 300, 1000, (1000,), trans_b=True),
    product("row-wide", 1, 64, 2048, (1, 2048)),
    product("row-1-column", 1, 33, 1),
    product("scaled-batch3", 3, 77, 33, (3, 33), alpha=0.5, beta=2.0),
    product("column-bias", 5, 64, 17, (5, 1), trans_a=True, beta=-1.5),
    product("scalar-bias", 7, 20, 1, (), alpha=-2.0, trans_a=True, trans_b=True),
    product("batch32", 32, 48, 160, (160,)),
    product("batch-prime", 61, 20, 40, (40,)),
    Case("matmul-2x3-rows", "matmul", Attrs(), (f32(2, 3, 20), f32(20, 30)), (1,)),
    Case("matmul-2x13-rows", "matmul", Attrs(), (f32(2, 13, 20), f32(20, 33)), (1,)),
    Case("matmul-maps", "matmul", Attrs(), (f32(2, 7, 7, 9), f32(9, 40)), (1,)),
    Case("matmul-5-axes", "matmul", Attrs(), (f32(3, 1, 2, 5, 4), f32(4, 17)), (1,)),
    Case("matmul-vector", "matmul", Attrs(), (f32(20), f32(20, 30)), (1,)),
]


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    jobs = []
    for case in [*cases("gemm", "matmul"), *MORE]:
        if Gemm().applies(workload(case, Gemm(), machine), machine) is None:
            jobs.append(Job.of(case, Gemm(), SCHEDULES["gemm"], machine, (Step("relu"),)))
    assert len(jobs) > len(MORE) + 3
    check_all(jobs)


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64_in_24_bits(machine):
    """As exact as float32 sums, but for 2^-19 of each product."""
    jobs = []
    for case in [*cases("gemm", "matmul"), *MORE]:
        w = workload(case, Gemm24(), machine)
        if Gemm24().applies(w, machine) is None:
            jobs.append(Job.of(case, Gemm24(), SCHEDULES["gemm_24bit"], machine, (Step("relu"),)))
    assert len(jobs) > len(MORE) - 4
    check_all(jobs, within_24_bits)


def within_24_bits(job: Job, arrays: Sequence[Array], result: Array) -> None:
    """The error of float32 sums and that of storage: relative to each product, of tiny weights absolute."""
    reference, bound = expected(job.workload, arrays)
    scales = {
        name: abs(value) for name, value in vars(job.workload.attrs).items() if name in ("alpha", "beta")
    }
    signless = replace(job.workload, attrs=replace(job.workload.attrs, **scales))
    size, _ = expected(signless, [abs(a) for a in arrays])
    inputs, _ = expected(signless, [abs(arrays[0]), np.ones_like(arrays[1]), *map(abs, arrays[2:])])
    allowed = bound + 2.0**-19 * size + 2.0**-28 * inputs
    assert (abs(result - reference) <= allowed).all(), str(job.workload)
    predicted = job.lowering.error_bound(job.workload, [None, arrays[1]])
    assert abs(result - reference).max() <= predicted * abs(reference).max()


def test_every_configuration_in_24_bits_computes_the_same():
    machine = TARGETS[0]
    first = Job.of(product("space", 6, 32, 100, (100,)), Gemm24(), SCHEDULES["gemm_24bit"], machine)
    configs = check_space(first, within_24_bits)
    assert {c.unroll for c in configs} == {4, 8}
    with pytest.raises(NotApplicable, match="does not divide"):
        first.with_config(replace(first.config, unroll=2)).function()


def test_weights_are_fetched_ahead():
    """Each line of a step of k, but for one row of float32, whose loads run ahead by themselves."""

    def fetched(m: int, lowering: Gemm) -> int:
        case = product("prefetch", m, 64, 2048)
        job = Job.of(case, lowering, SCHEDULES[lowering.schedule], TARGETS[0])
        assert job.config.unroll == (4 if m == 1 or lowering.name == "gemm_24bit" else 1)
        return str(job.function()).count("llvm.prefetch")

    assert fetched(1, Gemm()) == 0
    assert fetched(1, Gemm24()) == 3 * 4  # three words of four vectors
    assert fetched(8, Gemm()) == 1 * 2  # a row of two
    assert fetched(8, Gemm24()) == 3 * 2


def test_24_bits_pay_where_caches_overflow():
    machine = TARGETS[0]  # two cores with 1 MB each
    for n, pays in ((1000, False), (1056, True)):
        w = Job.of(product("fc", 1, 512, n), Gemm(), SCHEDULES["gemm"], machine).workload
        assert (Gemm24().cost(w, machine) < Gemm().cost(w, machine)) == pays


def test_refusals_of_24_bits():
    machine = TARGETS[0]
    odd = Job.of(product("odd", 1, 1023, 4096), Gemm(), SCHEDULES["gemm"], machine)
    assert "1023 terms of a sum are not a multiple of 4" in str(Gemm24().applies(odd.workload, machine))


def test_computed_bias_and_residual():
    case = product("computed-bias", 3, 16, 40, (40,), beta=0.5)
    case = replace(case, constants=(1,))
    steps = (Step("add", Attrs(), 3), Step("relu"))
    job = Job.of(case, Gemm(), SCHEDULES["gemm"], TARGETS[0], steps)
    arrays = draw(job.workload.inputs)
    assert_right(job, arrays, run([job], [arrays])[0])


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
@pytest.mark.parametrize("shape", [(2, 13, 33), (13, 33), (2, 1, 33), (1, 33), (13, 1), (1,)], ids=str)
def test_operand_of_an_epilogue_on_rows_of_a_batch(machine, shape):
    """Tiles of rows go across the batch, an operand may repeat in it: the positions of a transformer."""
    case = Case("tokens", "matmul", Attrs(), (f32(2, 13, 20), f32(20, 33)), (1,))
    job = Job.of(case, Gemm(), SCHEDULES["gemm"], machine, (Step("add", Attrs(), 2),))
    w = replace(job.workload, inputs=(*job.workload.inputs[:2], f32(*shape)))
    job = replace(job, workload=w)
    arrays = draw(w.inputs)
    assert_right(job, arrays, run([job], [arrays])[0])


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_awkward_numbers_of_rows_fill_registers(machine):
    """Sums of a tile wait for each other below eight; few rows are computed in vain."""
    for m in (49, 197, 2 * 197, 5 * 199, 211):
        g = GemmShape(m, 64, 192)
        tile, rows = gemm_tile(g, machine), gemm_rows(g, machine)
        assert tile.sums >= 8
        assert m <= rows < 1.05 * m
        assert rows % tile.cols == 0


def test_every_configuration_computes_the_same():
    first = Job.of(product("space", 6, 32, 100, (100,)), Gemm(), SCHEDULES["gemm"], TARGETS[0])
    configs = check_space(first)
    assert {c.rows for c in configs} == {1, 2, 3, 6}
    with pytest.raises(NotApplicable, match="does not divide"):
        first.with_config(replace(first.config, rows=4)).function()


def test_one_row_costs_as_much_as_reading_its_weights():
    machine = target(16, 32)
    job = Job.of(product("fc6", 1, 25088, 4096, (4096,), trans_b=True), Gemm(), SCHEDULES["gemm"], machine)
    seconds = Gemm().cost(job.workload, machine)
    assert 1.0 <= seconds * machine.memory_bandwidth / (4 * 25088 * 4096) <= 1.1
    many = Job.of(product("many", 256, 1024, 1024), Gemm(), SCHEDULES["gemm"], machine)
    seconds = Gemm().cost(many.workload, machine)
    assert 1.0 <= seconds * machine.peak / (2 * 256 * 1024 * 1024) <= 1.15


def test_columns_are_stored_in_runs_that_leave_work_for_all_threads():
    for n in (1, 10, 100, 1000, 4096):
        for threads in (1, 2, 8, 64):
            machine = TARGETS[0].with_threads(threads)
            width = gemm_width(GemmShape(1, 512, n), machine)
            assert width % 16 == 0
            assert width == 16 or -(-n // width) >= 4 * threads


def test_refusals():
    job = Job.of(product("refused", 2, 8, 8), Gemm(), SCHEDULES["gemm"], TARGETS[0])
    computed = replace(job.workload, constant=(False, False))
    assert "must be constant" in str(Gemm().applies(computed, job.target))
    batched = replace(job.workload, op="matmul", inputs=(f32(2, 4, 8), f32(2, 8, 8)))
    assert "(2, 8, 8)" in str(Gemm().applies(batched, job.target))
