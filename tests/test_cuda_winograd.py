"""Winograd on a GPU: programs and generated source against float64, resources, prices, refusals."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from case import Case
from device_jobs import DeviceJob, device
from kernels import assert_within_estimate, workload
from layer_cases import conv, pooled
from ptxas import needs_cuda_compiler, reports

from convc.frontends.builder import Network
from convc.ir import Attrs, Step
from convc.lowering.device_winograd import DeviceWinograd, DeviceWinograd2, DeviceWinograd4
from convc.lowering.implicit_gemm import ImplicitGemm
from convc.plan.select import Selector
from convc.schedules.base import NotApplicable
from convc.target import Target
from convc.tiling.device_transformed import stored_column
from convc.tiling.device_winograd import input_lanes, output_lanes, transformed
from convc.workload import ConvShape

TARGET = device()
SMALL = replace(TARGET, gpu=replace(TARGET.device, sms=1))
"""A device with one multiprocessor, on which threads of a small layer take several channels, too."""
LOWERINGS: dict[int, DeviceWinograd] = {2: DeviceWinograd2(), 4: DeviceWinograd4()}

CASES = [
    (2, conv("residual-odd-batch3", (3, 20, 13, 11), (33, 20, 3, 3), pads=1, bias=True)),
    (4, conv("residual-odd-batch3", (3, 33, 13, 11), (20, 33, 3, 3), pads=1, bias=True)),
    (4, conv("first-layer", (1, 3, 18, 21), (16, 3, 3, 3), pads=1, bias=True)),
    (2, conv("pads-asymmetric", (2, 3, 8, 9), (6, 3, 3, 3), pads=((0, 2), (2, 0)))),
    (4, conv("pads-asymmetric", (1, 20, 10, 9), (33, 20, 3, 3), pads=((2, 1), (0, 2)), bias=True)),
    (4, conv("no-pads-whole-tiles", (1, 16, 10, 14), (32, 16, 3, 3))),
    (2, conv("one-pixel", (1, 16, 1, 1), (16, 16, 3, 3), pads=1)),
    (4, conv("residual-smaller-than-a-tile", (2, 5, 3, 2), (4, 5, 3, 3), pads=1)),
    (4, conv("1x5", (1, 4, 6, 13), (5, 4, 1, 5), pads=(0, 2), bias=True)),
    (2, conv("5x2-strided", (1, 4, 15, 9), (5, 4, 5, 2), pads=((2, 2), (0, 1)), strides=(2, 1))),
    (4, conv("residual-1d", (2, 6, 31), (20, 6, 3), pads=1)),
]


def job_of(m: int, case: Case, target: Target = TARGET) -> DeviceJob:
    """A kernel of a case, with a residual where its name asks for one, and relu."""
    steps = (Step("add", Attrs(), len(case.inputs)),) if "residual" in case.id else ()
    return DeviceJob.of(case, LOWERINGS[m], target, (*steps, Step("relu")))


@pytest.mark.parametrize("target", [TARGET, SMALL], ids=["132-sms", "1-sm"])
@pytest.mark.parametrize(("m", "case"), CASES, ids=str)
def test_source_computes_the_convolution(m, case, target, tmp_path):
    job = job_of(m, case, target)
    assert job.lowering.applies(job.workload, target) is None
    arrays = job.draw()
    assert_within_estimate(job, arrays, job.emulate(arrays, tmp_path))


@pytest.mark.parametrize(("m", "case"), CASES, ids=str)
def test_program_computes_the_convolution(m, case):
    job = job_of(m, case, SMALL)
    arrays = job.draw()
    assert_within_estimate(job, arrays, job.serially(arrays))


def test_threads_take_as_many_channels_as_they_can_hold():
    """The cases above cover 1, 2 and 4 channels a thread in both transforms."""
    seen = set()
    for m, case in CASES:
        for target in (TARGET, SMALL):
            s = ConvShape.of(job_of(m, case, target).workload)
            seen |= {("input", input_lanes(s, m, target)), ("output", output_lanes(s, m, target))}
    assert seen >= {(side, lanes) for side in ("input", "output") for lanes in (1, 2, 4)}


@pytest.mark.parametrize(
    ("channels", "size", "tile"),
    [
        (32, 13, {"m": 64, "n": 32, "chunks": 4, "stages": 2, "rows": 4, "columns": 4}),
        (48, 13, {"m": 32, "n": 64, "chunks": 4, "stages": 3, "rows": 4, "columns": 4}),
        (32, 7, {"m": 16, "n": 32, "chunks": 8, "stages": 1, "rows": 2, "columns": 4}),
    ],
)
def test_every_way_to_stage_the_product(channels, size, tile, tmp_path):
    job = job_of(2, conv("tiles", (1, channels, size, size), (64, channels, 3, 3), pads=1))
    job = replace(job, config=replace(job.config, **tile))
    arrays = job.draw()
    assert_within_estimate(job, arrays, job.emulate(arrays, tmp_path))


def test_refuses_tiles_that_split_sums():
    job = job_of(2, conv("split", (1, 64, 7, 7), (64, 64, 3, 3), pads=1))
    assert job.config.split == 1
    with pytest.raises(NotApplicable, match=r"split=2.* does not fit"):
        replace(job, config=replace(job.config, split=2, stages=1)).function()


LAYERS = [
    ((1, 64, 224, 224), (64, 64, 3, 3)),
    ((1, 256, 56, 56), (256, 256, 3, 3)),
    ((1, 512, 14, 14), (512, 512, 3, 3)),
]


@needs_cuda_compiler
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("m", [2, 4])
def test_compiles_without_spills(m, arch):
    target = device(arch=arch)
    jobs = [job_of(m, conv("layer", x, w, pads=1, bias=True), target) for x, w in LAYERS]
    for functions in reports([job.code(f"k{i}") for i, job in enumerate(jobs)], arch):
        assert len(functions) == 3
        for function in functions:
            assert function.spill_stores == function.spill_loads == 0, function
            assert function.stack_bytes == 0, function
        registers = {f.name: f.registers for f in functions}
        assert max(registers.values()) <= 168, registers  # three blocks of 128 threads, one of 256


def test_product_moves_16_bytes_at_a_time():
    """Both operands copied asynchronously, reads without bank conflicts, M written as vectors."""
    job = job_of(2, conv("layer", (1, 128, 56, 56), (128, 128, 3, 3), pads=1))
    job = replace(job, config=replace(job.config, m=128, n=128, chunks=8, stages=2, rows=8, columns=8))
    source = job.code().source
    product = source[source.rindex("kernel_kernel_1(") : source.rindex("kernel_kernel_2(")]
    copies = re.findall(r"ptx_cp_async\w*_16\w*\(.*(transformed_ptr|input1_ptr)", product)
    assert set(copies) == {"transformed_ptr", "input1_ptr"}
    assert product.count("*(float4*)(products_ptr") == 16
    # Eight threads read 32 floats in a row, and 16 the first four columns of all 128.
    reads = re.findall(r"input1_shared_dyn_local_ptr \+ \d\) = (.*)", product)
    assert reads
    assert all("(((int)threadIdx.x) & 15) * 4)" in read for read in reads)


def test_columns_of_m_are_permuted_in_pieces_of_four():
    places = [stored_column(column) for column in range(64)]
    assert sorted(places) == list(range(64))
    assert places[:16] == [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]


def test_intermediates_stay_in_l2():
    """V and M of one image, for all layers of VGG but the first two and all of ResNet."""
    for channels, size in ((128, 112), (256, 56), (512, 28), (512, 14), (64, 56)):
        job = job_of(4, conv("layer", (1, channels, size, size), (channels, channels, 3, 3), pads=1))
        t = transformed(ConvShape.of(job.workload), 4, TARGET)
        assert t.v_bytes == t.m_bytes
        assert 2 * t.v_bytes < TARGET.device.l2
        assert t.moved == t.input_bytes + t.output_bytes + t.u_bytes + 4 * t.v_bytes


REFUSED = {
    "unit strides and no pooling": conv("both", (1, 16, 9, 9), (16, 16, 3, 3), strides=2, dilations=(2, 1)),
    "not those that dilations (2, 2) choose": conv("dilated", (1, 16, 9, 9), (16, 16, 3, 3), dilations=2),
    "each of the 2 groups": conv("grouped", (1, 32, 9, 9), (32, 16, 3, 3), groups=2),
    "tiles of 9x9 inputs exceed the registers": conv("strided", (1, 16, 19, 19), (16, 16, 3, 3), strides=2),
    "not the largest of a window": pooled("2x2", (1, 16, 8, 8), (16, 16, 3, 3), (2, 2)),
    "weights must be constant": replace(conv("variable", (1, 16, 9, 9), (16, 16, 3, 3)), constants=()),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason):
    w = workload(REFUSED[reason], LOWERINGS[4], TARGET)
    assert reason in str(LOWERINGS[4].applies(w, TARGET))


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_leaves_other_precisions_to_tensor_cores(precision):
    target = device(precision)
    job = DeviceJob.of(conv("vgg", (1, 64, 28, 28), (64, 64, 3, 3), pads=1), ImplicitGemm(), target)
    for lowering in LOWERINGS.values():
        refused = lowering.applies(job.workload, target)
        assert f"products in {precision} are left to the tensor cores" in str(refused)


CHOSEN = {
    (1, 3, 64, 224): {"implicit_gemm"},  # too few channels to pay for the transforms
    (1, 64, 64, 224): {"winograd4"},
    (1, 128, 128, 112): {"winograd4"},
    (1, 256, 256, 56): {"winograd4"},
    (1, 512, 512, 28): {"winograd4"},
    (1, 512, 512, 14): {"winograd2", "winograd4"},  # half the products, for 38 MB of weights instead of 17
    (1, 64, 64, 56): {"implicit_gemm"},  # saves less time than two launches take
    (8, 512, 512, 7): {"winograd4"},
}
"""Images, channels in and out, size; what the table of prices picks for the H200."""


@pytest.mark.parametrize("layer", CHOSEN, ids=str)
def test_is_chosen_where_it_is_predicted_faster(layer):
    batch, channels, kernels, size = layer
    net = Network("layer")
    x = net.input("x", (batch, channels, size, size))
    net.output(net.conv(x, kernels, 3, padding=1, name="conv"))
    found = Selector(TARGET).options(net.graph, net.graph.node("conv"))
    prices = {c.lowering: c.predicted_ms for c in found.candidates}
    assert found.allowed[0].lowering.name in CHOSEN[layer], prices
