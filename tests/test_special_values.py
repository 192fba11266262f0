"""NaN, infinities, extremes and denormals through elementwise operators, reductions, pools and quotients."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from case import Case, f32, of
from cases import cases
from device_batch import emulate_all
from device_generic_jobs import LOWERING as DEVICE_GENERIC
from device_generic_jobs import DeviceGenericJob
from device_jobs import device
from generic_jobs import EPS, Job, build, stored
from kernels import TARGETS
from layer_cases import pool

from convc.ir import Attrs, opdef
from convc.ops.binary import ModAttrs
from convc.ops.elementwise import elementwise_names
from convc.ops.reduce import ArgAttrs, ReduceAttrs, SoftmaxAttrs
from convc.ops.unary import CastAttrs
from convc.types import Array

NARROW = TARGETS[1]
TINY = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)
MAGNITUDES = (
    0, TINY / 64, TINY, 1e-30, 1e-8, 0.5, 1, 2.5, 3, 6, 20, 88, 88.8, 89, 103, 105, 120,
    1e4, 1e9, 1e19, 1e30, 1e38, LARGEST, np.inf,
)  # fmt: skip
SPECIAL = np.array([s * m for m in MAGNITUDES for s in (1, -1)] + [np.nan], np.float32)
BELOW = 128 * TINY
"""What a result may be off beside rounding: exp flushes below TINY, and swish multiplies that by x."""
ROUNDING = 16 * EPS
CANCELS = {"gelu": 6 * EPS}
"""x / 2 (1 + erf) is off by the rounding of the sum, which is 0 below x = -6."""

FLOAT_UNARY = sorted({*elementwise_names(1)} - {"cast", "not", "identity", "dropout"})
FLOAT_BINARY = sorted({*elementwise_names(2)} - {"and", "or", "xor"})


def unary_cases() -> Iterator[tuple[Case, list[Array]]]:
    """Each operator under all attributes of the case table."""
    for op in FLOAT_UNARY:
        for attrs in dict.fromkeys(c.attrs for c in cases(op) if c.inputs[0] == f32(*c.inputs[0].shape)):
            yield Case(f"{op}-special", op, attrs, (f32(len(SPECIAL)),)), [SPECIAL]
    yield Case("cast-special", "cast", CastAttrs("bool"), (f32(len(SPECIAL)),)), [SPECIAL]


def binary_cases(ops: Sequence[str] = FLOAT_BINARY) -> Iterator[tuple[Case, list[Array]]]:
    """All pairs of special values."""
    a, b = (grid.reshape(-1) for grid in np.meshgrid(SPECIAL, SPECIAL))
    for op in ops:
        yield (
            Case(f"{op}-special", op, ModAttrs(True) if op == "mod" else Attrs(), (f32(a.size),) * 2),
            [a, b],
        )


def rows(count: int, length: int) -> Array:
    """Rows of normal numbers, of which up to two are special; the first ones hold one extreme throughout."""
    rng = np.random.default_rng(length)
    x = rng.standard_normal((count, length)).astype(np.float32)
    for row in x:
        row[rng.integers(length, size=2)] = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1e30], 2)
    x[:5] = np.array([[-np.inf], [np.inf], [np.nan], [-LARGEST], [LARGEST]])
    return x


def extreme_cases(lengths: Sequence[int] = (3, 67)) -> Iterator[tuple[Case, list[Array]]]:
    """Reductions along rows and columns, positions, softmax, and pools of small, dilated and long windows."""
    for length in lengths:
        x = rows(20, length)
        for op, axis in itertools.product(("reduce_max", "reduce_min", "reduce_log_sum_exp"), (0, 1)):
            array = x if axis else np.ascontiguousarray(x.T)
            yield Case(f"{op}-{axis}", op, ReduceAttrs((axis,)), (f32(*array.shape),)), [array]
        for op, last in itertools.product(("argmax", "argmin"), (False, True)):
            yield Case(f"{op}-{last}", op, ArgAttrs(1, True, last), (f32(*x.shape),)), [x]
        yield Case("softmax", "softmax", SoftmaxAttrs(1), (f32(*x.shape),)), [x]
    plane, line = rows(8, 81).reshape(1, 8, 9, 9), rows(8, 40).reshape(1, 8, 1, 40)
    for kernel, attrs in [((3, 3), {"strides": 2}), ((3, 2), {"dilations": 2}), ((7, 7), {}), ((1, 1), {})]:
        pads = tuple((k // 2, 0) for k in kernel)
        yield pool("max_pool", str(kernel), plane.shape, kernel, pads=pads, **attrs), [plane]
    yield pool("max_pool", "line", line.shape, (1, 35), pads=((0, 0), (4, 4))), [line]


def reference(case: Case, arrays: Sequence[Array]) -> Array:
    """In float64, rounded to the result's dtype."""
    with np.errstate(all="ignore"):
        (wide,) = opdef(case.op).reference(
            case.attrs, [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
        )
        return np.asarray(wide, np.float32) if wide.dtype.kind == "f" else wide


def assert_equal(case: Case, arrays: Sequence[Array], found: Array) -> None:
    """Equal up to rounding, NaN and infinities exactly."""
    expected = reference(case, arrays)
    below = CANCELS.get(case.op, BELOW)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=below, err_msg=f"{case} {case.attrs}")


def check(rows: Sequence[tuple[Case, list[Array]]], *, blocked: bool = False) -> None:
    """One module of all kernels against float64."""
    jobs = [
        (case, Job(w, NARROW, tuple(arrays)))
        for case, arrays in rows
        if (w := stored(case, NARROW, blocked=blocked)) is not None
    ]
    assert jobs
    for (case, job), kernel in zip(jobs, build([job.function() for _, job in jobs]), strict=True):
        arguments = job.arguments()
        kernel(*arguments)
        kind = job.w.outputs[0]
        assert_equal(case, job.arrays, kind.layout.unpack(arguments[-1].numpy(), kind.shape))


def test_elementwise_operators_on_one_tensor():
    check([*unary_cases()])


def test_elementwise_operators_on_pairs():
    check([*binary_cases()])


def test_extremes_keep_nan_and_infinities():
    check([*extreme_cases()])


def test_pools_of_channel_blocks_keep_nan():
    check([row for row in extreme_cases(()) if row[0].op == "max_pool"], blocked=True)


def test_on_a_gpu(tmp_path):
    """The CUDA source of what is no plain arithmetic; of reductions, those that threads share."""
    chosen = ("mish", "gelu", "softplus", "sigmoid", "relu", "clip", "cast", "tanh", "elu")
    pairs = [row for row in unary_cases() if row[0].op in chosen]
    pairs += [*binary_cases(("max", "min")), *extreme_cases((40,))]
    jobs = []
    for case, arrays in pairs:
        w = stored(case, device(), blocked=False, lowering=DEVICE_GENERIC)
        assert w is not None
        jobs.append(DeviceGenericJob(w, device(), tuple(arrays)))
    arguments = [job.contents() for job in jobs]
    emulate_all([job.code(f"k{i}") for i, job in enumerate(jobs)], arguments, tmp_path)
    for (case, arrays), results in zip(pairs, arguments, strict=True):
        assert_equal(case, arrays, results[-1])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integer_division_never_traps(dtype):
    """By 0 both quotient and remainder are 0; the least integer has no opposite, and divided by -1 stays."""
    info = np.iinfo(dtype)
    values = [v for v in (0, 1, -1, 2, -3, 7, 100, info.min, info.min + 1, info.max) if info.min <= v]
    a, b = (np.array(grid, dtype) for grid in zip(*itertools.product(values, values), strict=True))
    kinds = (of(dtype, a.size),) * 2
    found = [Case("quotient", "div", Attrs(), kinds)]
    found += [Case(f"remainder-{fmod}", "mod", ModAttrs(fmod), kinds) for fmod in (False, True)]
    check([(case, [a, b]) for case in found])
    quotient, remainder, _ = (reference(case, [a, b]) for case in found)
    assert not quotient[b == 0].any()
    assert not remainder[b == 0].any()
    if info.min:
        assert (quotient[(a == info.min) & (b == -1)] == info.min).all()


@pytest.mark.parametrize("axes", [(1,), (0,), (0, 1)])
def test_extremes_of_truth_values(axes):
    x = np.random.default_rng(0).integers(0, 2, (6, 35)).astype(bool)
    kinds = (of("bool", *x.shape),)
    check([(Case(op, op, ReduceAttrs(axes, False), kinds), [x]) for op in ("reduce_max", "reduce_min")])
