"""FFT convolution on a GPU: programs and generated source against float64, resources, prices, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from case import Case
from device_jobs import DeviceJob, device
from kernels import assert_within_estimate, workload
from layer_cases import conv
from ptxas import needs_cuda_compiler, reports

from convc.frontends.builder import Network
from convc.ir import Attrs, Step
from convc.lowering.device_fft import DeviceFft
from convc.lowering.implicit_gemm import ImplicitGemm
from convc.lowering.transformed import SHARED
from convc.plan.select import Selector
from convc.schedules.base import NotApplicable
from convc.schedules.cuda.fragments import SHARED as SCHEDULED
from convc.tiling.device_fft import LARGEST_TILE, choose, shared_bytes, tilings
from convc.tiling.fft import as_pair, spans
from convc.workload import ConvShape

TARGET = device()
FFT = DeviceFft()

CASES = [
    conv("residual-7x7-odd-batch3", (3, 20, 13, 11), (33, 20, 7, 7), pads=3, bias=True),
    conv("7x7-first-layer", (1, 3, 22, 27), (16, 3, 7, 7), pads=3, bias=True),
    conv("9x9-pads-asymmetric", (1, 33, 17, 12), (20, 33, 9, 9), pads=((0, 2), (5, 1))),
    conv("residual-11x11-larger-than-map", (2, 5, 6, 4), (4, 5, 11, 11), pads=5, bias=True),
    conv("one-pixel", (1, 16, 1, 1), (16, 16, 7, 7), pads=3),
    conv("7x3-no-pads", (1, 4, 31, 9), (5, 4, 7, 3), bias=True),
    conv("column", (1, 3, 30, 5), (20, 3, 9, 1), pads=((4, 4), (0, 0))),
    conv("1d", (2, 6, 70), (20, 6, 15), pads=((7, 3),), bias=True),
    conv("dilated", (1, 3, 25, 24), (4, 3, 3, 3), pads=((4, 4), (3, 1)), dilations=(4, 3)),
    conv("21x21", (1, 2, 30, 33), (2, 2, 21, 21), pads=10),
]


def job_of(case: Case) -> DeviceJob:
    """A kernel of a case, with a residual where its name asks for one, and relu."""
    steps = (Step("add", Attrs(), len(case.inputs)),) if "residual" in case.id else ()
    return DeviceJob.of(case, FFT, TARGET, (*steps, Step("relu")))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_source_computes_the_convolution(case, tmp_path):
    job = job_of(case)
    assert FFT.applies(job.workload, TARGET) is None
    arrays = job.draw()
    assert_within_estimate(job, arrays, job.emulate(arrays, tmp_path))


@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_program_computes_the_convolution(case):
    job = job_of(case)
    arrays = job.draw()
    assert_within_estimate(job, arrays, job.serially(arrays))


@pytest.mark.parametrize("size", [(4, 6), (10, 32), (32, 14)])
def test_tiles_of_every_size(size, monkeypatch, tmp_path):
    """With fewer lines than warps, and with more."""
    job = job_of(conv("tiles", (1, 5, 30, 35), (17, 5, 3, 3), pads=1))
    s = ConvShape.of(job.workload)
    out = tuple(t - 2 for t in size)
    count = tuple(-(-o // m) for o, m in zip(s.output, out, strict=True))
    tiling = replace(choose(s, TARGET), tile=size, out=out, count=count)
    for module in ("convc.lowering.device_fft", "convc.schedules.cuda.fft"):
        monkeypatch.setattr(f"{module}.choose", lambda s, target: tiling)
    job = DeviceJob.of(conv("tiles", (1, 5, 30, 35), (17, 5, 3, 3), pads=1), FFT, TARGET)
    arrays = job.draw()
    assert_within_estimate(job, arrays, job.emulate(arrays, tmp_path))


def test_a_missing_barrier_gives_wrong_results(tmp_path):
    """The emulator runs threads in a random order: the columns would read rows that are not there."""
    job = job_of(CASES[1])
    arrays = job.draw()

    def without(source: str) -> str:
        before, barrier, after = source.partition("__syncthreads();")
        assert barrier
        return before + after

    with pytest.raises(AssertionError):
        assert_within_estimate(job, arrays, job.emulate(arrays, tmp_path, edit=without))


@needs_cuda_compiler
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("layer", [(64, 112, 7), (32, 256, 15)], ids=str)
def test_compiles_without_spills(layer, arch):
    channels, size, kernel = layer
    target = device(arch=arch)
    x, w = (1, channels, size, size), (channels, channels, kernel, kernel)
    job = DeviceJob.of(conv("layer", x, w, pads=kernel // 2, bias=True), FFT, target)
    code = job.code()
    assert len(code.launches) == 3
    for launch in code.launches:
        assert launch.shared_bytes <= target.device.block_shared_memory
    for function in reports([code], arch)[0]:
        assert function.spill_stores == function.spill_loads == function.stack_bytes == 0, function
        assert function.registers <= 128, function


def test_lowering_and_schedule_agree_on_shared_memory():
    assert SHARED == SCHEDULED


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tilings_cover_the_output_and_fit(case):
    s = ConvShape.of(job_of(case).workload)
    for t in tilings(s, TARGET):
        for size, m, count, r, o in zip(
            t.tile, t.out, t.count, as_pair(spans(s)), as_pair(s.output), strict=True
        ):
            assert size == m + r - 1 <= LARGEST_TILE
            assert count * m >= o > (count - 1) * m
        assert shared_bytes(t) <= TARGET.device.block_shared_memory
        assert t.tiles == s.n * math.prod(t.count)


def test_refuses_tiles_that_split_sums():
    job = job_of(conv("split", (1, 64, 14, 14), (64, 64, 7, 7), pads=3))
    with pytest.raises(NotApplicable, match=r"split=2.* does not fit"):
        replace(job, config=replace(job.config, split=2, stages=1)).function()


REFUSED = {
    "4 times too much": conv("strided", (1, 16, 32, 32), (16, 16, 7, 7), strides=2),
    "spans 25 pixels, more than 24": conv("wide", (1, 16, 64, 64), (16, 16, 25, 25), pads=12),
    "each of the 16 groups": conv("depthwise", (1, 16, 32, 32), (16, 1, 7, 7), groups=16),
    "weights and bias must be constants": replace(
        conv("variable", (1, 16, 9, 9), (16, 16, 7, 7)), constants=()
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refuses(reason):
    w = workload(REFUSED[reason], ImplicitGemm(), TARGET)
    assert reason in str(FFT.applies(w, TARGET))


@pytest.mark.parametrize("precision", ["tf32", "float16", "bfloat16"])
def test_leaves_other_precisions_to_tensor_cores(precision):
    target = device(precision)
    job = DeviceJob.of(conv("large", (1, 64, 28, 28), (64, 64, 7, 7), pads=3), ImplicitGemm(), target)
    refused = FFT.applies(job.workload, target)
    assert f"products in {precision} are left to the tensor cores" in str(refused)


CHOSEN = {
    (64, 64, 112, 7): "fft",
    (64, 64, 56, 11): "fft",
    (32, 32, 256, 15): "fft",
    (3, 64, 224, 7): "implicit_gemm",  # too few channels to pay for the transforms
    (64, 64, 224, 3): "winograd4",
}
"""Channels in and out, size, kernel; what the table of prices picks for the H200."""


@pytest.mark.parametrize("layer", CHOSEN, ids=str)
def test_is_chosen_where_it_is_predicted_faster(layer):
    channels, kernels, size, kernel = layer
    net = Network("layer")
    x = net.input("x", (1, channels, size, size))
    net.output(net.conv(x, kernels, kernel, padding=kernel // 2, name="conv"))
    found = Selector(TARGET).options(net.graph, net.graph.node("conv"))
    prices = {c.lowering: c.predicted_ms for c in found.candidates}
    assert found.allowed[0].lowering.name == CHOSEN[layer], prices
