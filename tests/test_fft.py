"""FFT convolution and its CPU schedule: transforms, kernels against float64, tiles and prices."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from case import Case
from cases import cases
from kernels import TARGETS, Job, build, check_all, check_space, draw, expected, run, target, workload
from layer_cases import conv

from convc.ir import Attrs, Step
from convc.lowering.direct import Direct
from convc.lowering.fft import Fft, pack_weights, weights_shape
from convc.lowering.registry import LOWERINGS
from convc.schedules.base import NotApplicable
from convc.schedules.cpu import fft
from convc.target import Target
from convc.tiling import dft
from convc.tiling.fft import WRAPPED_SIZES, Tiling, as_pair, candidates, choose, seconds, spans
from convc.types import TensorType
from convc.workload import ConvShape, Workload

RELU = Step("relu")

LARGE = [
    conv("fft-5x5", (1, 3, 13, 17), (5, 3, 5, 5), pads=2, bias=True),
    conv("fft-rectangular-batch3", (3, 1, 9, 31), (17, 1, 3, 7), pads=((0, 1), (5, 2)), bias=True),
    conv("fft-11x11-residual", (2, 17, 20, 11), (33, 17, 11, 11), pads=5, bias=True),
    conv("fft-larger-than-map", (1, 20, 4, 5), (3, 20, 9, 9), pads=((4, 4), (6, 3))),
    conv("fft-one-pixel", (1, 16, 1, 1), (16, 16, 7, 7), pads=3, bias=True),
    conv("fft-1d", (3, 17, 50), (3, 17, 15), pads=((7, 3),), bias=True),
    conv("fft-column", (1, 3, 30, 9), (20, 3, 9, 1), pads=((4, 4), (0, 0))),
    conv("fft-dilated", (1, 3, 30, 29), (4, 3, 3, 3), pads=((4, 4), (3, 1)), dilations=(4, 3)),
    conv("fft-31x31", (1, 2, 33, 33), (2, 2, 31, 31), pads=15),
    conv("fft-depthwise-13x7", (2, 19, 14, 30), (19, 1, 13, 7), pads=((6, 6), (3, 3)), groups=19, bias=True),
    conv("fft-depthwise-1d", (2, 16, 100), (16, 1, 13), pads=6, groups=16),
    conv(
        "fft-depthwise-kernel-twice-the-map", (1, 16, 6, 7), (16, 1, 13, 15), pads=((6, 7), (9, 4)), groups=16
    ),
    conv("fft-pads-beyond-kernel", (2, 3, 9, 8), (5, 3, 5, 4), pads=((6, 0), (1, 5)), bias=True),
]


def plain(case: Case, machine: Target = TARGETS[0]) -> Workload:
    """The work of a case as it is stored for some other lowering."""
    return workload(case, Direct(), machine)


def applicable() -> list[Case]:
    """The convolutions of the case table that the lowering takes, and those above."""
    return [c for c in cases("conv") if Fft().applies(plain(c), TARGETS[0]) is None] + LARGE


def job_of(case: Case, machine=TARGETS[0]) -> Job:
    epilogue = (Step("add", Attrs(), len(case.inputs)), RELU) if "residual" in case.id else (RELU,)
    return Job.of(case, Fft(), fft, machine, epilogue)


def assert_within_bound(job: Job, arrays, result) -> None:
    """Compare with float64; the error allowed is the one that the lowering predicts for these weights."""
    reference, _ = expected(job.workload, arrays)
    plain, _ = expected(replace(job.workload, epilogue=()), arrays)
    bound = Fft().error_bound(job.workload, [None, *arrays[1 : job.workload.arity]])
    assert bound < 2e-6
    error = np.abs(result - reference)
    worst = np.unravel_index(np.argmax(error), error.shape)
    assert error[worst] <= bound * np.abs(plain).max(), (
        f"{job.workload}, {job.target.lanes} lanes: {result[worst]} at {worst}, not {reference[worst]}"
    )


def check(jobs: list[Job]) -> None:
    check_all(jobs, assert_within_bound)


# ---- transforms


def interleaved(z: np.ndarray) -> np.ndarray:
    """Complex (n, ...) as real (2 n, ...), real and imaginary parts in turns."""
    return np.stack([z.real, z.imag], 1).reshape(-1, *z.shape[1:])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 9, 15, 22, 25, *WRAPPED_SIZES])
def test_programs_transform_as_numpy_does(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 4))
    z = x + 1j * rng.standard_normal((n, 4))
    wanted = (n + 1) // 2
    close = {"rtol": 0, "atol": 4 * np.finfo(float).eps * n * (1 + math.log2(n))}
    real = dft.real_forward(n).apply(x)
    np.testing.assert_allclose(real, interleaved(np.fft.rfft(x, axis=0)), **close)
    np.testing.assert_allclose(
        dft.complex_forward(n).apply(interleaved(z)), interleaved(np.fft.fft(z, axis=0)), **close
    )
    np.testing.assert_allclose(dft.real_backward(n, wanted).apply(real) / n, x[:wanted], **close)
    back = dft.complex_backward(n, wanted).apply(interleaved(np.fft.fft(z, axis=0))) / n
    np.testing.assert_allclose(back, interleaved(z[:wanted]), **close)
    zeros = np.where(np.arange(n)[:, None] < wanted, 1, 0)
    np.testing.assert_allclose(
        dft.real_forward(n, wanted).apply(x[:wanted]), interleaved(np.fft.rfft(x * zeros, axis=0)), **close
    )
    np.testing.assert_allclose(
        dft.complex_forward(n, wanted).apply(interleaved(z[:wanted])),
        interleaved(np.fft.fft(z * zeros, axis=0)),
        **close,
    )


@pytest.mark.parametrize("n", [8, 16, 32, 64])
def test_programs_take_few_operations(n):
    """Split radix takes 4 n log2 n - 6 n + 8 (Sorensen et al. 1986); radix 4 must be near."""
    split_radix = 4 * n * math.log2(n) - 6 * n + 8
    assert dft.complex_forward(n).arithmetic <= 1.1 * split_radix
    assert dft.real_forward(n).arithmetic <= 0.55 * dft.complex_forward(n).arithmetic
    assert dft.complex_backward(n, n // 2).arithmetic < dft.complex_backward(n, n).arithmetic
    assert dft.real_backward(n, n // 2).arithmetic < dft.real_backward(n, n).arithmetic


def test_programs_compute_nothing_twice_and_nothing_in_vain():
    for program in (dft.real_forward(24), dft.complex_backward(16, 10), dft.real_backward(20, 14)):
        assert len(set(program.ops)) == len(program.ops)
        assert all(uses > 0 for uses in program.uses)


# ---- kernels


@pytest.mark.parametrize("machine", TARGETS, ids=lambda t: f"{t.lanes}-lanes")
def test_equals_float64(machine):
    chosen = applicable() if machine.lanes == 16 else applicable()[machine.lanes // 8 :: 2]
    check([job_of(case, machine) for case in chosen])


def planned(monkeypatch: pytest.MonkeyPatch, job: Job, tiling: Tiling) -> Job:
    """The job with a tiling of the test's own."""
    for module in ("convc.lowering.fft", "convc.schedules.cpu.fft"):
        monkeypatch.setattr(f"{module}.choose", lambda s, target: tiling)
    return replace(job, config=fft.default(job.workload, job.target))


PLANS = [(products, rows, blocks) for products in (3, 4) for rows, blocks in ((5, 1), (5, 2), (5, 4), (4, 3))]


@pytest.mark.parametrize("groups", [1, 20])
@pytest.mark.parametrize("pads", [((0, 2), (1, 3)), ((4, 1), (7, 0)), ((9, 9), (2, 12))])
def test_one_tile_wraps_around_the_map(monkeypatch, pads, groups):
    """The least tile that may hold an axis, however the padding lies; both axes, or one of them."""
    job = job_of(conv("wraps", (1, 20, 9, 12), (20, 20 // groups, 5, 8), pads=pads, groups=groups))
    s = ConvShape.of(job.workload)
    wrapping = [t for t in candidates(s, job.target) if any(t.wrapped)]
    assert {tuple(map(bool, t.wrapped)) for t in wrapping} == {(True, True), (True, False), (False, True)}
    smallest = {t.wrapped: t for t in sorted(wrapping, key=lambda t: math.prod(t.tile), reverse=True)}
    for t in smallest.values():
        check([planned(monkeypatch, job, t)])


@pytest.mark.parametrize(("products", "rows", "blocks"), PLANS)
def test_every_way_of_grouping_tiles(monkeypatch, products, rows, blocks):
    """16 tiles in one group or several, even or ragged, by three or four products."""
    job = job_of(conv("plans", (2, 18, 18, 10), (33, 18, 4, 3), pads=1, bias=True))
    tiling = Tiling((8, 8), (5, 6), (4, 2), 2, rows * blocks, rows, products)
    job = planned(monkeypatch, job, tiling)
    check([job])


@pytest.mark.parametrize("tile", [(6, 10), (12, 14), (18, 20), (28, 30), (36, 40), (48, 4)])
def test_tiles_of_every_size(monkeypatch, tile):
    kernel = (3, min(3, tile[1] - 1))
    job = job_of(conv("tiles", (1, 2, 23, 25), (3, 2, *kernel), pads=1))
    out = tuple(t - r + 1 for t, r in zip(tile, kernel, strict=True))
    count = tuple(-(-o // m) for o, m in zip(ConvShape.of(job.workload).output, out, strict=True))
    check([planned(monkeypatch, job, Tiling(tile, out, count, 1, math.prod(count), 1, 4))])


def test_every_configuration_computes_the_same():
    first = job_of(conv("space", (1, 20, 40, 40), (64, 20, 5, 5), pads=2))
    configs = check_space(first, assert_within_bound)
    assert len({c.vectors for c in configs}) > 1


def test_refuses_register_tiles_that_leave_a_rest():
    job = job_of(conv("rest", (1, 16, 40, 40), (48, 16, 5, 5), pads=2))
    with pytest.raises(NotApplicable, match="does not divide"):
        job.with_config(replace(job.config, vectors=2)).function()


def test_product_keeps_its_sums_in_registers():
    machine = target(16, 32, "znver4")
    job = job_of(conv("registers", (1, 64, 56, 56), (64, 64, 5, 5), pads=2), machine)
    tiling = choose(ConvShape.of(job.workload), machine)
    assembly = build([job]).inspect_source("asm").splitlines()
    broadcast = [line for line in assembly if "vf" in line and "{1to16}" in line]
    assert len(broadcast) + sum("vbroadcastss" in line for line in assembly) >= tiling.rows
    sums = tiling.rows * (1 if tiling.products == 3 else 2)
    assert sum("vfmadd" in line and "zmm" in line for line in assembly) >= sums


# ---- plans and prices


def shape(x: tuple[int, ...], w: tuple[int, ...], **attrs: int) -> ConvShape:
    return ConvShape.of(plain(conv("shape", x, w, **attrs)))


SHAPES = [
    shape((1, 64, 56, 56), (64, 64, 11, 11), pads=5),
    shape((3, 3, 17, 40), (20, 3, 3, 9), pads=1),
    shape((1, 8, 300), (8, 8, 21), pads=10),
    shape((1, 32, 40, 40), (32, 1, 31, 31), pads=15, groups=32),
]


@pytest.mark.parametrize("s", SHAPES, ids=str)
def test_tilings_cover_the_output_and_fit_registers(s):
    for machine in TARGETS:
        for t in candidates(s, machine):
            for size, m, r, wrapped in zip(t.tile, t.out, as_pair(spans(s)), t.wrapped, strict=True):
                assert wrapped or size == m + r - 1
            assert all(
                n * m >= o > (n - 1) * m for n, m, o in zip(t.count, t.out, as_pair(s.output), strict=True)
            )
            assert t.group % t.rows == 0
            assert t.groups * t.group >= t.tiles > (t.groups - 1) * t.group
            sums, weights = (1, 1) if t.products == 3 else (2, 2)
            assert sums * t.rows + weights <= machine.registers
        assert seconds(s, choose(s, machine), machine) == min(
            seconds(s, t, machine) for t in candidates(s, machine)
        )


def test_halo_holds_every_tile():
    for case in LARGE:
        job = job_of(case)
        s = ConvShape.of(job.workload)
        t = choose(s, job.target)
        for (before, after), size, axis in zip(
            Fft().halo(job.workload, job.target), s.input, range(-len(s.input), 0), strict=True
        ):
            if t.wrapped[axis]:
                assert (before, after, t.inputs[axis], t.count[axis]) == (0, 0, size, 1)
                continue
            assert before == s.pads[axis][0]
            assert after >= s.pads[axis][1]
            assert before + size + after == (t.count[axis] - 1) * t.out[axis] + t.tile[axis]


@pytest.mark.parametrize("products", [3, 4])
def test_weights_are_packed_in_pieces_as_at_once(monkeypatch, products):
    s = shape((1, 20, 20, 20), (70, 20, 5, 5))
    t = Tiling((10, 8), (6, 4), (3, 4), 1, 6, 6, products)
    weights = np.random.default_rng(0).standard_normal((70, 20, 5, 5)).astype(np.float32)
    whole = pack_weights(s, t, 16, weights)
    monkeypatch.setattr("convc.lowering.fft.PIECE", 17 * 20 * 80)  # 32 channels, two blocks, at a time
    np.testing.assert_array_equal(pack_weights(s, t, 16, weights), whole)
    assert whole.shape == weights_shape(s, t, 16)
    channels = whole.transpose(0, 1, 3, 2, 4) if products == 3 else whole.transpose(0, 3, 2, 1, 4)
    assert channels[:, :, :20].any(axis=(0, 1, 2, 4)).all()
    assert not channels[:, :, 20:].any()
    assert not channels[..., 4, 6:].any()


def test_refusals_say_why():
    def reason(x: tuple[int, ...], w: tuple[int, ...], **attrs: int) -> str:
        return str(Fft().applies(plain(conv("refused", x, w, **attrs)), TARGETS[0]))

    assert "4 times too much" in reason((1, 16, 32, 32), (16, 16, 7, 7), strides=2)
    assert "not 3" in reason((1, 4, 8, 8, 8), (4, 4, 5, 5, 5))
    assert "4 groups of 4" in reason((1, 16, 32, 32), (16, 4, 7, 7), groups=4)
    assert "one tap" in reason((1, 16, 32, 32), (16, 16, 1, 1))
    assert "spans 37 pixels" in reason((1, 16, 64, 64), (16, 16, 7, 7), dilations=6)
    job = job_of(LARGE[0])
    w = job.workload
    assert Fft().applies(w, job.target) is None
    assert "constants" in str(Fft().applies(replace(w, constant=(False, True, False)), job.target))
    double = replace(w, inputs=(TensorType((1, 3, 13, 17), "float64"), *w.inputs[1:]))
    assert "float64" in str(Fft().applies(double, job.target))


def test_error_is_predicted_from_the_weights():
    job = job_of(conv("error", (1, 32, 30, 30), (32, 32, 9, 9), pads=4))
    arrays = draw(job.workload.inputs)
    (result,) = run([job], [arrays])
    reference, _ = expected(job.workload, arrays)
    measured = np.abs(result - reference).max() / np.abs(reference).max()
    predicted = Fft().error_bound(job.workload, [None, *arrays[1:]])
    assert measured <= predicted <= 10 * measured
    assert predicted == Fft().error_bound(job.workload, [None, *arrays[1:]])
    # A kernel whose taps nearly cancel loses more relative to what is left of its output.
    smooth = np.ones_like(arrays[1]) * 100
    smooth[..., 0, 0] -= 100 * 81
    assert Fft().error_bound(job.workload, [None, smooth]) > 0


BEST = [
    conv("11x11", (1, 64, 56, 56), (64, 64, 11, 11), pads=5),
    conv("7x7", (1, 64, 112, 112), (64, 64, 7, 7), pads=3),
    conv("9x9-super-resolution", (1, 64, 128, 128), (32, 64, 9, 9), pads=4),
    conv("depthwise-31x31", (1, 256, 28, 28), (256, 1, 31, 31), pads=15, groups=256),  # RepLKNet, CVPR 2022
]


@pytest.mark.parametrize("case", BEST, ids=str)
def test_is_the_cheapest_for_large_kernels(case):
    machine = replace(TARGETS[0], mcpu="znver4", flops=113e9)
    prices = {}
    for lowering in LOWERINGS:
        w = plain(case, machine)
        if "conv" in lowering.ops and lowering.applies(w, machine) is None:
            layouts = lowering.layouts(w, machine)
            prices[lowering.name] = lowering.cost(w.stored_as(layouts.inputs, layouts.outputs), machine)
    assert min(prices, key=prices.__getitem__) == "fft", prices
    assert 3 * prices["fft"] < prices["direct"]
