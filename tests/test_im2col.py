"""The im2col lowering and its CPU schedule against float64, with and without patches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import cases
from kernels import TARGETS, Job, check_all, check_space
from layer_cases import conv

from convc.ir import Attrs, Step
from convc.lowering.direct import Direct
from convc.lowering.im2col import Im2col
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import im2col
from convc.tiling.product import gathers
from convc.tiling.registers import flatten, unflatten
from convc.workload import ConvShape, Workload

MORE = [
    conv("flat-56", (1, 32, 8, 14), (48, 32, 1, 1), bias=True),
    conv("flat-batch3-24", (3, 24, 7, 7), (40, 24, 1, 1), bias=True),
    conv("flat-3d", (2, 16, 3, 4, 5), (16, 16, 1, 1, 1)),
    conv("flat-1d", (1, 16, 40), (16, 16, 1)),
    conv("prime-pixels", (1, 32, 53, 1), (32, 32, 1, 1), bias=True),
    conv("first-layer", (1, 3, 45, 47), (20, 3, 7, 7), pads=3, strides=2, bias=True),
    conv("groups-in-blocks", (1, 64, 5, 6), (32, 32, 3, 3), pads=1, groups=2, bias=True),
    conv("dilated-asymmetric", (2, 20, 12, 9), (33, 20, 3, 2), pads=((2, 0), (0, 1)), dilations=2),
]


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    jobs = []
    for case in [*cases("conv"), *MORE]:
        steps = (Step("add", Attrs(), len(case.inputs)), Step("relu"))
        job = Job.of(case, Im2col(), im2col, machine, steps)
        if Im2col().applies(job.workload, machine) is None:
            jobs.append(job)
    assert len(jobs) > 24
    check_all(jobs)


@pytest.mark.parametrize("kernel", [1, 3])
def test_every_configuration_computes_the_same(kernel):
    case = conv("space", (1, 32, 4, 14), (64, 32, kernel, kernel), pads=kernel // 2)
    first = Job.of(case, Im2col(), im2col, TARGETS[0])
    configs = check_space(first)
    assert len(configs) > 6


def shape(w: Workload) -> ConvShape:
    """The workload in letters."""
    return ConvShape.of(w)


def test_a_1x1_convolution_needs_neither_patches_nor_halo():
    flat = Job.of(conv("1x1", (1, 32, 14, 14), (32, 32, 1, 1)), Im2col(), im2col, TARGETS[0])
    assert not gathers(shape(flat.workload), flat.target)
    assert Im2col().halo(flat.workload, flat.target) == ()
    body = Job.of(conv("3x3", (1, 32, 14, 14), (32, 32, 3, 3), pads=1), Im2col(), im2col, TARGETS[0])
    assert gathers(shape(body.workload), body.target)
    assert Im2col().halo(body.workload, body.target) == ((1, 1), (1, 1))


def test_prices_against_direct():
    """As measured: never dearer than direct on 1x1, cheaper where rows fill few registers, dearer on 3x3."""

    def prices(x: tuple[int, ...], w: tuple[int, ...], pads: int = 0) -> tuple[float, float]:
        job = Job.of(conv("priced", x, w, pads=pads), Im2col(), im2col, TARGETS[0])
        return Im2col().cost(job.workload, job.target), Direct().cost(job.workload, job.target)

    for channels, size in ((256, 56), (512, 28), (1024, 14), (2048, 7)):
        flat, direct = prices((1, channels, size, size), (channels // 4, channels, 1, 1))
        assert flat <= direct
    flat, direct = prices((1, 64, 5, 10), (16, 64, 1, 1))
    assert flat < direct
    patches, direct = prices((1, 64, 56, 56), (64, 64, 3, 3), 1)
    assert direct < patches


def test_refusals():
    narrow = Job.of(conv("groups", (1, 32, 5, 5), (32, 4, 3, 3), groups=8), Im2col(), im2col, TARGETS[0])
    reason = Im2col().applies(narrow.workload, narrow.target)
    assert reason is not None
    assert "8 groups" in reason
    assert "blocks of 16" in reason
    dense = Job.of(conv("dense", (1, 32, 5, 5), (32, 32, 3, 3)), Im2col(), im2col, TARGETS[0])
    assert "constant" in str(Im2col().applies(replace(dense.workload, constant=(False, False)), dense.target))
    with pytest.raises(NotApplicable, match="32 vector registers"):
        dense.with_config(replace(dense.config, pixels=9, blocks=4)).function()


def test_flatten_and_unflatten_are_inverse():
    extents = (3, 4, 5)
    for position in range(60):
        assert flatten(unflatten(position, extents), extents) == position
    assert unflatten(0, ()) == []
