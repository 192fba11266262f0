"""The direct lowering and its CPU schedule against float64, and what its tiles promise."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from case import Case
from cases import cases
from kernels import TARGETS, Job, build, check_all, check_space, target, workload
from layer_cases import CONV_POOL, conv, pooled

from convc.codegen.machine import resolve
from convc.ir import Attrs, Step
from convc.lowering.direct import Direct
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import direct
from convc.tiling.product import channels_seen, direct_tile, even_parts, sum_blocks, sum_columns, taps_seen
from convc.tiling.registers import Channels, Tile, divisors, padded_columns
from convc.types import TensorType
from convc.workload import ConvShape

RELU = Step("relu")

MORE = [
    conv("residual-24", (2, 24, 7, 9), (40, 24, 3, 3), pads=1, bias=True),
    conv("taps-in-padding", (1, 32, 9, 11), (40, 32, 3, 3), pads=(7, 9), dilations=(7, 9), bias=True),
    conv("taps-in-padding-strided", (2, 16, 8, 9), (16, 16, 5, 3), pads=(4, 1), strides=2, dilations=(2, 1)),
    conv("taps-in-padding-1d", (1, 16, 12), (32, 16, 3), pads=11, dilations=11),
    conv("nineteen", (2, 40, 3, 19), (64, 40, 1, 1), bias=True),
    conv("residual-thousand", (2, 24, 3, 13), (1000, 24, 1, 1), bias=True),
    conv("nineteen-depthwise", (1, 24, 5, 19), (24, 1, 3, 3), pads=1, groups=24),
    conv("wide-prime", (1, 8, 3, 149), (16, 8, 3, 3), pads=((1, 1), (0, 0)), strides=(1, 2)),
    conv("wide-prime-unit", (1, 3, 2, 59), (20, 3, 1, 3), pads=((0, 0), (1, 1)), bias=True),
    conv("dilated-2-strided-3", (1, 16, 20, 19), (33, 16, 3, 2), pads=(2, 1), strides=3, dilations=2),
    conv("groups-full-blocks", (1, 64, 6, 7), (96, 32, 3, 3), pads=1, groups=2, bias=True),
    conv("groups-of-24-to-32", (1, 72, 5, 5), (96, 24, 3, 3), pads=1, groups=3),
    conv("groups-of-4", (1, 32, 9, 8), (32, 4, 3, 3), pads=1, groups=8),
    conv("groups-of-5-to-3", (1, 30, 6, 6), (18, 5, 3, 3), pads=1, groups=6, bias=True),
    conv("groups-of-3-to-40", (1, 9, 4, 6), (120, 3, 1, 1), groups=3),
    conv("depthwise-5x5-prime", (1, 24, 9, 61), (24, 1, 5, 5), pads=2, groups=24, bias=True),
    conv("depthwise-1d", (2, 20, 33), (20, 1, 3), pads=((2, 0),), dilations=1, groups=20),
    conv("depthwise-3d", (1, 17, 4, 5, 6), (17, 1, 3, 3, 3), pads=1, strides=(1, 2, 1), groups=17),
    conv("1d-narrow-strided", (1, 1, 200), (16, 1, 9), pads=4, strides=2, bias=True),
    conv("3d-blocks", (1, 32, 4, 6, 14), (48, 32, 2, 3, 3), pads=((0, 1), 1, 1)),
    conv("one-pixel-many", (1, 50, 1, 1), (260, 50, 1, 1), bias=True),
]


POOLED = [
    *(case for case in CONV_POOL if case.attrs.pool not in ((2, 2, 2), (7, 9))),
    pooled("residual", (2, 24, 7, 30), (40, 24, 3, 3), (2, 2), pads=1, bias=True),
    pooled("residual-by-3", (1, 20, 9, 59), (40, 20, 3, 3), (3, 3), pads=1, bias=True),
]
ALL = [*cases("conv"), *MORE, *POOLED]


def epilogue_of(case: Case) -> tuple[Step, ...]:
    """A residual addition and relu where the name asks for it."""
    return (Step("add", Attrs(), len(case.inputs)), RELU) if "residual" in case.id else (RELU,)


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    """The widest machine takes all cases, the two others half of them each."""
    chosen = ALL if machine.lanes == 16 else ALL[machine.lanes // 8 :: 2]
    jobs = [Job.of(case, Direct(), direct, machine, epilogue_of(case)) for case in chosen]
    check_all(jobs)


def test_every_configuration_computes_the_same():
    first = Job.of(conv("space", (2, 24, 4, 12), (64, 24, 3, 3), pads=1), Direct(), direct, TARGETS[0])
    configs = check_space(first)
    assert {(c.blocks_last, c.parts) for c in configs} > {(0, 1), (1, 1), (0, 2), (0, 4)}
    assert len({(c.rows, c.cols, c.blocks) for c in configs}) > 5


def test_every_configuration_pools_the_same():
    first = Job.of(
        pooled("space", (2, 20, 4, 12), (32, 20, 3, 3), (2, 2), pads=1), Direct(), direct, TARGETS[0]
    )
    configs = check_space(first)
    assert all(c.rows % 2 == c.cols % 2 == 0 for c in configs)
    assert {(c.blocks_last, c.parts) for c in configs} >= {(0, 1), (1, 1), (0, 2)}


def test_refuses_windows_that_no_tile_holds():
    def answer(x: tuple[int, ...], w: tuple[int, ...], pool: tuple[int, ...]) -> str | None:
        case = pooled("refused", x, w, pool)
        return Direct().applies(workload(case, Direct(), TARGETS[1]), TARGETS[1])

    assert answer((1, 16, 14, 14), (16, 16, 3, 3), (3, 4)) is None
    assert "windows of 4x4 outputs do not fit 16 registers" in str(
        answer((1, 16, 14, 14), (16, 16, 3, 3), (4, 4))
    )
    assert "pools the last two axes, not (2, 1, 2)" in str(
        answer((1, 3, 5, 6, 7), (16, 3, 2, 3, 3), (2, 1, 2))
    )


def test_threads_keep_their_pixels_unless_weights_outweigh_them():
    """Parts where the map divides, pixels before channels where it does not, channels for few pixels."""
    shapes = {
        ((1, 256, 14, 14), (256, 256, 1, 1)): (0, 2),
        ((1, 64, 13, 13), (64, 64, 1, 1)): (1, 1),
        ((1, 512, 7, 7), (2048, 512, 1, 1)): (0, 1),
    }
    for (x, w), order in shapes.items():
        config = Job.of(conv("order", x, w), Direct(), direct, target(16, 32)).config
        assert (config.blocks_last, config.parts) == order


def test_parts_that_can_be_cut_evenly():
    machine = target(16, 32)
    case = conv("odd", (3, 64, 7, 28), (64, 64, 1, 1))
    shape = ConvShape.of(Job.of(case, Direct(), direct, machine).workload)
    assert even_parts(shape, Tile(1, 14, 2), machine) == []  # 42 runs of a tile would be too many
    assert even_parts(replace(shape, n=1), Tile(1, 14, 2), machine) == [2, 14]
    assert even_parts(replace(shape, n=4), Tile(1, 14, 2), machine) == [2, 4, 28]
    assert even_parts(replace(shape, n=3), Tile(1, 28, 1), machine) == []  # 21 rows


@pytest.mark.parametrize("n", [1, 3, 8])
def test_every_part_is_scheduled(n):
    machine = target(16, 32)
    first = Job.of(conv("parts", (n, 16, 28, 28), (32, 16, 1, 1)), Direct(), direct, machine)
    parts = {c.parts for c in direct.space(first.workload, machine) if c.cols == 14}
    for count in parts:
        first.with_config(direct.DirectConfig(1, 14, 2, 0, count)).function()
    assert len(parts) > 2


def test_pixels_beyond_l3_are_read_in_runs():
    machine = target(16, 32)
    case = conv("runs", (6, 256, 28, 28), (512, 256, 1, 1))
    assert Job.of(case, Direct(), direct, machine).config.parts == 12
    case = conv("within L3", (2, 256, 28, 28), (512, 256, 1, 1))
    assert Job.of(case, Direct(), direct, machine).config.parts == 2


@pytest.mark.parametrize(("columns", "w", "groups", "expected"), [
    (19, (64, 64, 1, 1), 1, 20),  # two tiles of 10 x 2 rather than one of 19 x 1
    (15, (64, 64, 1, 1), 1, 15),  # three of 5 x 4
    (19, (16, 64, 1, 1), 1, 19),  # one block of channels: nothing else fits
    (19, (64, 1, 3, 3), 64, 20),  # taps that share inputs: at most 16 sums
])  # fmt: skip
def test_columns_without_divisors_are_enlarged(columns, w, groups, expected):
    machine = resolve("znver5", 2)
    pads = w[-1] // 2
    case = conv("columns", (1, 64, 19, columns), w, pads=pads, groups=groups)
    shape = ConvShape.of(Job.of(case, Direct(), direct, machine).workload)
    assert sum_columns(shape, machine) == expected


@pytest.mark.parametrize(("columns", "channels", "groups", "expected"), [
    (13, 1000, 1, (13, 64)),  # 13 x 2 rather than 7 x 3 on 14 columns
    (14, 1000, 1, (14, 63)),  # 7 x 3 without any excess
    (14, 80, 1, (14, 5)),  # a sixth block would cost more than tiles of one
    (14, 272, 1, (14, 18)),
    (14, 272, 17, (14, 17)),  # blocks of different groups read different channels
])  # fmt: skip
def test_blocks_without_divisors_are_enlarged(columns, channels, groups, expected):
    machine = resolve("znver5", 2)
    case = conv("blocks", (1, 272, 13, columns), (channels, 272 // groups, 1, 1), groups=groups)
    shape = ConvShape.of(Job.of(case, Direct(), direct, machine).workload)
    assert (sum_columns(shape, machine), sum_blocks(shape, machine)) == expected


def test_taps_that_see_only_padding_are_left_out():
    """Of nine taps with dilation 18 on 33 x 33, rows see 63 of 99, tiles of 11 columns 7 of 9."""
    machine = target(16, 32)

    def seen(dilation: int, tile: Tile) -> float:
        case = conv("dilated", (1, 64, 33, 33), (64, 64, 3, 3), pads=dilation, dilations=dilation)
        return taps_seen(ConvShape.of(Job.of(case, Direct(), direct, machine).workload), tile, machine)

    assert seen(18, Tile(1, 11, 2)) == pytest.approx(63 / 99 * 7 / 9)
    assert seen(18, Tile(33, 33, 1)) == 1.0
    assert seen(1, Tile(1, 11, 2)) == 1.0  # 97 of 99 rows: not worth asking


def test_sums_stay_in_registers():
    machine = target(16, 32, "znver4")
    shapes = [
        ((1, 64, 28, 28), (64, 64, 3, 3), 1), ((1, 64, 14, 14), (64, 64, 3, 3), 1),
        ((1, 64, 7, 7), (64, 64, 3, 3), 1), ((1, 3, 56, 56), (64, 3, 7, 7), 2),
    ]  # fmt: skip
    for x, w, stride in shapes:
        case = conv("registers", x, w, pads=w[-1] // 2, strides=stride, bias=True)
        job = Job.of(case, Direct(), direct, machine, (RELU,))
        tile = direct_tile(ConvShape.of(job.workload), machine)
        assert tile.sums >= 14
        code = build([job]).inspect_source("asm").splitlines()
        assert sum("vfmadd" in line and "zmm" in line for line in code) >= tile.sums
        spills = [line for line in code if re.search(r"%zmm\d+, -?\d*\(%r[sb]p", line)]
        assert len(spills) < tile.sums // 4, f"{tile} spills {len(spills)} registers"


def test_refuses_more_sums_than_registers():
    job = Job.of(conv("tile", (1, 16, 28, 28), (64, 16, 3, 3)), Direct(), direct, TARGETS[1])
    too_many = replace(job.config, rows=1, cols=13, blocks=2)
    with pytest.raises(NotApplicable, match="16 vector registers"):
        job.with_config(too_many).function()


def test_refuses_what_it_cannot_pack():
    job = Job.of(conv("refused", (1, 16, 5, 5), (16, 16, 3, 3), bias=True), Direct(), direct, TARGETS[0])
    w = job.workload
    assert Direct().applies(w, job.target) is None
    assert "weights" in str(Direct().applies(replace(w, constant=(False, False, True)), job.target))
    assert "bias" in str(Direct().applies(replace(w, constant=(False, True, False)), job.target))
    double = replace(w, outputs=(TensorType((1, 16, 3, 3), "float64"),))
    assert "float64" in str(Direct().applies(double, job.target))


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_columns_are_padded_little_and_only_when_needed(machine):
    for columns in range(1, 300):
        padded = padded_columns(columns, machine)
        best = max(d for d in divisors(padded) if Tile(1, d, 1).fits(machine))
        assert columns <= padded <= columns * 1.12
        assert best >= min(6, columns)
        assert padded == columns or max(d for d in divisors(columns) if d <= 13) < 6


def test_channels_of_groups():
    def channels(ic: int, oc: int, groups: int) -> Channels:
        shape = ConvShape(1, ic, oc, (1,), (1,), (1,), (1,), (1,), ((0, 0),), groups)
        return Channels.of(shape, 16)

    assert (channels(48, 64, 1).steps, channels(48, 64, 1).inner) == (3, 16)
    assert (channels(24, 64, 1).steps, channels(24, 64, 1).inner) == (3, 8)
    assert (channels(10, 64, 1).steps, channels(10, 64, 1).inner) == (1, 10)
    narrow = channels(32, 32, 8)  # 4 groups of 4 in each vector
    assert (narrow.steps, narrow.inner, narrow.start(1), narrow.sharing) == (1, 16, 16, 1)
    wide = channels(64, 128, 2)
    assert (wide.steps, wide.inner, wide.start(3), wide.start(4), wide.sharing) == (2, 16, 0, 32, 4)


def test_price_follows_the_work():
    def price(x: tuple[int, ...], w: tuple[int, ...], **attrs: int) -> float:
        job = Job.of(conv("priced", x, w, **attrs), Direct(), direct, TARGETS[0])
        return Direct().cost(job.workload, job.target)

    one = price((1, 64, 56, 56), (64, 64, 3, 3), pads=1)
    flops = 2 * 64 * 64 * 9 * 56 * 56
    assert flops / TARGETS[0].peak <= one <= 1.2 * flops / TARGETS[0].peak
    assert 3.7 * one < price((4, 64, 56, 56), (64, 64, 3, 3), pads=1) < 4.1 * one
    assert price((1, 64, 56, 56), (64, 4, 3, 3), pads=1, groups=16) < 0.5 * one


def test_weights_that_l2_cannot_keep_cost_more():
    """512 channels at 7x7: panels of 2 x 9 x 512 vectors, 590 KB, pass seven rows of pixels each."""
    machine = target(16, 32)
    roomy = replace(machine, l2=8 << 20)

    def ratio(w: tuple[int, ...]) -> float:
        job = Job.of(conv("panels", (1, 512, 7, 7), w, pads=w[-1] // 2), Direct(), direct, machine)
        return Direct().cost(job.workload, machine) / Direct().cost(job.workload, roomy)

    assert 1.03 < ratio((512, 512, 3, 3)) < 1.2
    assert ratio((512, 512, 1, 1)) == 1


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("layer", [(512, 512, 7, 3), (512, 2048, 7, 1), (64, 64, 56, 3), (512, 512, 2, 3)])
def test_price_of_memory(layer, threads):
    """It falls as memory gets faster, and weights never cost more than to fetch them before anything else."""
    ic, oc, size, kernel = layer
    case = conv("layer", (1, ic, size, size), (oc, ic, kernel, kernel), pads=kernel // 2)
    prices = []
    for bandwidth in (1e9, 5e9, 20e9, 50e9, 200e9, 1e15):
        machine = replace(resolve("znver5", threads=threads), memory_bandwidth=bandwidth)
        prices.append(Direct().cost(workload(case, Direct(), machine), machine))
    assert prices == sorted(prices, reverse=True)
    weights = 4 * oc * ic * kernel**2
    assert prices[2] <= prices[-1] + weights / 20e9 + 4 * (ic + oc) * size**2 / 20e9


OTHER_GROUPS = [
    conv("shufflenet-4x68", (1, 272, 14, 14), (272, 68, 1, 1), groups=4, bias=True),
    conv("3x20-to-28-batch2", (2, 60, 7, 5), (84, 20, 1, 1), groups=3),
    conv("5x12-to-36-3x3", (1, 60, 6, 9), (180, 12, 3, 3), groups=5, pads=1, bias=True),
    conv("3x20-dilated-beyond-the-map", (1, 60, 12, 12), (84, 20, 3, 3), groups=3, pads=9, dilations=9),
    conv("2x17-rows", (1, 34, 11), (34, 17, 3), groups=2, pads=1),
]


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_channels_of_other_groups_are_left_out(machine):
    jobs = [Job.of(case, Direct(), direct, machine, (Step("relu"),)) for case in OTHER_GROUPS]
    check_all(jobs)
    left_out = [job for job in jobs if channels_seen(ConvShape.of(job.workload), machine) < 1]
    assert len(left_out) >= (3 if machine.lanes > 4 else 1)
    assert all(re.search(r"\bif\b", str(job.function())) for job in left_out)


def test_price_counts_the_channels_that_are_left():
    machine = resolve("znver5", threads=2)
    misaligned, dense = (
        Direct().cost(workload(case, Direct(), machine), machine)
        for case in (OTHER_GROUPS[0], conv("dense", (1, 136, 14, 14), (272, 136, 1, 1), bias=True))
    )
    assert 0.5 * dense < misaligned < 0.75 * dense  # spans of 136 channels, of which 0.59 are left
