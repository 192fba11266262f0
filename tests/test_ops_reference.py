"""References against onnxruntime on the whole case table, and against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cases import CASES, CONV, CONV_TRANSPOSE, Case
from engines import run_onnxruntime

import convc.ops.conv
from convc.evaluate import evaluate, wide
from convc.ir import Attrs, opdef
from convc.ir.opdef import REGISTRY
from convc.ops.binary import ModAttrs
from convc.ops.conv import ConvAttrs
from convc.ops.norm import LrnAttrs
from convc.ops.parts import SliceAttrs
from convc.ops.pool import AveragePoolAttrs, MaxPoolAttrs
from convc.ops.resize import COORDINATES, ResizeAttrs, resize_matrix
from convc.ops.shape import DepthSpaceAttrs, PadAttrs
from convc.ops.unary import CastAttrs, ClipAttrs
from convc.types import Array

UNIT = 2.0**-24  # unit roundoff of float32
SUMS = {"conv", "conv_transpose", "gemm", "matmul", "average_pool", "reduce_sum", "reduce_mean", "reduce_l1"}


def test_every_operator_has_cases_and_every_case_its_own_name() -> None:
    assert {case.op for case in CASES} == set(REGISTRY)
    assert len({case.id for case in CASES}) == len(CASES)


def tolerance(case: Case, arrays: list[Array | None], expected: Array) -> Any:
    """Largest error that float32 arithmetic explains.

    Sums of n products: 6 sqrt(n) u sum(|a| |b|), exceeded with probability 2 exp(-6^2 / 2) if roundings are
    random (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4). Resizing: positions in float32
    are off by u times the extent, and weights change by at most 2 for each step. Else a few roundings.
    """
    if case.op in SUMS:
        sizes = [a.size for a in arrays if a is not None]
        per_output = {
            "conv": lambda: sizes[1] // expected.shape[1],
            "conv_transpose": lambda: sizes[1] // expected.shape[1],
            "average_pool": lambda: math.prod(getattr(case.attrs, "kernel", ())),
        }.get(case.op, lambda: max(sizes[0], sizes[-1]))
        (magnitude,) = opdef(case.op).reference(case.attrs, [None if a is None else abs(a) for a in arrays])
        return 6 * math.sqrt(per_output() + 2) * UNIT * magnitude
    largest = np.abs(expected).max(initial=0)
    if case.op == "resize":
        return 2 * max(expected.shape) * expected.ndim * UNIT * np.abs(arrays[0]).max()
    return 16 * UNIT * largest


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_agrees_with_onnxruntime(case: Case) -> None:
    graph, feeds = case.graph(), case.feeds()
    arrays = [None if a is None else wide(a) for a in case.arrays()]
    expected = opdef(case.op).reference(case.attrs, arrays)
    found = run_onnxruntime(graph, feeds)
    assert len(found) == len(expected) == len(graph.outputs)
    for theirs, ours, value in zip(found, expected, graph.outputs, strict=True):
        assert theirs.shape == ours.shape == value.type.shape
        assert str(theirs.dtype) == value.type.dtype
        assert str(ours.dtype) == ("float64" if value.type.is_float else value.type.dtype)
        if value.type.is_float:
            allowed = tolerance(case, arrays, ours)
            assert np.max(allowed, initial=0) <= 1e-3 * np.abs(ours).max(initial=1e-6)  # or it proves nothing
            assert (np.abs(theirs - ours) <= allowed).all()
        else:
            np.testing.assert_array_equal(theirs, ours)


def reference(op: str, attrs: Attrs, *inputs: Any) -> Array:
    """The only output of an operator on arrays or nested lists."""
    (result,) = opdef(op).reference(attrs, [wide(np.asarray(i)) for i in inputs])
    return result


def test_convolution_of_a_ramp_by_hand() -> None:
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    w = np.array([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 1, 2, 2)
    y = reference("conv", ConvAttrs((1, 1), (1, 1), ((0, 0), (0, 0))), x, w, [100.0])
    np.testing.assert_array_equal(y[0, 0], [[119, 125], [137, 143]])


def test_dilated_padded_1d_convolution_by_hand() -> None:
    attrs = ConvAttrs((2,), (2,), ((1, 2),))
    y = reference("conv", attrs, [[[1.0, 2, 3, 4, 5]]], [[[1.0, 10, 100]]])
    np.testing.assert_array_equal(y, [[[420, 42]]])  # 0 + 20 + 400; 2 + 40 + 0


@pytest.mark.parametrize("case", CONV, ids=str)
def test_convolution_in_pieces_equals_the_whole(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(case.graph(), case.feeds())
    monkeypatch.setattr(convc.ops.conv, "PATCH_ELEMENTS", 1)
    for a, b in zip(whole, evaluate(case.graph(), case.feeds()), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("case", CONV_TRANSPOSE, ids=str)
def test_transposed_convolution_is_the_adjoint(case: Case) -> None:
    x, w = (wide(a) for a in case.arrays()[:2] if a is not None)
    y = reference("conv_transpose", case.attrs, x, w)
    a = case.attrs
    assert isinstance(a, ConvAttrs)
    probe = np.random.default_rng(1).normal(size=y.shape)
    image = reference("conv", ConvAttrs(a.strides, a.dilations, a.pads, a.groups), probe, w)
    assert np.vdot(image, x) == pytest.approx(np.vdot(probe, y), rel=1e-10, abs=1e-10)


def test_average_pool_counts_by_hand() -> None:
    x = [[[1.0, 2, 3, 4]]]
    window = ((3,), (2,), (1,), ((1, 1),))
    np.testing.assert_allclose(reference("average_pool", AveragePoolAttrs(*window), x), [[[1.5, 3]]])
    counted = AveragePoolAttrs(*window, count_include_pad=True)
    np.testing.assert_allclose(reference("average_pool", counted, x), [[[1, 3]]])
    partial = AveragePoolAttrs(
        *window, ceil_mode=True, count_include_pad=True
    )  # [4, padding] beyond which nothing
    np.testing.assert_allclose(reference("average_pool", partial, x), [[[1, 3, 2]]])


def test_ceil_mode_drops_a_window_that_starts_in_padding() -> None:
    attrs = MaxPoolAttrs((2,), (3,), (1,), ((1, 1),), ceil_mode=True)
    np.testing.assert_array_equal(reference("max_pool", attrs, [[[1.0, 2, 3, 4]]]), [[[1, 4]]])


def test_max_pool_padding_never_wins() -> None:
    attrs = MaxPoolAttrs((3,), (1,), (1,), ((1, 1),))
    np.testing.assert_array_equal(reference("max_pool", attrs, [[[-5.0, -7]]]), [[[-5, -5]]])
    np.testing.assert_array_equal(reference("max_pool", attrs, np.array([[[-5, -7]]], "int8")), [[[-5, -5]]])


def test_lrn_of_even_size_looks_further_ahead_than_back() -> None:
    x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
    y = reference("lrn", LrnAttrs(2, alpha=2.0, beta=1.0, bias=0.0), x)
    np.testing.assert_allclose(y.ravel(), [1 / 5, 2 / 13, 3 / 25, 4 / 16])  # ONNX: none before, one after


def test_integer_division_and_remainders() -> None:
    a, b = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    np.testing.assert_array_equal(reference("div", Attrs(), a, b), [3, -3, -3, 3])
    np.testing.assert_array_equal(reference("mod", ModAttrs(), a, b), [1, 1, -1, -1])
    np.testing.assert_array_equal(reference("mod", ModAttrs(fmod=True), a, b), [1, -1, 1, -1])


def test_rounding_casting_and_clipping() -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(reference("round", Attrs(), halves), [-2, -2, 0, 0, 2, 2])
    np.testing.assert_array_equal(reference("cast", CastAttrs("int32"), halves), [-2, -1, 0, 0, 1, 2])
    np.testing.assert_array_equal(reference("cast", CastAttrs("float16"), [1 + 2.0**-12]), [1])
    np.testing.assert_array_equal(
        reference("clip", ClipAttrs(5.0, -5.0), halves), [-5.0] * 6
    )  # the maximum wins
    np.testing.assert_array_equal(reference("clip", ClipAttrs(1.5), np.array([0, 1, 2], "uint8")), [2, 2, 2])


def test_functions_do_not_overflow() -> None:
    far = np.array([-1000.0, 1000.0])
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(reference("sigmoid", Attrs(), far), [0, 1])
        np.testing.assert_array_equal(reference("softplus", Attrs(), far), [0, 1000])
        np.testing.assert_array_equal(reference("softmax", opdef("softmax").attrs(), far), [0, 1])
        np.testing.assert_array_equal(reference("mish", Attrs(), far), [0, 1000])


def test_padding_by_hand() -> None:
    x = [1.0, 2, 3]
    for mode, expected in (
        ("reflect", [3, 2, 1, 2, 3, 2, 1]),
        ("edge", [1, 1, 1, 2, 3, 3, 3]),
        ("wrap", [2, 3, 1, 2, 3, 1, 2]),
        ("constant", [9, 9, 1, 2, 3, 9, 9]),
    ):
        np.testing.assert_array_equal(reference("pad", PadAttrs(((2, 2),), mode, 9.0), x), expected)
    np.testing.assert_array_equal(reference("pad", PadAttrs(((-1, 1),), "reflect"), x), [2, 3, 2])


def test_slices_through_index_zero() -> None:
    x = np.arange(5.0)
    np.testing.assert_array_equal(reference("slice", SliceAttrs((4,), (-1,), (-2,)), x), [4, 2, 0])
    np.testing.assert_array_equal(reference("slice", SliceAttrs((4,), (0,), (-1,)), x), [4, 3, 2, 1])


def test_depth_to_space_orders() -> None:
    x = np.arange(8.0).reshape(1, 8, 1, 1)
    dcr = reference("depth_to_space", DepthSpaceAttrs(2, "DCR"), x)
    crd = reference("depth_to_space", DepthSpaceAttrs(2, "CRD"), x)
    np.testing.assert_array_equal(dcr[0], [[[0, 2], [4, 6]], [[1, 3], [5, 7]]])
    np.testing.assert_array_equal(crd[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_space_to_depth_inverts_depth_to_space(mode: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 18, 2, 3))
    there = reference("depth_to_space", DepthSpaceAttrs(3, mode), x)
    np.testing.assert_array_equal(reference("space_to_depth", DepthSpaceAttrs(3, mode), there), x)


def test_linear_upsampling_by_hand() -> None:
    y = reference("resize", ResizeAttrs((4,), (2.0,), "linear"), [1.0, 2])
    np.testing.assert_allclose(y, [1, 1.25, 1.75, 2])


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("size", "out"), [(1, 5), (7, 1), (7, 3), (3, 7), (4, 4)])
def test_resizing_keeps_constants(mode: str, coordinates: str, size: int, out: int) -> None:
    for flag in (False, True):
        attrs = ResizeAttrs((out,), (out / size,), mode, coordinates, exclude_outside=flag, antialias=flag)
        np.testing.assert_allclose(resize_matrix(attrs, 0, size).sum(1), 1)
