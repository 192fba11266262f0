"""Depthwise convolution on a GPU: what it computes, emulated, and what ptxas makes of it."""

from __future__ import annotations

import pytest
from device_batch import check_emulated
from device_jobs import DeviceJob, device
from device_table import covering
from layer_cases import conv
from ptxas import needs_cuda_compiler, reports

from convc.codegen.nvcc import compile_ptx
from convc.ir import Attrs, Step
from convc.lowering.device_depthwise import DeviceDepthwise
from convc.plan.select import Selector
from convc.schedules.base import NotApplicable
from convc.schedules.cuda import depthwise
from convc.tiling.device_depthwise import best_column
from convc.workload import ConvShape, Workload

RELU = Step("relu")
PRECISIONS = ("float32", "float16", "bfloat16")


def residual(case):
    """The operand and relu of a layer that ends a block."""
    return (Step("add", Attrs(), len(case.inputs)), RELU)


CASES = [
    conv("residual", (1, 16, 13, 11), (16, 1, 3, 3), pads=1, groups=16, bias=True),
    conv("channels-beside-blocks", (2, 21, 9, 8), (21, 1, 3, 3), pads=1, strides=2, groups=21, bias=True),
    conv("one-channel", (1, 1, 6, 5), (1, 1, 3, 3), groups=1),
    conv("5x5", (1, 8, 14, 14), (8, 1, 5, 5), pads=2, groups=8, bias=True),
    conv("7x7-loop", (1, 12, 9, 10), (12, 1, 7, 7), pads=3, groups=12),
    conv("kernel-beyond-map", (2, 9, 3, 2), (9, 1, 5, 5), pads=2, groups=9),
    conv("one-pixel", (3, 16, 7, 7), (16, 1, 7, 7), groups=16, bias=True),
    conv("pads-asymmetric", (1, 5, 8, 9), (5, 1, 3, 2), pads=((0, 2), (1, 0)), groups=5),
    conv("dilated-residual", (1, 8, 15, 14), (8, 1, 3, 3), pads=(4, 2), dilations=(4, 2), groups=8),
    conv("stride-beyond-kernel", (1, 8, 11, 13), (8, 1, 2, 2), strides=3, groups=8),
    conv("1x1", (1, 16, 5, 9), (16, 1, 1, 1), groups=16, bias=True),
    conv("1d-residual", (2, 20, 33), (20, 1, 3), pads=((2, 0),), groups=20, bias=True),
    conv("3d", (1, 9, 4, 5, 6), (9, 1, 3, 3, 3), pads=1, strides=(1, 2, 1), groups=9, bias=True),
    conv("wide-rows", (1, 4, 3, 600), (4, 1, 3, 3), pads=1, groups=4),
]


def job_of(case, target, **config):
    epilogue = residual(case) if "residual" in case.id else (RELU,)
    return DeviceJob.of(case, DeviceDepthwise(), target, epilogue, **config)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_source_equals_float64(precision, tmp_path):
    check_emulated([job_of(case, device(precision)) for case in CASES], tmp_path)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_program_equals_float64(case):
    job = job_of(case, device("float16"))
    arrays = job.draw()
    job.assert_right(arrays, job.serially(arrays))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_configuration_computes_the_same(precision, tmp_path):
    target = device(precision)
    first = job_of(conv("space", (2, 24, 11, 10), (24, 1, 3, 3), pads=1, groups=24, bias=True), target)
    configs = list(depthwise.space(first.workload, target))
    assert first.config in configs
    assert {c.rows for c in configs} == set(range(1, 9))
    jobs = covering(first)
    assert len(jobs) < len(configs)
    check_emulated(jobs, tmp_path)


def test_a_column_beyond_the_map_is_refused():
    case = conv("short", (1, 8, 3, 10), (8, 1, 3, 3), pads=1, groups=8)
    with pytest.raises(NotApplicable, match=r"DepthwiseConfig\(rows=4.*does not fit"):
        job_of(case, device(), rows=4).function()


LAYERS = [
    ("mobilenet-first", 32, 112, 3, 1), ("mobilenet-96", 96, 112, 3, 2), ("mobilenet-144", 144, 56, 3, 1),
    ("mobilenet-384", 384, 14, 3, 1), ("mobilenet-576", 576, 14, 3, 2), ("mobilenet-960", 960, 7, 3, 1),
    ("efficientnet-240", 240, 28, 5, 1), ("convnext-96", 96, 56, 7, 1),
]  # fmt: skip
"""Channels, size of the map, of the kernel, and stride."""


def layer(row, batch=1):
    name, channels, size, kernel, stride = row
    x, w = (batch, channels, size, size), (channels, 1, kernel, kernel)
    return conv(name, x, w, pads=kernel // 2, strides=stride, groups=channels, bias=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 32])
def test_chosen_for_depthwise_layers(precision, batch):
    target = device(precision)
    for row in LAYERS:
        case = layer(row, batch)
        w = DeviceJob.of(case, DeviceDepthwise(), target).workload
        assert Selector(target).choose_workload(w).lowering.name == "depthwise", row


@needs_cuda_compiler
@pytest.mark.parametrize(
    ("precision", "arch"), [*((precision, "sm_90") for precision in PRECISIONS), ("float16", "sm_80")]
)
def test_compiles_without_spills(precision, arch):
    """One precision on sm_80, whose registers are as many."""
    rows = [(row, batch) for batch in (1, 32) for row in (LAYERS[0], LAYERS[1], LAYERS[5], LAYERS[7])]
    jobs = [job_of(layer(*row), device(precision, arch)) for row in rows]
    codes = [job.code(f"k{i}") for i, job in enumerate(jobs)]
    for row, code, (report,) in zip(rows, codes, reports(codes, arch), strict=True):
        assert report.spill_stores <= 8, row  # a word, where ptxas prefers to keep more blocks resident
        assert report.registers * code.launches[0].block[0] <= 65536


def test_columns_are_long_where_threads_are_many():
    target = device()
    rows = {
        (name, batch): best_column(
            ConvShape.of(job_of(layer((name, *row), batch), target).workload), target
        ).rows
        for name, *row in LAYERS
        for batch in (1, 32)
    }
    assert rows["mobilenet-first", 32] == 8
    assert rows["mobilenet-960", 1] == 1
    assert 1 < rows["mobilenet-144", 1] < 8


@needs_cuda_compiler
def test_loads_are_vectors_and_do_not_branch():
    """A branch around each load would wait for one before it issues the next."""
    source = job_of(layer(LAYERS[0]), device("float16")).code().source
    assert "*(half4*)(x_ptr" in source
    ptx = compile_ptx(source, "sm_90")
    assert "ld.global.nc.v2.u32" in ptx or "ld.global.nc.v4.u16" in ptx


def test_refusals():
    def answer(case, target, constant=None):
        w = DeviceJob.of(case, DeviceDepthwise(), target).workload
        if constant is not None:
            w = Workload(w.op, w.attrs, w.inputs, w.outputs, constant, w.arity)
        return str(DeviceDepthwise().applies(w, target))

    target = device()
    assert "not 8 to 16 channels in 8 groups" in answer(
        conv("more", (1, 8, 6, 6), (16, 1, 3, 3), groups=8), target
    )
    case = conv("any", (1, 8, 6, 6), (8, 1, 3, 3), groups=8)
    assert "must be constant" in answer(case, target, (False, False))
    assert "reads float16, not float32" in str(
        DeviceDepthwise().applies(DeviceJob.of(case, DeviceDepthwise(), target).workload, device("float16"))
    )
