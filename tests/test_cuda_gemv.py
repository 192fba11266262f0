"""Fully connected layers of few rows on a GPU: what they compute, emulated, and how they read weights."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from case import Case, f32
from device_batch import check_emulated
from device_jobs import DeviceJob, device
from ptxas import needs_cuda_compiler, reports

from convc.ir import Attrs, Step, opdef
from convc.lowering.device_gemv import DeviceGemv
from convc.ops.linear import GemmAttrs
from convc.plan.select import Selector
from convc.schedules.base import NotApplicable
from convc.schedules.cuda import gemv
from convc.tiling.device_gemv import GemvProblem, best_tile, tiles
from convc.workload import Workload

RELU = Step("relu")
PRECISIONS = ("float32", "float16", "bfloat16")


def gemm(id, m, k, n, bias=None, constants=(1, 2), **attrs):
    b = (n, k) if attrs.get("trans_b") else (k, n)
    inputs = (f32(m, k), f32(*b), *([f32(*bias)] if bias is not None else []))
    return Case(id, "gemm", GemmAttrs(**attrs), inputs, tuple(c for c in constants if c < len(inputs)))


def matmul(id, x, k, n):
    return Case(id, "matmul", Attrs(), (f32(*x, k), f32(k, n)), (1,))


CASES = [
    gemm("classifier", 1, 1280, 100, (100,), trans_b=True),
    gemm("odd-residual", 3, 77, 33, (33,)),
    gemm("one-of-each", 1, 1, 1, ()),
    gemm("few-elements", 2, 5, 300, (300,), trans_b=True),
    gemm("few-outputs-residual", 1, 4096, 10, (10,), trans_b=True),
    gemm("alpha-beta", 4, 264, 70, (70,), alpha=0.5, beta=-2.0),
    gemm("bias-of-rows", 5, 40, 21, (5, 1), beta=3.0),
    gemm("bias-at-run-time", 2, 96, 48, (48,), constants=(1,), beta=0.25),
    gemm("bias-of-one", 2, 36, 77, (1,)),
    gemm("sixteen-rows", 16, 128, 24, (24,), trans_b=True),
    gemm("eight-odd-rows", 8, 131, 9),
    matmul("rows-of-three-axes", (2, 3), 40, 17),
    matmul("vector", (), 100, 12),
]


def job_of(case, target, **config):
    epilogue = (Step("add", Attrs(), len(case.inputs)), RELU) if "residual" in case.id else (RELU,)
    return DeviceJob.of(case, DeviceGemv(), target, epilogue, **config)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_source_equals_float64(precision, tmp_path):
    check_emulated([job_of(case, device(precision)) for case in CASES], tmp_path)


# NumPy's arrays without axes become vectors on their way to TVM.
@pytest.mark.parametrize("case", [c for c in CASES if c.inputs[-1].rank], ids=str)
def test_program_equals_float64(case):
    job = job_of(case, device("float16"))
    arrays = job.draw()
    job.assert_right(arrays, job.serially(arrays))


@pytest.mark.parametrize(("precision", "k"), [("float32", 509), ("float16", 1536)])
def test_every_configuration_computes_the_same(precision, k, tmp_path):
    target = device(precision)
    first = job_of(gemm("space", 3, k, 21, (21,), trans_b=True), target)
    configs = list(gemv.space(first.workload, target))
    assert first.config in configs
    assert len({c.rows for c in configs}) == 3
    assert len({c.threads for c in configs}) > 1
    jobs = [DeviceJob(first.lowering, first.workload, target, config) for config in configs]
    check_emulated(jobs, tmp_path)


def test_a_tile_that_does_not_divide_the_sum_is_refused():
    with pytest.raises(NotApplicable, match=r"GemvConfig\(.*ahead=3\) does not fit"):
        job_of(CASES[0], device(), ahead=3).function()


LAYERS = {
    "vgg-fc1": (1, 25088, 4096), "vgg-fc2": (1, 4096, 4096), "vgg-fc1-batch8": (8, 25088, 4096),
    "mobilenet": (1, 1280, 1000), "resnet50": (1, 2048, 1000), "excitation": (1, 1152, 48),
    "squeeze": (1, 48, 1152), "classes-batch4": (4, 512, 1000),
}  # fmt: skip


def layer(name):
    m, k, n = LAYERS[name]
    return gemm(name, m, k, n, (n,), trans_b=True)


@pytest.mark.parametrize("precision", [*PRECISIONS, "tf32"])
@pytest.mark.parametrize("name", LAYERS)
def test_chosen_for_layers_of_few_rows(name, precision):
    w = DeviceJob.of(layer(name), DeviceGemv(), device(precision)).workload
    assert Selector(device(precision)).choose_workload(w).lowering.name == "gemv"


@needs_cuda_compiler
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_compiles_without_spills(precision, arch):
    names = ("vgg-fc1", "vgg-fc1-batch8", "mobilenet", "excitation")
    codes = [job_of(layer(name), device(precision, arch)).code(f"k{i}") for i, name in enumerate(names)]
    for name, code, (report,) in zip(names, codes, reports(codes, arch), strict=True):
        assert report.spill_stores == report.spill_loads == 0, name
        x, y, z = code.launches[0].block
        assert report.registers * x * y * z <= 65536


def test_a_warp_reads_its_weights_in_a_row():
    """16 bytes by each thread, the next thread the next 16; and one barrier, however many sums there are."""
    source = job_of(layer("vgg-fc1-batch8"), device("float16")).code().source
    loads = re.findall(r"\*\(uint4\*\)\(w_ptr \+ .*", source)
    assert len(loads) >= 4
    assert all("((int)threadIdx.x) * 8)" in load for load in loads)
    assert "uint4*)(x_ptr" in source
    assert source.count("__syncthreads()") == 1


def test_rows_that_are_no_whole_chunks_are_read_by_elements():
    source = job_of(gemm("odd", 2, 77, 40), device("float16")).code().source
    assert "(uint4*)(w_ptr" in source
    assert re.search(r"\*\)\(x_ptr", source) is None


def test_weights_are_filled_up_by_an_eighth_at_most():
    for k in range(1, 3000):
        p = GemvProblem(1, 10, k, 8)
        assert p.chunks <= p.padded_chunks <= max(p.chunks * 9 / 8, 2, p.chunks + 1)
        assert list(tiles(p)), k


def test_short_outputs_are_shared_by_more_threads():
    gpu = device().device
    assert best_tile(GemvProblem(1, 10, 4096, 4), gpu).threads > 128
    assert best_tile(GemvProblem(1, 4096, 64, 4), gpu).threads <= 16


def test_refusals():
    def answer(case, target, **changes):
        outputs = opdef(case.op).infer(case.attrs, case.inputs)
        constant = tuple(i in case.constants for i in range(len(case.inputs)))
        w = Workload(case.op, case.attrs, case.inputs, outputs, constant, len(case.inputs))
        return str(DeviceGemv().applies(replace(w, **changes), target))

    target, case = device(), gemm("any", 2, 8, 8)
    assert answer(case, target) == "None"
    assert "up to 16 rows, not 17" in answer(gemm("many", 17, 8, 8), target)
    transposed = Case("a", "gemm", GemmAttrs(trans_a=True), (f32(8, 2), f32(8, 4)), (1,))
    assert "must not be transposed" in answer(transposed, target)
    assert "must be constant" in answer(case, target, constant=(False, False))
    batched = Case("batched", "matmul", Attrs(), (f32(2, 3, 8), f32(2, 8, 4)), (1,))
    assert "one matrix, not of shape (2, 8, 4)" in answer(batched, target)
    assert "reads float16, not float32" in answer(case, device("float16"))
